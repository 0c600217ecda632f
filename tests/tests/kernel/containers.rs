//! A container as a user starts one, by Podman and runc. Guests have neither.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tests::event::Event;
use tests::expectations::{only, port};
use tests::suite::Fact;
use tests::workload::{self, FLAG, Workload};
use tests::{environment, facts, wait};

use crate::{common, tree};

pub(crate) fn facts() -> Vec<Fact> {
    if environment::in_vm() {
        return Vec::new();
    }
    facts![
        a_container_is_told_from_its_first_program_to_its_last,
        users_of_a_container_have_the_names_that_it_gives_them,
    ]
}

/// Runs this binary in a container on the host's network, with the host's libraries.
fn podman(directory: &Path, arguments: &[&str]) -> Command {
    let root = directory.join("rootfs");
    let mut command = Command::new("podman");
    command.arg("--root").arg(directory.join("storage"));
    command.arg("--runroot").arg(directory.join("run"));
    command.args(["--storage-driver", "vfs", "--runtime", "runc"]);
    command.args([
        "--cgroup-manager",
        "cgroupfs",
        "run",
        "--rm",
        "--interactive",
        "--network",
        "host",
    ]);
    // Lower limits than one's own need no privilege.
    command.args([
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1000:1000",
    ]);
    command.arg("--cidfile").arg(directory.join("id"));
    for name in ["usr", "bin", "lib", "lib64"] {
        let there = Path::new("/").join(name);
        let here = root.join(name);
        match fs::read_link(&there) {
            Ok(target) => symlink(target, &here).expect("the directory is writable"),
            Err(_) => {
                fs::create_dir_all(&here).expect("the directory is writable");
                command.arg(format!("--volume=/{name}:/{name}:ro"));
            }
        }
    }
    let binary = workload::binary();
    command.arg(format!("--volume={}:/workload:ro", binary.display()));
    command.arg("--rootfs").arg(root).args(["/workload", FLAG]);
    command.args(arguments);
    command
}

/// A directory for a container, with a root directory.
fn container_directory() -> tempfile::TempDir {
    let search = env::var_os("PATH").unwrap_or_default();
    let has = |name| env::split_paths(&search).any(|path| path.join(name).is_file());
    assert!(
        has("podman") && has("runc"),
        "`cargo xtask setup --tests` installs them"
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("rootfs")).expect("it is empty");
    directory
}

fn users_of_a_container_have_the_names_that_it_gives_them() {
    let directory = container_directory();
    let etc = directory.path().join("rootfs/etc");
    fs::create_dir(&etc).expect("it is new");
    let root = "within:x:0:0::/:/bin/sh\n";
    fs::write(etc.join("passwd"), root).expect("the directory is writable");
    let (mut container, events) = common::observe(|| {
        let mut container = Workload::spawn(&mut podman(directory.path(), &["wait"]));
        container.fact();
        container
    });
    let is_of_container =
        |event: &&Event| event.get("/process/executable") == Some(&"/workload".into());
    let exec = events
        .iter()
        .find(is_of_container)
        .expect("its exec was seen");
    let pid = exec.pid().expect("its process is known");
    // The daemon knows no names of there before it has examined what runs there.
    let told = wait::until("a name of the user", || {
        Some(tree::of(pid)).filter(|told| told.get("/process/user/name").is_some())
    });
    told.expect("/process/user/id", "0");
    told.expect("/process/user/name", "within");
    let ((), events) = common::observe(|| {
        container.go();
        container.finish();
    });
    only(&events, "process_exit", pid).expect("/process/user/name", "within");
}

fn a_container_is_told_from_its_first_program_to_its_last() {
    let directory = container_directory();
    let (port, events) = common::observe(|| {
        let mut podman = podman(directory.path(), &["refused", "1", "127.0.0.1:0"]);
        let mut container = Workload::spawn(&mut podman);
        let port = port(&container.fact());
        container.finish();
        port
    });
    let id = fs::read_to_string(directory.path().join("id")).expect("Podman wrote it");
    let failed = events
        .iter()
        .find(|event| event.action() == "connection_failed" && event.destination_port() == port)
        .expect("its connection was seen");
    let pid = failed.pid().expect("its process is known");
    let [exec, exit] = ["process_exec", "process_exit"].map(|action| only(&events, action, pid));
    for event in [exec, failed, exit] {
        event.expect("/container/id", id.as_str());
        event.expect("/container/runtime", "podman");
        event.expect("/process/namespace_pid", 1);
        event.expect("/process/executable", "/workload");
        event.expect_absent("/process/user/name");
    }
    let monitor = events
        .iter()
        .find(|event| event.get("/process/name") == Some(&"conmon".into()))
        .expect("Podman has a monitor for each container");
    monitor.expect_absent("/container");
}
