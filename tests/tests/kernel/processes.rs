//! Processes that begin, become other programs and end.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use tests::event::Event;
use tests::expectations::only;
use tests::facts;
use tests::procfs::real_path;
use tests::suite::Fact;
use tests::workload::{self, Workload};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        exec_tells_arguments_directory_and_file,
        arguments_that_are_not_text_are_escaped_and_nothing_of_them_is_lost,
        many_arguments_are_told_whole,
        a_script_shows_its_interpreter,
        a_program_in_memory_shows_its_name,
        a_deleted_program_shows_where_it_was,
        exit_tells_the_exit_code,
        exit_tells_the_signal,
    ]
}

/// Runs a command to its end, whatever that is; its PID and all events.
fn run(command: &mut Command) -> (u32, Vec<Event>) {
    common::observe(|| {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        child.wait().expect("a child can be waited for");
        child.id()
    })
}

fn exit_with(arguments: &[&str]) -> Command {
    workload::command("exit", &[&["0"], arguments].concat())
}

fn exec_tells_arguments_directory_and_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (pid, events) =
        run(exit_with(&["", "two words", "back\\slash"]).current_dir(directory.path()));
    let exec = only(&events, "process_exec", pid);
    let binary = workload::binary();
    let binary = binary.to_str().expect("a path of this workspace is UTF-8");
    exec.expect(
        "/process/args",
        vec![
            binary,
            "--workload",
            "exit",
            "0",
            "",
            "two words",
            "back\\slash",
        ],
    );
    exec.expect("/process/executable", binary);
    exec.expect(
        "/process/working_directory",
        directory.path().to_str().expect("UTF-8"),
    );
    exec.expect("/process/parent/pid", std::process::id());
    exec.expect_absent("/tracer/escaped");
}

fn arguments_that_are_not_text_are_escaped_and_nothing_of_them_is_lost() {
    let arguments: [&[u8]; 5] = [
        b"a\nb",
        b"\x1b[31mred",
        b"caf\xc3\xa9",
        b"\xff\xfe",
        b"\xc2\x9b1m\x7f",
    ];
    let (pid, events) = run(exit_with(&[]).args(arguments.map(OsStr::from_bytes)));
    let exec = only(&events, "process_exec", pid);
    let shown = &exec.words("/process/args")[4..];
    assert_eq!(
        shown,
        ["a\nb", "\x1b[31mred", "café", "\\xff\\xfe", "\u{9b}1m\x7f"],
        "in {exec}"
    );
    let escaped = exec.words("/tracer/escaped");
    assert!(
        escaped
            .iter()
            .any(|field| field.starts_with("process.args")),
        "{escaped:?} in {exec}"
    );
}

fn many_arguments_are_told_whole() {
    let arguments: Vec<_> = (0..300)
        .map(|number| format!("argument-{number}"))
        .collect();
    let (pid, events) = run(exit_with(&[]).args(&arguments));
    let exec = only(&events, "process_exec", pid);
    assert_eq!(exec.words("/process/args")[4..], arguments, "in {exec}");
}

fn a_script_shows_its_interpreter() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").expect("the directory is writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let script = script.to_str().expect("UTF-8");
    let (pid, events) = run(&mut Command::new(script));
    let exec = only(&events, "process_exec", pid);
    exec.expect(
        "/process/executable",
        real_path("/bin/sh").to_str().expect("UTF-8"),
    );
    exec.expect("/process/args", vec!["/bin/sh", script]);
    exec.expect("/process/name", "script");
}

/// Runs the shell that `file` holds a copy of, by its descriptor.
fn run_by_descriptor(file: &File) -> (u32, Vec<Event>) {
    let path = OsString::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    run(Command::new(path).arg0("sh").args(["-c", "exit 0"]))
}

fn a_program_in_memory_shows_its_name() {
    let mut file =
        File::from(memfd_create("payload", MemfdFlags::CLOEXEC).expect("the kernel has memfd"));
    file.write_all(&fs::read("/bin/sh").expect("there is a shell"))
        .expect("memory can be written");
    let (pid, events) = run_by_descriptor(&file);
    let exec = only(&events, "process_exec", pid);
    exec.expect("/process/executable", "memfd:payload");
    assert!(exec.words("/tracer/flags").contains(&"memfd"), "{exec}");
}

fn a_deleted_program_shows_where_it_was() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gone");
    fs::copy("/bin/sh", &path).expect("the directory is writable");
    let file = File::open(&path).expect("it was just copied");
    fs::remove_file(&path).expect("the directory is writable");
    let (pid, events) = run_by_descriptor(&file);
    let exec = only(&events, "process_exec", pid);
    exec.expect("/process/executable", path.to_str().expect("UTF-8"));
    assert!(exec.words("/tracer/flags").contains(&"deleted"), "{exec}");
}

fn exit_tells_the_exit_code() {
    let (pid, events) = run(&mut workload::command("exit", &["7"]));
    only(&events, "process_exit", pid).expect("/process/exit_code", 7);
}

fn exit_tells_the_signal() {
    let (pid, events) = common::observe(|| {
        let mut waiting = Workload::start("wait", &[]);
        waiting.fact();
        let pid = waiting.pid();
        waiting.kill();
        pid
    });
    let exit = only(&events, "process_exit", pid);
    exit.expect("/tracer/exit_signal", "SIGKILL");
    exit.expect_absent("/process/exit_code");
}
