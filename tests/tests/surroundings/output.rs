//! Sinks that do not take what the tracer has for them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tests::bpf::{Objects, wait_until_gone};
use tests::command::{Owned, ends_within};
use tests::daemon::says_ready;
use tests::facts;
use tests::lines::Lines;
use tests::loopback::{self, Traffic};
use tests::suite::Fact;
use tests::wait::DEADLINE;

use crate::failing::{expect_end, expect_failure, run, tracer};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_metrics_port_that_is_taken_is_named,
        a_reader_that_goes_away_ends_the_run_quietly,
        a_reader_that_goes_away_ends_what_prints_at_once_quietly,
        a_full_output_ends_the_run,
        an_output_for_reading_only_ends_the_run,
        a_full_output_file_ends_the_run_and_is_named,
        an_output_file_that_cannot_be_opened_is_named,
    ]
}

fn a_metrics_port_that_is_taken_is_named() {
    let (_taken, address) = loopback::listener();
    let address = address.to_string();
    expect_failure(
        &mut tracer(&["run", "--metrics-listen", &address]),
        1,
        &[&address],
    );
}

fn a_reader_that_goes_away_ends_the_run_quietly() {
    let before = Objects::loaded();
    let mut child = spawn(&mut run(&[]));
    let mut stderr = Lines::drain(child.stderr.take().expect("stderr is a pipe"));
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let traffic = Traffic::start();
    let length = stdout
        .read_line(&mut String::new())
        .expect("an event is a line");
    assert!(length > 0, "{}", stderr.text());
    drop(stdout);
    assert!(ends_within(&child, DEADLINE), "it goes on without a reader");
    drop(traffic);
    stderr.finish();
    assert_eq!(child.status().code(), Some(0), "{}", stderr.text());
    assert!(stderr.text().lines().all(says_ready), "{}", stderr.text());
    wait_until_gone(&Objects::loaded().without(&before));
}

fn a_reader_that_goes_away_ends_what_prints_at_once_quietly() {
    let mut child = spawn(&mut tracer(&["schema"]));
    let mut stderr = Lines::drain(child.stderr.take().expect("stderr is a pipe"));
    drop(child.stdout.take());
    assert!(ends_within(&child, DEADLINE), "it goes on without a reader");
    stderr.finish();
    assert_eq!(
        (child.status().code(), stderr.text().as_str()),
        (Some(0), "")
    );
}

fn spawn(command: &mut Command) -> Owned {
    Owned::spawn(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
}

/// What nobody can write to, though it can be opened for that.
const FULL: &str = "/dev/full";

fn a_full_output_ends_the_run() {
    let full = OpenOptions::new().write(true).open(FULL);
    let mut command = run(&[]);
    expect_output_error(command.stdout(full.expect("every Linux has it")), "stdout");
}

fn an_output_for_reading_only_ends_the_run() {
    let directory = File::open("/").expect("a directory can be opened for reading");
    expect_output_error(run(&[]).stdout(directory), "stdout");
}

fn a_full_output_file_ends_the_run_and_is_named() {
    expect_output_error(&mut run(&["--output-file", FULL]), FULL);
}

fn an_output_file_that_cannot_be_opened_is_named() {
    for path in ["/", "/nowhere/events"] {
        expect_failure(&mut run(&["--output-file", path]), 1, &[path]);
    }
}

/// Asserts that the tracer fails in order, naming its output, as soon as it has something to write.
#[track_caller]
fn expect_output_error(command: &mut Command, output: &str) {
    let _traffic = Traffic::start();
    let finished = expect_end(command, 1);
    assert!(finished.stderr.contains(output), "{finished:#?}");
}
