//! `tracer ss`: whose the sockets are that there are now.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::event::Event;
use tests::expectations::port;
use tests::suite::Fact;
use tests::workload::{Workload, mptcp};
use tests::{command, environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    let mut facts = facts![
        ss_shows_listener_and_connections_with_owner_and_lineage,
        ss_names_all_holders_of_what_was_inherited_and_of_what_was_passed,
        ss_tells_namespaces_apart,
        ss_prints_columns_for_people,
    ];
    // Elsewhere the refusal is tested.
    if mptcp::refusal().is_none() {
        facts.extend(facts![ss_shows_an_mptcp_connection_once_for_each_side]);
    }
    facts
}

fn run(arguments: &[&str]) -> String {
    let mut ss = Command::new(environment::tracer_bin());
    let finished = command::run(ss.arg("ss").args(arguments).stdout(Stdio::piped()));
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

/// The sockets at a port, by either end.
fn sockets_at(port: u16, arguments: &[&str]) -> Vec<Event> {
    let text = run(&[&["-o", "json"], arguments].concat());
    let parse = |line| Event::from(serde_json::from_str::<Value>(line).expect("JSON"));
    text.lines()
        .map(parse)
        .filter(|socket| [socket.source_port(), socket.destination_port()].contains(&port))
        .collect()
}

fn holders(socket: &Event) -> Vec<u64> {
    let list = socket.list("/tracer/holders").iter();
    let mut holders: Vec<u64> = list.map(|it| it["pid"].as_u64().expect("a PID")).collect();
    holders.sort_unstable();
    holders
}

/// A workload that holds a listener and one connection to it; its PID, its port and all holders.
fn hold(arguments: &[&str]) -> (Workload, u32, u16, Vec<u64>) {
    let mut workload = Workload::start("hold", arguments);
    let fact = workload.fact();
    let pid = workload.pid();
    let all = fact["holders"].as_array().expect("a list").iter();
    let mut all: Vec<u64> = all.map(|it| it.as_u64().expect("a PID")).collect();
    all.sort_unstable();
    (workload, pid, port(&fact), all)
}

fn end(mut workload: Workload) {
    workload.go();
    workload.fact();
    workload.finish();
}

fn ss_shows_listener_and_connections_with_owner_and_lineage() {
    let (workload, pid, port, all) = hold(&["alone", "127.0.0.1:0", "1"]);
    let sockets = sockets_at(port, &["-t"]);
    let mut states: Vec<&str> = sockets
        .iter()
        .map(|it| it.text("/tracer/socket_state"))
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["established", "established", "listening"]);
    for socket in &sockets {
        assert_eq!(socket.pid(), Some(pid), "{socket}");
        assert_eq!(holders(socket), all);
        socket.expect("/tracer/owner_provenance", "inferred");
        socket.expect("/process/parent/pid", std::process::id());
        socket.expect("/network/transport", "tcp");
        assert!(
            socket.text("/tracer/lineage_text").contains('←'),
            "{socket}"
        );
    }
    let listening = sockets_at(port, &["-tl"]);
    let established = sockets_at(port, &["-tn", "--state", "established"]);
    assert_eq!((listening.len(), established.len()), (1, 2));
    end(workload);
}

fn ss_names_all_holders_of_what_was_inherited_and_of_what_was_passed() {
    let (forked, parent, inherited, family) = hold(&["forked", "127.0.0.1:0", "1"]);
    for socket in sockets_at(inherited, &["-t"]) {
        assert_eq!(holders(&socket), family);
        assert_eq!(socket.pid(), Some(parent), "{socket}");
    }
    end(forked);
    let (passing, _, passed, both) = hold(&["passed", "127.0.0.1:0", "1"]);
    let sockets = sockets_at(passed, &["-t"]);
    let shared: Vec<_> = sockets.iter().filter(|it| holders(it) == both).collect();
    let [shared] = shared[..] else {
        panic!("{} of {} are shared", shared.len(), sockets.len())
    };
    assert_eq!(shared.pid(), None, "{shared}");
    shared.expect("/tracer/owner_provenance", "unknown");
    end(passing);
}

fn ss_tells_namespaces_apart() {
    let (here, here_pid, port, _) = hold(&["alone", "127.0.0.1:0", "1"]);
    let address = format!("127.0.0.1:{port}");
    let (there, there_pid, _, _) = hold(&["alone", &address, "1", "in-netns"]);
    let sockets = sockets_at(port, &["-t"]);
    let netns_of = |pid: u32| {
        let own = sockets.iter().filter(|it| it.pid() == Some(pid));
        let mut ids: Vec<u64> = own.map(|it| it.number("/tracer/netns/id")).collect();
        assert_eq!(ids.len(), 3, "sockets of {pid}");
        ids.dedup();
        ids
    };
    let (one, other) = (netns_of(here_pid), netns_of(there_pid));
    assert_eq!((one.len(), other.len()), (1, 1));
    assert_ne!(one, other);
    end(there);
    end(here);
}

fn ss_prints_columns_for_people() {
    let (workload, pid, port, _) = hold(&["alone", "127.0.0.1:0", "1"]);
    let text = run(&["-tunlp"]);
    let mut lines = text.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("Netid  State"))
    );
    let line = lines.find(|line| line.contains(&format!("127.0.0.1:{port} ")));
    let line = line.unwrap_or_else(|| panic!("no listener at {port} in {text}"));
    assert!(
        line.contains("LISTEN") && line.contains(&format!("[{pid}]")),
        "{line}"
    );
    end(workload);
}

fn ss_shows_an_mptcp_connection_once_for_each_side() {
    let mut workload = Workload::start("mptcp-paths", &["keep-first"]);
    let (pid, fact) = (workload.pid(), workload.fact());
    let sockets = sockets_at(port(&fact), &["-t"]);
    let is_established = |it: &&Event| it.text("/tracer/socket_state") == "established";
    let established: Vec<_> = sockets.iter().filter(is_established).collect();
    assert_eq!((sockets.len(), established.len()), (3, 2), "{sockets:?}");
    for socket in established {
        assert_eq!(socket.pid(), Some(pid), "{socket}");
        assert_eq!(holders(socket), [u64::from(pid)]);
        socket.expect("/tracer/mptcp", true);
        socket.expect("/source/ip", mptcp::FIRST.to_string());
        socket.expect("/source/port", fact["local"].clone());
    }
    end(workload);
}
