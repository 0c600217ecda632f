//! Names that anyone can choose: whatever bytes they have, they come back exactly, and a terminal never obeys them.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::cgroups::Cgroup;
use tests::command::{self, Finished};
use tests::escapes::{bytes, decode};
use tests::event::Event;
use tests::expectations::only;
use tests::suite::Fact;
use tests::workload::{self, FLAG, Workload};
use tests::{environment, facts};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        names_of_any_bytes_come_back_exactly,
        names_that_are_text_stand_as_they_are,
        a_long_path_is_told_whole,
        a_longer_path_is_told_whole_or_marked,
        a_terminal_gets_no_character_of_a_name_that_it_would_obey,
    ]
}

/// A newline, a carriage return, colours, OSC 52 (writes to the clipboard), bytes that are not UTF-8, what looks like
/// an escape, quotes, C1, marks that turn the direction of writing, DEL.
const HOSTILE: &[u8] =
    b"n\n\r\x1b[31m\x1b]52;c;QQ==\x07\xff\xfe\xc3(\\x41\\\\\"'\xc2\x9b2J\xe2\x80\xae\xe2\x81\xa6\x7f%s{}";

/// The same as valid UTF-8.
const TEXT: &[u8] =
    b"t\n\r\x1b[31m\x1b]52;c;QQ==\x07\xc3\xa9\\x41\\\\\"'\xc2\x9b2J\xe2\x80\xae\xe2\x81\xa6\x7f%s{}";

/// Where a program is, in which directory it starts, and in which cgroup it is, all named alike.
struct Stage {
    program: PathBuf,
    _directory: tempfile::TempDir,
    cgroup: Cgroup,
}

impl Stage {
    fn new(name: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name = OsStr::from_bytes(name);
        let inner = directory.path().join(name);
        fs::create_dir(&inner).expect("the directory is writable");
        // The kernel takes any byte but this one.
        let cgroup = name
            .as_bytes()
            .iter()
            .map(|&byte| if byte == b'\n' { b' ' } else { byte });
        let cgroup = Cgroup::make(OsStr::from_bytes(&cgroup.collect::<Vec<_>>()));
        let program = inner.join(name);
        put_program(&program);
        Stage {
            program,
            _directory: directory,
            cgroup,
        }
    }

    /// Runs it to its end; its one refused connection.
    fn run(&self, arguments: &[&[u8]]) -> Event {
        let (pid, events) = common::observe(|| {
            let mut command = Command::new(&self.program);
            command.args([FLAG, "refused-when-told", "1"]);
            command.args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes)));
            command.current_dir(self.program.parent().expect("it is in one"));
            let mut workload = Workload::spawn(&mut command);
            workload.fact();
            self.cgroup.attach(workload.pid());
            workload.go();
            workload.fact();
            let pid = workload.pid();
            workload.finish();
            pid
        });
        only(&events, "connection_failed", pid).clone()
    }
}

/// This program under another name.
fn put_program(path: &Path) {
    match fs::hard_link(workload::binary(), path) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(workload::binary(), path).expect("there is room");
        }
        result => result.expect("the directory is writable"),
    }
}

/// Runs a program of this name, and expects every byte of every name.
#[track_caller]
fn expect_bytes(name: &[u8]) -> Event {
    let stage = Stage::new(name);
    let arguments = [name, b"", &name[3..]];
    let event = stage.run(&arguments);
    let program = stage.program.as_os_str().as_bytes();
    // include/linux/sched.h: TASK_COMM_LEN, with a NUL.
    let comm = &name[..15];
    let directory = stage.program.parent().expect("it is in one");
    let workload = [program, FLAG.as_bytes(), b"refused-when-told", b"1"];
    let arguments = [&workload[..], &arguments].concat();
    for (field, expected) in [
        ("process.name", comm),
        ("process.executable", program),
        (
            "process.working_directory",
            directory.as_os_str().as_bytes(),
        ),
        ("process.command_line", &arguments.join(&b' ')),
    ] {
        let told = bytes(&event, field).concat();
        assert_eq!(told, expected, "{field} in {event}");
    }
    assert_eq!(bytes(&event, "process.args"), arguments, "in {event}");
    expect_entry(&event, comm, program);
    let cgroup = stage.cgroup.path().file_name().expect("it has a name");
    let told = bytes(&event, "tracer.cgroup").concat();
    assert!(told.ends_with(cgroup.as_bytes()), "in {event}");
    event
}

/// The process as it stands in its own lineage.
#[track_caller]
fn expect_entry(event: &Event, name: &[u8], executable: &[u8]) {
    let entry = &event.list("/tracer/lineage")[0];
    for (key, expected) in [("name", name), ("executable", executable)] {
        let text = entry[key].as_str().expect("it has one");
        let told = decode(event, &format!("tracer.lineage.{key}"), text);
        assert_eq!(told, expected, "{key} in {event}");
    }
    let line = bytes(event, "tracer.lineage_text").concat();
    assert!(line.starts_with(name), "in {event}");
}

fn names_of_any_bytes_come_back_exactly() {
    let event = expect_bytes(HOSTILE);
    let escaped = event.words("/tracer/escaped");
    assert!(escaped.contains(&"process.args"), "{escaped:?}");
    // The first 15 bytes are text.
    assert!(!escaped.contains(&"process.name"), "{escaped:?}");
    expect_bytes(b"\xff\xfe\x80\\ \xe2\x80\n\x1b]0;x\x07\xc2\x9b");
}

fn names_that_are_text_stand_as_they_are() {
    // Cut after 15 bytes, the name is text, too.
    expect_bytes(TEXT).expect_absent("/tracer/escaped");
}

/// Makes directories, of which each but the first few have a name of so many bytes, until a program in them has a path of
/// `length`, and runs that; the process and its path.
fn run_deep(component: usize, length: usize) -> (Event, Vec<u8>) {
    let root = tempfile::tempdir().expect("a temporary directory");
    // The kernel takes no path of that length at once, if it is to be made.
    let mut path = root.path().to_owned().into_os_string().into_vec();
    while path.len() + 1 < length {
        let rest = length - path.len() - 1;
        // Nothing is left that would be too short for a slash and a name.
        let next = if rest <= component {
            rest
        } else {
            component.min(rest - 2)
        };
        path.push(b'/');
        path.extend(std::iter::repeat_n(b'd', next));
        let is_last = path.len() == length;
        if !is_last {
            fs::create_dir(OsStr::from_bytes(&path)).expect("the directory is writable");
        }
    }
    let file = Path::new(OsStr::from_bytes(&path));
    put_program(file);
    let (pid, events) = common::observe(|| {
        let mut command = Command::new(file);
        command.arg0("deep").args([FLAG, "exit", "0"]);
        let mut child = command.spawn().expect("it starts");
        assert!(child.wait().expect("an own child").success());
        child.id()
    });
    (only(&events, "process_exec", pid).clone(), path)
}

fn a_long_path_is_told_whole() {
    let (exec, path) = run_deep(250, 3800);
    expect_path(&exec, &path);
    assert!(!is_truncated(&exec), "{exec}");
}

fn a_longer_path_is_told_whole_or_marked() {
    // include/uapi/linux/limits.h: PATH_MAX, with a NUL.
    for (component, length) in [(250, 4095), (10, 4000)] {
        let (exec, path) = run_deep(component, length);
        if is_truncated(&exec) {
            let told = bytes(&exec, "process.executable").concat();
            assert!(told.len() > 500 && !told.starts_with(b"/"), "{exec}");
            expect_path(&exec, &path[path.len() - told.len()..]);
        } else {
            expect_path(&exec, &path);
        }
    }
}

#[track_caller]
fn expect_path(exec: &Event, path: &[u8]) {
    let told = bytes(exec, "process.executable").concat();
    assert!(told == path, "not {} in {exec}", path.escape_ascii());
}

fn is_truncated(event: &Event) -> bool {
    event
        .words("/tracer/flags")
        .contains(&"executable_truncated")
}

fn a_terminal_gets_no_character_of_a_name_that_it_would_obey() {
    let stage = Stage::new(HOSTILE);
    let shown = trace(&stage);
    assert_eq!(shown.code, Some(0), "{shown:#?}");
    assert!(shown.stdout.contains(r"\u{1b}]52;c;"), "{shown:#?}");
    for text in [&shown.stdout, &shown.stderr] {
        let obeyed = text.chars().find(|&character| is_obeyed(character));
        assert_eq!(obeyed, None, "{shown:#?}");
    }
}

/// What a tracer shows of a program with hostile arguments, in the format that shows most.
fn trace(stage: &Stage) -> Finished {
    let mut command = Command::new(environment::tracer_bin());
    let mode = environment::hook_mode().as_str();
    command.args(["trace", "-o", "wide", "--hook-mode", mode, "--"]);
    command.arg(&stage.program);
    command.args([FLAG, "refused", "1", "127.0.0.1:0"]);
    command.arg(OsStr::from_bytes(HOSTILE));
    command.current_dir(stage.program.parent().expect("it is in one"));
    command::run(command.stdout(Stdio::piped()))
}

/// Controls, and marks that turn the direction of writing.
fn is_obeyed(character: char) -> bool {
    let turns = matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (character.is_control() && character != '\n')
}
