//! The stories of SCENARIOS.md, re-enacted with real processes: each is detected, and told with who did it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{expect_no_loss, port, select};
use tests::suite::Fact;
use tests::workload::{self, FLAG, Workload};
use tests::{facts, loopback, metrics};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![each_story_is_detected_with_who_did_it]
}

/// Timers of a second are too fast to be told by default.
const CONFIGURATION: &str = "[detect.beacon]\nmin_period = \"100ms\"\n";
const CONTACTS: usize = 9;
/// How long after its cause a detection may come.
const LATEST: SignedDuration = SignedDuration::from_secs(5);

/// All under one tracer, since starting one takes long on an emulated machine.
fn each_story_is_detected_with_who_did_it() {
    let directory = TempDir::new().expect("a temporary directory");
    let configuration = directory.path().join("tracer.toml");
    fs::write(&configuration, CONFIGURATION).expect("the directory is writable");
    let path = configuration.to_str().expect("temporary paths are UTF-8");
    let mut tracer = Tracer::start(&["--config", path]);
    a_sensor_that_knocks_by_the_clock_is_a_beacon(&mut tracer);
    a_renamed_back_door_is_told_and_so_is_its_shell(&mut tracer, directory.path());
    a_port_of_eleven_hosts_is_a_scan(&mut tracer);
    let page = tests::http::get(tracer.metrics(), "/metrics").expect("it serves metrics");
    for rule in ["beacon", "port_scan", "shell_on_socket"] {
        let counted = metrics::sum(&page.body, "tracer_detections_total", &[("rule", rule)]);
        assert!(counted >= Some(1.0), "{rule}: {counted:?}");
    }
    expect_no_loss(&tracer.stop(Signal::TERM).events);
}

/// The first detection by that rule from an event on that is `wanted`.
#[track_caller]
fn detection(
    tracer: &mut Tracer,
    rule: &str,
    first: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Event {
    tracer.wait_for(rule, first, |event| {
        event.action() == "detection" && event.text("/rule/id") == rule && wanted(event)
    })
}

#[track_caller]
fn expect_in_time(detection: &Event, cause: &Event) {
    let time = |event: &Event| -> Timestamp {
        let text = event.text("/@timestamp");
        text.parse().expect("RFC 3339")
    };
    let took = time(cause).duration_until(time(detection));
    assert!(took <= LATEST, "after {took}: {detection}");
}

/// S1: a fresh PID each time, and by the eighth contact it is told.
fn a_sensor_that_knocks_by_the_clock_is_a_beacon(tracer: &mut Tracer) {
    let first = tracer.events().len();
    let count = CONTACTS.to_string();
    let (sensor, fact) = workload::run("beacon", &[&count, "700", "192.0.2.9:445"]);
    let pids: Vec<u32> = serde_json::from_value(fact["pids"].clone()).expect("a list of PIDs");
    let told = detection(tracer, "beacon", first, |_| true);
    let contact = pids.iter().position(|&pid| Some(pid) == told.pid());
    assert_eq!(contact, Some(7), "the eighth of {pids:?}: {told}");
    told.expect("/destination/ip", "192.0.2.9");
    told.expect("/destination/port", 445);
    told.expect("/tracer/detection/evidence_total", 8);
    assert_eq!(told.json()["tracer"]["lineage"][1]["pid"], sensor);
    let contact = tracer.wait_for("the contact", first, |event| {
        event.pid() == told.pid() && event.action() == "connection_failed"
    });
    assert_eq!(
        contact.json()["tracer"]["connection_id"],
        told.json()["tracer"]["connection_id"]
    );
    expect_in_time(&told, &contact);
}

/// S2, and of S4 the name that is one letter away.
fn a_renamed_back_door_is_told_and_so_is_its_shell(tracer: &mut Tracer, directory: &Path) {
    let first = tracer.events().len();
    let program = renamed(directory);
    let mut door = Workload::spawn(std::process::Command::new(&program).args([FLAG, "back-door"]));
    let port = port(&door.fact());
    let name = detection(tracer, "lookalike_name", first, |event| {
        event.pid() == Some(door.pid())
    });
    name.expect("/tracer/detection/severity", "high");
    let listener = detection(tracer, "suspicious_listener", first, |event| {
        event.pid() == Some(door.pid())
    });
    listener.expect("/destination/port", port);
    let opened = tracer.wait_for("the listener", first, |event| {
        event.is("listen_opened", door.pid())
    });
    expect_in_time(&listener, &opened);

    let (outside, address) = loopback::listener();
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    let own = client.local_addr().expect("it is connected").port();
    let command = format!(
        "{} {FLAG} knock {address}; echo done; exit\n",
        program.display()
    );
    client.write_all(command.as_bytes()).expect("it listens");
    let mut said = String::new();
    client.read_to_string(&mut said).expect("it answers");
    assert_eq!(said, "done\n");
    drop(outside);
    let door_pid = door.pid();
    door.finish();
    let shell = detection(tracer, "shell_on_socket", first, |_| true);
    shell.expect("/source/port", own);
    shell.expect("/destination/port", port);
    shell.expect("/tracer/detection/severity", "high");
    assert_eq!(shell.json()["tracer"]["lineage"][1]["pid"], door_pid);
    // What the shell does carries the contact that led to it.
    let outward = tracer.wait_for("what the shell connects to", first, |event| {
        event.action() == "connection_opened"
            && event.destination_port() == address.port()
            && event.json()["tracer"]["lineage"][1]["pid"] == Value::from(shell.pid())
    });
    outward.expect("/tracer/cause/0/peer/port", own);
}

/// This test's program under the name of another, where anyone can put one.
fn renamed(directory: &Path) -> PathBuf {
    let hidden = directory.join(".x");
    fs::create_dir(&hidden).expect("the directory is writable");
    let program = hidden.join("systemd-jounald");
    fs::copy(workload::binary(), &program).expect("there is room");
    program
}

/// S5: within seconds, by one lineage.
fn a_port_of_eleven_hosts_is_a_scan(tracer: &mut Tracer) {
    let first = tracer.events().len();
    let (scanner, _) = workload::run("scan", &["1214", "11"]);
    let told = detection(tracer, "port_scan", first, |_| true);
    assert_eq!(told.pid(), Some(scanner));
    told.expect("/destination/port", 1214);
    told.expect("/process/name", common::own_name().as_str());
    let failed = select(tracer.events(), "connection_failed", scanner);
    assert_eq!(failed.len(), 11);
    expect_in_time(&told, failed[7]);
}
