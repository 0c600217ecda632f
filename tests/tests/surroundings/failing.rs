//! What every failure has in common: a command in, a judgement of how it failed out.

use std::process::{Command, Stdio};

use tests::bpf::{Objects, wait_until_gone};
use tests::command::{self, Finished};
use tests::daemon::says_ready;
use tests::environment;
use tests::loopback::free_address;

/// `tracer` with arguments, and with what makes a careless program print a stack trace.
pub(crate) fn tracer(arguments: &[&str]) -> Command {
    let mut command = Command::new(environment::tracer_bin());
    command.env("RUST_BACKTRACE", "1").args(arguments);
    command
}

/// The arguments of a `tracer run` that prints JSON, keeps nothing, and serves metrics where nobody else does.
pub(crate) fn run_arguments() -> [String; 7] {
    let metrics = free_address().to_string();
    let (kept, served) = (["--history", "off"], ["--metrics-listen", &metrics]);
    ["run", "-o", "json", kept[0], kept[1], served[0], served[1]].map(str::to_owned)
}

/// `tracer run` with further arguments.
pub(crate) fn run(arguments: &[&str]) -> Command {
    let mut command = tracer(&[]);
    command.args(run_arguments()).args(arguments);
    command
}

/// Runs a command that must fail with a status, without having begun and without leaving anything
/// attached, and say each of `words` on stderr.
#[track_caller]
pub(crate) fn expect_failure(command: &mut Command, status: i32, words: &[&str]) -> Finished {
    let finished = expect_end(command.stdout(Stdio::piped()), status);
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no {word:?} in {finished:#?}"
        );
    }
    assert_eq!(finished.stdout, "", "events from a tracer that failed");
    assert!(!says_ready(&finished.stderr), "{finished:#?}");
    finished
}

/// Runs a command that must end with a status, in words for users, and leave nothing attached.
#[track_caller]
pub(crate) fn expect_end(command: &mut Command, status: i32) -> Finished {
    let before = Objects::loaded();
    let finished = command::run(command);
    assert_eq!(finished.code, Some(status), "{finished:#?}");
    expect_words_for_users(&finished.stderr);
    wait_until_gone(&Objects::loaded().without(&before));
    finished
}

/// Asserts that a message is none of a programmer's.
#[track_caller]
pub(crate) fn expect_words_for_users(stderr: &str) {
    for trace in [
        "panicked",
        "backtrace",
        "unwrap()",
        ".rs:",
        "BpfError",
        "Os {",
    ] {
        assert!(!stderr.contains(trace), "{trace:?} in {stderr}");
    }
}
