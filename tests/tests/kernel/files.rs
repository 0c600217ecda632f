//! What an executed file is: its hash and its package. Guests have no package database.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tests::command::Owned;
use tests::event::Event;
use tests::expectations::only;
use tests::suite::Fact;
use tests::{environment, facts, loopback, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    if environment::in_vm() {
        return Vec::new();
    }
    facts![
        a_packaged_program_tells_its_package_and_is_intact,
        a_copy_of_it_has_the_same_hash_and_no_package,
        a_changed_copy_has_another_hash,
        a_deleted_program_has_its_hash,
        a_program_in_memory_has_its_hash,
        a_program_that_ends_at_once_has_its_hash_when_it_is_run_again,
        a_file_that_is_swapped_after_the_exec_never_lends_its_hash,
    ]
}

/// Connects to each port that it reads.
const SCRIPT: &str = "while read port; do exec 3<>/dev/tcp/127.0.0.1/$port 3>&-; done";

const SHELL: &str = "/bin/bash";

/// Starts a bash that `program` is, and lets it connect until a connection tells its hash.
fn connection_with_hash(program: impl Into<OsString>) -> Event {
    let mut command = Command::new(program.into());
    let command = command.arg0("bash").args(["-c", SCRIPT]);
    let mut shell = Owned::spawn(command.stdin(Stdio::piped()));
    let pid = shell.id();
    let mut ports = shell.stdin.take().expect("stdin is a pipe");
    wait::until("a hash", || {
        let (listener, address) = loopback::listener();
        let port = address.port();
        let ((), events) = common::observe(|| {
            writeln!(ports, "{port}").expect("the shell reads");
            drop(listener.accept().expect("it listens"));
        });
        let opened = events
            .into_iter()
            .find(|event| event.is("connection_opened", pid) && event.destination_port() == port);
        let opened = opened.expect("its connection was seen");
        opened.get("/process/hash").is_some().then_some(opened)
    })
}

/// The SHA-256 of a file, by another program.
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output();
    let text = String::from_utf8(output.expect("coreutils are there").stdout).expect("UTF-8");
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn copy_of_shell(directory: &Path) -> PathBuf {
    let path = directory.join("shell");
    fs::copy(SHELL, &path).expect("the directory is writable");
    path
}

/// How to execute what a descriptor refers to.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// What is remarkable about the file itself. How it is called disagrees with its name, on purpose.
fn flags(event: &Event) -> Vec<&str> {
    let about_file = ["memfd", "deleted", "unpackaged", "altered"];
    let mut flags = event.words("/tracer/flags");
    flags.retain(|flag| about_file.contains(flag));
    flags
}

fn a_packaged_program_tells_its_package_and_is_intact() {
    let query = |format: &str| {
        let format = format!("--showformat={format}");
        let output = Command::new("dpkg-query")
            .args(["-W", &format, "bash"])
            .output();
        String::from_utf8(output.expect("this is Debian or its kin").stdout).expect("UTF-8")
    };
    let opened = connection_with_hash(SHELL);
    opened.expect("/process/hash/sha256", sha256(Path::new(SHELL)));
    opened.expect("/package/type", "deb");
    opened.expect("/package/name", "bash");
    opened.expect("/package/version", query("${Version}"));
    opened.expect("/package/architecture", query("${Architecture}"));
    for field in ["hash", "build_id", "package"] {
        opened.expect(&format!("/tracer/provenance/{field}"), "procfs");
    }
    let notes = Command::new("file").args(["-L", SHELL]).output();
    if let Ok(notes) = notes {
        let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
        let build_id = opened.text("/tracer/build_id");
        assert!(
            notes.contains(&format!("BuildID[sha1]={build_id}")),
            "{notes}"
        );
    }
    assert!(flags(&opened).is_empty(), "{opened}");
}

fn a_copy_of_it_has_the_same_hash_and_no_package() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copy = copy_of_shell(directory.path());
    let opened = connection_with_hash(&copy);
    opened.expect("/process/hash/sha256", sha256(Path::new(SHELL)));
    opened.expect_absent("/package");
    assert_eq!(flags(&opened), ["unpackaged"], "{opened}");
}

fn a_changed_copy_has_another_hash() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copy = copy_of_shell(directory.path());
    let file = File::options().append(true).open(&copy);
    file.and_then(|mut file| file.write_all(b"more"))
        .expect("the file is ours");
    let opened = connection_with_hash(&copy);
    opened.expect("/process/hash/sha256", sha256(&copy));
    assert_ne!(
        opened.text("/process/hash/sha256"),
        sha256(Path::new(SHELL))
    );
}

fn a_deleted_program_has_its_hash() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = copy_of_shell(directory.path());
    let file = File::open(&path).expect("it was just copied");
    fs::remove_file(&path).expect("the directory is writable");
    let opened = connection_with_hash(by_descriptor(&file));
    opened.expect("/process/hash/sha256", sha256(Path::new(SHELL)));
    opened.expect_absent("/package");
    assert_eq!(flags(&opened), ["deleted"], "{opened}");
}

fn a_program_in_memory_has_its_hash() {
    let mut file =
        File::from(memfd_create("payload", MemfdFlags::CLOEXEC).expect("the kernel has memfd"));
    file.write_all(&fs::read(SHELL).expect("there is a shell"))
        .expect("memory can be written");
    let opened = connection_with_hash(by_descriptor(&file));
    opened.expect("/process/hash/sha256", sha256(Path::new(SHELL)));
    opened.expect_absent("/package");
    assert_eq!(flags(&opened), ["memfd"], "{opened}");
}

fn a_program_that_ends_at_once_has_its_hash_when_it_is_run_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("program");
    fs::copy("/bin/true", &path).expect("the directory is writable");
    // Of what is executed twice within a tick of its change nothing is told.
    wait::until("the change to be past", || {
        let changed = fs::metadata(&path).and_then(|file| file.modified());
        let age = changed.expect("it is there").elapsed().ok()?;
        (age > Duration::from_millis(50)).then_some(())
    });
    let exec = wait::until("a hash", || {
        let (pid, events) = common::observe(|| {
            let mut child = Command::new(&path).spawn().expect("it can be executed");
            child.wait().expect("a child can be waited for");
            child.id()
        });
        let exec = only(&events, "process_exec", pid).clone();
        exec.get("/process/hash").is_some().then_some(exec)
    });
    exec.expect("/process/hash/sha256", sha256(&path));
    assert_eq!(flags(&exec), ["unpackaged"], "{exec}");
}

/// Two programs of one size take turns in one file, as fast as can be.
fn a_file_that_is_swapped_after_the_exec_never_lends_its_hash() {
    const ROUNDS: usize = 50;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("program");
    let program = fs::read("/bin/true").expect("coreutils are there");
    let contents = [b'a', b'b'].map(|last| [&program[..], &[last]].concat());
    let hashes = contents.each_ref().map(|content| {
        fs::write(&path, content).expect("the directory is writable");
        sha256(&path)
    });
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let (hash_of, events) = common::observe(|| {
        let rounds = (0..ROUNDS).map(|round| {
            fs::write(&path, &contents[round % 2]).expect("nobody runs it");
            let mut child = Command::new(&path).spawn().expect("it can be executed");
            child.wait().expect("a child can be waited for");
            (child.id(), &hashes[round % 2])
        });
        rounds.collect::<HashMap<_, _>>()
    });
    let path = path.to_str().expect("UTF-8");
    let is_of_program = |event: &&Event| event.get("/process/executable") == Some(&path.into());
    let mut count = 0;
    for event in events.iter().filter(is_of_program) {
        let pid = event.pid().expect("it is about a process");
        if let Some(told) = event.get("/process/hash/sha256") {
            assert_eq!(told, hash_of[&pid].as_str(), "{event}");
        }
        count += 1;
    }
    assert_eq!(count, 2 * ROUNDS, "each begins and ends");
}
