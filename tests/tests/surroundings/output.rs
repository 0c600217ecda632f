//! Sinks that do not take what the tracer has for them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tests::bpf::{Objects, wait_until_gone};
use tests::command::ends_within;
use tests::lines::Lines;
use tests::suite::Fact;
use tests::tracer::says_ready;
use tests::{facts, wait};

use crate::failing::{expect_end, expect_failure, expect_words_for_users, run, tracer};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_metrics_port_that_is_taken_is_named,
        a_reader_that_goes_away_ends_the_run_quietly,
        a_reader_that_goes_away_ends_what_prints_at_once_quietly,
        a_full_output_ends_the_run,
        an_output_for_reading_only_ends_the_run,
    ]
}

fn a_metrics_port_that_is_taken_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    let address = taken
        .local_addr()
        .expect("a bound socket has an address")
        .to_string();
    expect_failure(
        &mut tracer(&["run", "--metrics-listen", &address]),
        1,
        &[&address],
    );
}

/// Makes the tracer write something, whoever else may do so.
fn make_an_event() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    let address: SocketAddr = listener
        .local_addr()
        .expect("a bound socket has an address");
    TcpStream::connect(address).expect("it listens");
}

fn a_reader_that_goes_away_ends_the_run_quietly() {
    let before = Objects::loaded();
    let mut child = run(&[])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tracer starts");
    let mut stderr = Lines::drain(child.stderr.take().expect("a pipe"));
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    assert!(
        stderr.wait_past(0, wait::DEADLINE),
        "the tracer says nothing"
    );
    make_an_event();
    stdout
        .read_line(&mut String::new())
        .expect("an event is a line");
    drop(stdout);
    let ended = wait::within(wait::DEADLINE, || {
        make_an_event();
        child.try_wait().expect("an own child")
    });
    if ended.is_none() {
        child.kill().expect("an own child can be killed");
        child.wait().expect("an own child");
    }
    stderr.finish();
    assert_eq!(
        ended.and_then(|status| status.code()),
        Some(0),
        "{}",
        stderr.text()
    );
    let quiet = stderr.text().lines().all(says_ready);
    assert!(quiet, "{}", stderr.text());
    wait_until_gone(&Objects::loaded().without(&before));
}

fn a_reader_that_goes_away_ends_what_prints_at_once_quietly() {
    let mut child = tracer(&["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tracer starts");
    drop(child.stdout.take());
    assert!(ends_within(&child, wait::DEADLINE));
    let output = child.wait_with_output().expect("an own child");
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}

fn a_full_output_ends_the_run() {
    let full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("every Linux has it");
    expect_output_error(full);
}

fn an_output_for_reading_only_ends_the_run() {
    expect_output_error(File::open("/").expect("a directory can be opened for reading"));
}

/// Between two events that are made for a tracer that may not have begun yet.
const PAUSE: Duration = Duration::from_millis(50);

/// Asserts that the tracer fails in order when it cannot write to `output`.
#[track_caller]
fn expect_output_error(output: File) {
    let (done, stop) = channel::<()>();
    let traffic = std::thread::spawn(move || {
        while stop.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            make_an_event();
        }
    });
    let finished = expect_end(run(&[]).stdout(output), 1);
    drop(done);
    traffic.join().expect("loopback works");
    assert!(finished.stderr.contains("stdout"), "{finished:#?}");
    expect_words_for_users(&finished.stderr);
}
