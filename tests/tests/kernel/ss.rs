//! `tracer ss`: whose the sockets are that there are now.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tests::cgroups::Cgroup;
use tests::event::Event;
use tests::expectations::port;
use tests::suite::Fact;
use tests::workload::{self, FLAG, Workload, mptcp};
use tests::{command, environment, facts};

use crate::common;

/// Of the common run, which has seen who opened what.
pub(crate) fn facts_of_the_daemon() -> Vec<Fact> {
    let mut facts = facts![
        the_daemon_names_the_opener_of_what_was_passed,
        the_daemon_answers_whoever_is_in_its_group,
        the_daemon_tells_the_container_of_the_owner,
    ];
    // Elsewhere the refusal is tested.
    if mptcp::refusal().is_none() {
        facts.extend(facts![
            the_daemon_shows_an_mptcp_connection_once_for_each_side
        ]);
    }
    facts
}

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        ss_shows_listener_and_connections_with_owner_and_lineage,
        ss_names_all_holders_of_what_was_passed,
        ss_tells_namespaces_apart,
        ss_prints_columns_for_people,
    ]
}

/// Asks no daemon.
fn run(arguments: &[&str]) -> String {
    run_with("off", arguments)
}

fn run_with(socket: &str, arguments: &[&str]) -> String {
    let mut ss = Command::new(environment::tracer_bin());
    ss.args(["ss", "--socket", socket]).args(arguments);
    let finished = command::run(ss.stdout(Stdio::piped()));
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

/// The TCP sockets that the common run knows.
fn known_to_the_daemon() -> Vec<Event> {
    parsed(&run_with(&common::socket(), &["-o", "json", "-t"]))
}

fn parsed(text: &str) -> Vec<Event> {
    let parse = |line| Event::from(serde_json::from_str::<Value>(line).expect("JSON"));
    text.lines().map(parse).collect()
}

/// The sockets at a port, by either end.
fn at(port: u16, sockets: &[Event]) -> Vec<Event> {
    let is_there =
        |socket: &&Event| [socket.source_port(), socket.destination_port()].contains(&port);
    sockets.iter().filter(is_there).cloned().collect()
}

fn holders_of(socket: &Event) -> Vec<u64> {
    let list = socket.list("/tracer/holders").iter();
    let mut holders: Vec<u64> = list.map(|it| it["pid"].as_u64().expect("a PID")).collect();
    holders.sort_unstable();
    holders
}

/// What was held while `tracer ss` looked, and what it said.
struct Seen {
    alone: Held,
    forked: Held,
    passed: Held,
    /// At the same addresses as `alone`, in a network namespace of its own.
    elsewhere: Held,
    all: Vec<Event>,
    listening: Vec<Event>,
    established: Vec<Event>,
    columns: String,
}

/// A listener and one connection to it.
struct Held {
    pid: u32,
    port: u16,
    holders: Vec<u64>,
}

impl Held {
    fn by(workload: &mut Workload) -> Held {
        let fact = workload.fact();
        let holders = fact["holders"].as_array().expect("a list").iter();
        let mut holders: Vec<u64> = holders.map(|it| it.as_u64().expect("a PID")).collect();
        holders.sort_unstable();
        Held {
            pid: workload.pid(),
            port: port(&fact),
            holders,
        }
    }
}

/// Each look takes seconds on an emulated machine.
static SEEN: LazyLock<Seen> = LazyLock::new(|| {
    let mut workloads = Vec::new();
    let mut hold = |arguments: &[&str]| {
        let mut workload = Workload::start("hold", arguments);
        let held = Held::by(&mut workload);
        workloads.push(workload);
        held
    };
    let alone = hold(&["alone", "127.0.0.1:0", "1"]);
    let forked = hold(&["forked", "127.0.0.1:0", "1"]);
    let passed = hold(&["passed", "127.0.0.1:0", "1"]);
    let address = format!("127.0.0.1:{}", alone.port);
    let elsewhere = hold(&["alone", &address, "1", "in-netns"]);
    let seen = Seen {
        alone,
        forked,
        passed,
        elsewhere,
        all: parsed(&run(&["-o", "json", "-t"])),
        listening: parsed(&run(&["-o", "json", "-tl"])),
        established: parsed(&run(&["-o", "json", "-tn", "--state", "established"])),
        columns: run(&["-tunlp"]),
    };
    workloads.into_iter().for_each(end);
    seen
});

fn end(mut workload: Workload) {
    workload.go();
    workload.fact();
    workload.finish();
}

fn ss_shows_listener_and_connections_with_owner_and_lineage() {
    let Held { pid, port, holders } = &SEEN.forked;
    let sockets = at(*port, &SEEN.all);
    let mut states: Vec<&str> = sockets
        .iter()
        .map(|it| it.text("/tracer/socket_state"))
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["established", "established", "listening"]);
    for socket in &sockets {
        assert_eq!(socket.pid(), Some(*pid), "{socket}");
        assert_eq!(holders_of(socket), *holders);
        socket.expect("/tracer/owner_provenance", "inferred");
        socket.expect("/process/parent/pid", std::process::id());
        socket.expect("/network/transport", "tcp");
        assert!(
            socket.text("/tracer/lineage_text").contains('←'),
            "{socket}"
        );
    }
    let some = [&SEEN.listening, &SEEN.established].map(|it| at(*port, it).len());
    assert_eq!(some, [1, 2]);
}

fn ss_names_all_holders_of_what_was_passed() {
    let sockets = at(SEEN.passed.port, &SEEN.all);
    let is_shared = |socket: &&Event| holders_of(socket) == SEEN.passed.holders;
    let shared: Vec<_> = sockets.iter().filter(is_shared).collect();
    let [shared] = shared[..] else {
        panic!("{} of {} are shared", shared.len(), sockets.len())
    };
    assert_eq!(shared.pid(), None, "{shared}");
    shared.expect("/tracer/owner_provenance", "unknown");
}

fn the_daemon_names_the_opener_of_what_was_passed() {
    let mut workload = common::run(|_| Workload::start("hold", &["passed", "127.0.0.1:0", "1"]));
    let held = Held::by(&mut workload);
    let all = known_to_the_daemon();
    let columns = run_with(&common::socket(), &["-t"]);
    let sockets = at(held.port, &all);
    assert_eq!(sockets.len(), 3);
    for socket in &sockets {
        assert_eq!(socket.pid(), Some(held.pid), "{socket}");
        socket.expect("/tracer/owner_provenance", "kernel");
        socket.expect("/process/parent/pid", std::process::id());
    }
    let is_shared = |socket: &&Event| holders_of(socket) == held.holders;
    assert_eq!(sockets.iter().filter(is_shared).count(), 1);
    let line = columns
        .lines()
        .find(|line| line.contains(&format!("127.0.0.1:{} ", held.port)));
    let owner = format!("[{}] ", held.pid);
    assert!(line.is_some_and(|line| line.contains(&owner)), "{columns}");
    end(workload);
}

fn the_daemon_answers_whoever_is_in_its_group() {
    let file = common::run(|_| fs::metadata(common::socket())).expect("the socket is there");
    assert_eq!(file.mode() & 0o777, 0o660);
    assert_eq!(file.gid(), common::SOCKET_GROUP);
}

fn ss_tells_namespaces_apart() {
    let sockets = at(SEEN.alone.port, &SEEN.all);
    let [one, other] = [&SEEN.alone, &SEEN.elsewhere].map(|held| {
        let own = sockets.iter().filter(|it| it.pid() == Some(held.pid));
        let mut ids: Vec<u64> = own.map(|it| it.number("/tracer/netns/id")).collect();
        assert_eq!(ids.len(), 3, "sockets of {}", held.pid);
        ids.dedup();
        ids
    });
    assert_eq!((one.len(), other.len()), (1, 1));
    assert_ne!(one, other);
}

fn the_daemon_tells_the_container_of_the_owner() {
    let id = "7".repeat(64);
    let cgroup = Cgroup::make(&format!("docker/{id}"));
    let binary = workload::binary();
    let binary = binary.to_str().expect("UTF-8");
    let arguments = [
        cgroup.directory(),
        binary,
        FLAG,
        "hold",
        "alone",
        "127.0.0.1:0",
        "1",
    ];
    let mut workload = common::run(|_| Workload::start("enter-cgroup", &arguments));
    let sockets = at(port(&workload.fact()), &known_to_the_daemon());
    assert!(!sockets.is_empty());
    for socket in &sockets {
        socket.expect("/container/id", id.as_str());
        socket.expect("/container/runtime", "docker");
    }
    end(workload);
}

fn ss_prints_columns_for_people() {
    let mut lines = SEEN.columns.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("Netid  State"))
    );
    let Held { pid, port, .. } = SEEN.forked;
    let line = lines.find(|line| line.contains(&format!("127.0.0.1:{port} ")));
    let line = line.unwrap_or_else(|| panic!("no listener at {port} in {}", SEEN.columns));
    assert!(
        line.contains("LISTEN") && line.contains(&format!("[{pid}]")),
        "{line}"
    );
}

fn the_daemon_shows_an_mptcp_connection_once_for_each_side() {
    let mut workload = common::run(|_| Workload::start("mptcp-paths", &["keep-first"]));
    let (pid, fact) = (workload.pid(), workload.fact());
    let sockets = at(port(&fact), &known_to_the_daemon());
    let is_established = |it: &&Event| it.text("/tracer/socket_state") == "established";
    let established: Vec<_> = sockets.iter().filter(is_established).collect();
    assert_eq!((sockets.len(), established.len()), (3, 2), "{sockets:?}");
    for socket in established {
        assert_eq!(socket.pid(), Some(pid), "{socket}");
        assert_eq!(holders_of(socket), [u64::from(pid)]);
        socket.expect("/tracer/mptcp", true);
        socket.expect("/source/ip", mptcp::FIRST.to_string());
        socket.expect("/source/port", fact["local"].clone());
    }
    end(workload);
}
