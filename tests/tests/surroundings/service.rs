//! What runs the tracer for good: a service manager that waits for its messages, and what rotates its file.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::command;
use tests::daemon::Tracer;
use tests::facts;
use tests::loopback::Traffic;
use tests::suite::Fact;
use tests::wait::{self, DEADLINE};

use crate::failing::run;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_service_manager_is_told_that_it_is_ready_alive_and_ending,
        a_service_manager_that_is_gone_does_not_end_it,
        nothing_is_lost_when_logrotate_rotates_its_file,
    ]
}

/// After which time without a sign of life the daemon is to be taken for dead.
const WATCHDOG: Duration = Duration::from_secs(4);

fn a_service_manager_is_told_that_it_is_ready_alive_and_ending() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("the directory is ours");
    manager
        .set_read_timeout(Some(DEADLINE))
        .expect("the time is not zero");
    let mut tracer = Tracer::spawn(
        run(&[])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
    );
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    assert_eq!(message(&manager), "READY=1\n");
    let mut last = Instant::now();
    for _ in 0..2 {
        assert_eq!(message(&manager), "WATCHDOG=1\n");
        assert!(last.elapsed() < WATCHDOG, "{:?}", last.elapsed());
        last = Instant::now();
    }
    tracer.stop(Signal::TERM);
    assert_eq!(message(&manager), "STOPPING=1\n");
}

fn message(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).expect("a message comes");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn a_service_manager_that_is_gone_does_not_end_it() {
    let mut tracer = Tracer::spawn(run(&[]).env("NOTIFY_SOCKET", "/nowhere/notify"));
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    let ended = tracer.stop(Signal::TERM);
    assert!(
        ended.stderr.contains("cannot reach the service manager"),
        "{}",
        ended.stderr
    );
}

/// The file that the package brings.
const CONFIGURATION: &str = include_str!("../../../deploy/logrotate/tracer");

fn nothing_is_lost_when_logrotate_rotates_its_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    // logrotate wants nobody else to be able to write there.
    let own = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory, own).expect("the directory is ours");
    let log = directory.join("events.json");
    let path = log.to_str().expect("paths here are UTF-8");
    let mut tracer = Tracer::spawn(&mut run(&["--output-file", path]));
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    let logrotate = Logrotate::of(directory, tracer.pid());
    let traffic = Traffic::start();
    for _ in 0..3 {
        wait_for_lines(&log);
        logrotate.rotate();
    }
    wait_for_lines(&log);
    drop(traffic);
    tracer.stop(Signal::TERM);
    let mut sequences = Vec::new();
    for name in [
        "events.json.3.gz",
        "events.json.2.gz",
        "events.json.1",
        "events.json",
    ] {
        let text = contents(&directory.join(name));
        let numbers = text.lines().map(sequence);
        let before = sequences.len();
        sequences.extend(numbers);
        assert!(sequences.len() > before, "{name} has no events");
    }
    let expected: Vec<u64> = (0..sequences.len() as u64).collect();
    assert_eq!(sequences, expected);
}

/// Waits until there are events in the file.
fn wait_for_lines(log: &Path) {
    wait::until("events in the file", || {
        let text = fs::read_to_string(log).ok()?;
        text.contains('\n').then_some(())
    });
}

/// Of a file as it is, or compressed.
fn contents(path: &Path) -> String {
    let mut command = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut gzip = Command::new("gzip");
        gzip.arg("-dc");
        gzip
    } else {
        Command::new("cat")
    };
    let finished = command::run(command.arg(path).stdout(Stdio::piped()));
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

/// The number of an event in its output.
fn sequence(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).expect("a line is whole");
    event["event"]["sequence"]
        .as_u64()
        .expect("each event has a number")
}

/// logrotate with the package's configuration, for a file elsewhere and a daemon that no systemd runs.
struct Logrotate {
    configuration: std::path::PathBuf,
    state: std::path::PathBuf,
    search: OsString,
}

impl Logrotate {
    fn of(directory: &Path, pid: u32) -> Logrotate {
        let [configuration, state, bin] =
            ["rotation", "state", "bin"].map(|name| directory.join(name));
        let text = CONFIGURATION.replace("/var/log/tracer", directory.to_str().expect("UTF-8"));
        // There is no such group here.
        let text = text.replace("root tracer", "root root");
        assert!(text.contains("systemctl reload tracer.service"), "{text}");
        fs::write(&configuration, text).expect("the directory is ours");
        fs::create_dir(&bin).expect("the directory is ours");
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, format!("#!/bin/sh\nexec kill -HUP {pid}\n")).expect("likewise");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&systemctl, executable).expect("the file is ours");
        let mut search = bin.into_os_string();
        search.push(":");
        search.push(std::env::var_os("PATH").unwrap_or_default());
        Logrotate {
            configuration,
            state,
            search,
        }
    }

    fn rotate(&self) {
        let mut logrotate = Command::new("logrotate");
        logrotate.env("PATH", &self.search).arg("--force");
        logrotate.arg("--state").arg(&self.state);
        logrotate.arg(&self.configuration).stdout(Stdio::piped());
        let finished = command::run(&mut logrotate);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
    }
}
