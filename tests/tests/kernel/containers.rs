//! A container as a user starts one, by Podman and runc. Guests have neither.

use std::fs;

use tests::containers::Podman;
use tests::event::Event;
use tests::expectations::{only, port};
use tests::suite::Fact;
use tests::workload::Workload;
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

fn users_of_a_container_have_the_names_that_it_gives_them() {
    let podman = Podman::new();
    let etc = podman.path().join("rootfs/etc");
    fs::create_dir_all(&etc).expect("it is new");
    let root = "within:x:0:0::/:/bin/sh\n";
    fs::write(etc.join("passwd"), root).expect("the directory is writable");
    let (mut container, events) = common::observe(|| {
        let mut container = Workload::spawn(&mut podman.workload(&["wait"]));
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
    let podman = Podman::new();
    let (port, events) = common::observe(|| {
        let mut refused = podman.workload(&["refused", "1", "127.0.0.1:0"]);
        let mut container = Workload::spawn(&mut refused);
        let port = port(&container.fact());
        container.finish();
        port
    });
    let id = podman.workload_id();
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
