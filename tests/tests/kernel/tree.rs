//! `tracer tree`: who is above and below a process, and what each of them is connected to.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::command::{Finished, Owned};
use tests::event::Event;
use tests::expectations::port;
use tests::lines::Lines;
use tests::suite::Fact;
use tests::wait::DEADLINE;
use tests::workload::{self, FLAG, Workload};
use tests::{command, environment, facts, procfs, wait};
use tracer::event::ProcessKey;
use tracer::identity::{BootId, Identities, Subject, decode};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_tree_shows_nested_shells_with_listener_and_connections,
        a_tree_is_drawn_from_the_first_ancestor_down,
        a_generation_that_has_ended_stays_while_another_descends_from_it,
        a_pid_that_nobody_has_is_no_tree,
        an_identity_means_no_later_process_with_its_pid,
        a_tree_is_followed_until_its_process_has_ended,
        a_tree_without_a_daemon_shows_what_is_there_now,
    ]
}

fn tree(socket: &str, arguments: &[&str]) -> Finished {
    let mut tree = Command::new(environment::tracer_bin());
    tree.args(["tree", "--socket", socket]).args(arguments);
    command::run(tree.env("LC_ALL", "C.UTF-8").stdout(Stdio::piped()))
}

/// What the common run says of a process.
fn known(arguments: &[&str]) -> Finished {
    common::run(|_| ());
    tree(&common::socket(), arguments)
}

fn json(finished: &Finished) -> Event {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    Event::from(serde_json::from_str::<Value>(&finished.stdout).expect("JSON"))
}

pub(crate) fn of(pid: u32) -> Event {
    json(&known(&["-o", "json", &pid.to_string()]))
}

/// A shell in a shell that runs a process which listens and is connected to itself.
fn nested_shells() -> (Workload, u16, u32) {
    let binary = workload::binary();
    let hold = format!("{} {FLAG} hold alone 127.0.0.1:0 1", binary.display());
    // Each `true` keeps a shell from becoming its last command.
    let script = format!("sh -c '{hold}; true'; true");
    common::run(|_| ());
    let mut shells = Workload::spawn(Command::new("sh").args(["-c", &script]));
    let fact = shells.fact();
    let holder = fact["holders"][0].as_u64().expect("a PID");
    (shells, port(&fact), u32::try_from(holder).expect("a PID"))
}

fn end(mut shells: Workload) {
    shells.go();
    shells.fact();
    shells.finish();
}

fn a_tree_shows_nested_shells_with_listener_and_connections() {
    let (shells, port, holder) = nested_shells();
    let tree = of(shells.pid());
    tree.expect("/process/pid", shells.pid());
    tree.expect("/process/name", "sh");
    tree.expect("/tracer/life", "living");
    tree.expect("/ancestors/0/process/pid", std::process::id());
    assert_eq!(tree.list("/connections"), [] as [Value; 0]);
    tree.expect("/children/0/process/name", "sh");
    tree.expect("/children/0/tracer/relation", "birth");
    tree.expect("/children/0/children/0/process/pid", holder);
    let connections: Vec<Event> = tree
        .list("/children/0/children/0/connections")
        .iter()
        .map(|connection| Event::from(connection.clone()))
        .collect();
    let mut seen = Vec::new();
    for connection in &connections {
        let ports = [connection.source_port(), connection.destination_port()];
        assert!(ports.contains(&port), "{connection}");
        connection.expect("/tracer/owner_provenance", "kernel");
        connection.text("/tracer/connection_id");
        connection.text("/event/start");
        seen.push((
            connection.text("/network/direction"),
            connection.text("/tracer/socket_state"),
        ));
    }
    seen.sort_unstable();
    let established = "established";
    assert_eq!(
        seen,
        [
            ("egress", established),
            ("ingress", established),
            ("ingress", "listening")
        ]
    );
    end(shells);
}

fn a_tree_is_drawn_from_the_first_ancestor_down() {
    let (shells, port, holder) = nested_shells();
    let pid = shells.pid().to_string();
    let drawn = known(&[&pid]);
    let ascii = known(&[&pid, "--ascii", "--no-connections", "--depth", "1"]);
    end(shells);
    let lines: Vec<&str> = drawn.stdout.lines().collect();
    let place = |what: &str| {
        let place = lines.iter().position(|line| line.contains(what));
        place.unwrap_or_else(|| panic!("no {what} in {}", drawn.stdout))
    };
    let own = place(&format!("[{}]", std::process::id()));
    let subject = place(&format!("▶ sh[{pid}]"));
    let holder = place(&format!("[{holder}]"));
    let listener = place(&format!("tcp 127.0.0.1:{port}  LISTEN"));
    let connection = place(&format!(" → 127.0.0.1:{port}  ESTAB"));
    let places = [own, subject, holder, listener, connection];
    assert!(places.is_sorted(), "{places:?} in {}", drawn.stdout);
    assert!(!drawn.stdout.contains('\u{1b}'));
    assert!(ascii.stdout.is_ascii(), "{}", ascii.stdout);
    assert!(ascii.stdout.contains(&format!("`-=> sh[{pid}]")));
    assert!(ascii.stdout.contains("`-... 1 descendant\n"));
    assert!(!ascii.stdout.contains(&format!("127.0.0.1:{port}  ")));
}

fn a_generation_that_has_ended_stays_while_another_descends_from_it() {
    let wait = format!("{} {FLAG} wait", workload::binary().display());
    let script = format!("exec 3<&0; sh -c '{wait} <&3 &'; read line <&3");
    common::run(|_| ());
    let mut shell = Workload::spawn(Command::new("sh").args(["-c", &script]));
    shell.fact();
    wait::until("the shell in between to end", || {
        procfs::children(shell.pid()).is_empty().then_some(())
    });
    let tree = of(shell.pid());
    let drawn = known(&[&shell.pid().to_string()]).stdout;
    let middle = tree.number("/children/0/process/pid");
    let of_middle = of(u32::try_from(middle).expect("a PID"));
    shell.kill();
    tree.expect("/tracer/life", "living");
    tree.expect("/children/0/tracer/life", "exited");
    tree.expect("/children/0/children/0/tracer/life", "living");
    tree.expect("/children/0/children/0/tracer/relation", "birth");
    let args = &tree.list("/children/0/children/0/process/args")[1..];
    assert_eq!(args, [FLAG, "wait"]);
    of_middle.expect("/process/pid", middle);
    of_middle.expect("/tracer/life", "exited");
    let line = drawn
        .lines()
        .find(|line| line.contains(&format!("[{middle}]")));
    assert!(line.is_some_and(|line| line.contains("exited")), "{drawn}");
}

/// No kernel gives a PID that large.
const NOBODY: &str = "4194305";

fn a_pid_that_nobody_has_is_no_tree() {
    let unknown = known(&[NOBODY]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert!(unknown.stderr.contains("no process with PID 4194305"));
    let wrong = known(&["systemd"]);
    assert_eq!(wrong.code, Some(2), "{wrong:#?}");
}

fn an_identity_means_no_later_process_with_its_pid() {
    let tree = of(std::process::id());
    let id = tree.text("/process/entity_id");
    let decoded = decode(id).expect("an identity");
    let Subject::Process { key, .. } = decoded.subject else {
        panic!("{id} is no process")
    };
    let same = json(&known(&["-o", "json", "--depth", "0", id]));
    same.expect("/process/pid", std::process::id());
    let earlier = ProcessKey {
        start_ns: key.start_ns - 1,
        ..key
    };
    for (boot, key) in [(decoded.boot, earlier), (BootId([9; 16]), key)] {
        let id = Identities::new(boot).process(key, false);
        let ended = known(&[id.as_str()]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains("has ended"), "{ended:#?}");
    }
}

fn a_tree_is_followed_until_its_process_has_ended() {
    common::run(|_| ());
    let mut waiting = Workload::start("wait", &[]);
    waiting.fact();
    let pid = waiting.pid();
    let mut follow = Command::new(environment::tracer_bin());
    follow.args(["tree", "--follow", "-o", "json"]);
    follow.args(["--socket", &common::socket(), &pid.to_string()]);
    let mut follow = Owned::spawn(follow.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = Lines::drain(follow.stdout.take().expect("stdout is a pipe"));
    assert!(lines.wait_past(1, DEADLINE), "it draws once");
    waiting.go();
    waiting.finish();
    assert!(command::ends_within(&follow, DEADLINE), "it goes on");
    assert_eq!(follow.status().code(), Some(0));
    lines.finish();
    for line in lines.since(0) {
        let tree: Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(tree["process"]["pid"], pid);
    }
}

fn a_tree_without_a_daemon_shows_what_is_there_now() {
    let (shells, port, holder) = nested_shells();
    let alone = tree("off", &["-o", "json", &shells.pid().to_string()]);
    end(shells);
    assert!(
        alone.stderr.contains("only what is there now"),
        "{alone:#?}"
    );
    let tree = json(&alone);
    tree.expect("/ancestors/0/process/pid", std::process::id());
    tree.expect("/children/0/children/0/process/pid", holder);
    let connections = tree.list("/children/0/children/0/connections");
    assert_eq!(connections.len(), 3);
    for connection in connections {
        let connection = Event::from(connection.clone());
        let ports = [connection.source_port(), connection.destination_port()];
        assert!(ports.contains(&port), "{connection}");
        connection.expect("/tracer/owner_provenance", "inferred");
        connection.expect_absent("/tracer/connection_id");
    }
}
