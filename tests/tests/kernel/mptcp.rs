//! Multipath TCP: one connection for those who use it, whatever the kernel makes of it.
//!
//! Where a kernel makes no such sockets, that is what is tested and listed instead.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::daemon::Tracer;
use tests::environment;
use tests::event::Event;
use tests::expectations::{Exchange, expect_no_loss, expect_totals, only, port, select};
use tests::suite::Fact;
use tests::workload::{self, Workload, mptcp};
use tests::{facts, procfs};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    if mptcp::refusal().is_some() {
        return facts![this_kernel_makes_no_multipath_sockets];
    }
    facts![
        a_multipath_connection_is_told_once_from_each_side_with_its_owners,
        several_paths_are_one_connection_that_lists_them,
        a_connection_outlives_its_first_path,
        a_further_path_that_is_refused_is_not_told,
        a_connection_with_an_end_that_speaks_plain_tcp_is_plain,
        a_connection_from_before_the_start_is_one_with_all_its_paths,
    ]
}

fn this_kernel_makes_no_multipath_sockets() {
    let refusal = mptcp::refusal().expect("it did when the tests were listed");
    // Debian's 5.10 is built without.
    let may_refuse = !environment::in_vm() || procfs::kernel() < (6, 0);
    assert!(may_refuse, "in the matrix it does: {refusal}");
    let known = [libc::EPROTONOSUPPORT, libc::ENOPROTOOPT, libc::EINVAL];
    let errno = refusal.raw_os_error().expect("an errno");
    assert!(known.contains(&errno), "{refusal}");
    eprintln!("not offered by this kernel: Multipath TCP: {refusal}");
}

fn a_multipath_connection_is_told_once_from_each_side_with_its_owners() {
    let ((pid, fact), events) = common::observe(|| workload::run("mptcp", &[]));
    expect_both_sides(&events, pid, &fact, Some(true));
    for event in select(&events, "connection_closed", pid) {
        event.expect_absent("/tracer/subflows");
    }
}

/// The events of a connection to itself that sent 5 bytes up and 7 down.
#[track_caller]
fn expect_both_sides(events: &[Event], pid: u32, fact: &Value, mptcp: Option<bool>) {
    let exchange = Exchange {
        port: local(fact),
        up: 5,
        down: 7,
    };
    for action in ["listen_opened", "listen_closed"] {
        let event = only(events, action, pid);
        event.expect("/destination/port", port(fact));
        event.expect_absent("/tracer/mptcp");
    }
    let opened = only(events, "connection_opened", pid);
    let accepted = only(events, "connection_accepted", pid);
    let closed = select(events, "connection_closed", pid);
    assert_eq!(closed.len(), 2, "{closed:?}");
    for (begun, direction) in [(opened, "egress"), (accepted, "ingress")] {
        begun.expect("/network/transport", "tcp");
        begun.expect("/network/direction", direction);
        begun.expect("/source/port", exchange.port);
        begun.expect("/destination/port", port(fact));
        begun.expect("/tracer/owner_provenance", "kernel");
        let id = begun.connection_id();
        let close = closed.iter().find(|close| close.connection_id() == id);
        let close = close.expect("it is closed");
        expect_totals(close, &exchange, "SF");
        for event in [begun, close] {
            assert_eq!(
                event.get("/tracer/mptcp"),
                mptcp.map(Value::from).as_ref(),
                "{event}"
            );
        }
    }
    expect_no_loss(events);
}

fn local(fact: &Value) -> u16 {
    let local = fact["local"].as_u64().expect("a port");
    u16::try_from(local).expect("a port")
}

fn several_paths_are_one_connection_that_lists_them() {
    observe_paths("keep-first");
}

fn a_connection_outlives_its_first_path() {
    let (end, events) = observe_paths("lose-first");
    // Nothing but a byte each way went over it.
    for event in events
        .iter()
        .filter(|it| it.action() == "connection_closed")
    {
        for (side, bytes) in [("source", "up"), ("destination", "down")] {
            let bytes = end[bytes].as_u64().expect("a number");
            let further = carried(event, side);
            assert!(
                further + 1 == bytes || is_repeated(&end) && further >= bytes,
                "{event}"
            );
        }
    }
}

fn a_further_path_that_is_refused_is_not_told() {
    observe_paths("refuse-further");
}

/// Observes a connection over several paths; its end as it was told, and the events in its namespace.
#[track_caller]
fn observe_paths(how: &str) -> (Value, Vec<Event>) {
    let ((pid, begin, end), events) = common::observe(|| {
        let mut workload = Workload::start("mptcp-paths", &[how]);
        let begin = workload.fact();
        workload.go();
        let (end, pid) = (workload.fact(), workload.pid());
        workload.finish();
        (pid, begin, end)
    });
    let opened = only(&events, "connection_opened", pid);
    let events = in_namespace_of(opened, &events);
    let mut actions: Vec<_> = events.iter().map(Event::action).collect();
    actions.sort_unstable();
    let expected = [
        "connection_accepted",
        "connection_closed",
        "connection_closed",
        "connection_opened",
        "listen_closed",
        "listen_opened",
    ];
    assert_eq!(actions, expected);
    for (action, direction) in [
        ("connection_opened", "egress"),
        ("connection_accepted", "ingress"),
    ] {
        let begun = only(&events, action, pid);
        begun.expect("/network/direction", direction);
        begun.expect("/tracer/owner_provenance", "kernel");
        expect_first_path(begun, &begin);
        let closed = select(&events, "connection_closed", pid).into_iter();
        let mut closed = closed.filter(|it| it.connection_id() == begun.connection_id());
        let closed = closed.next().expect("it is closed");
        closed.expect("/network/direction", direction);
        expect_first_path(closed, &begin);
        expect_all_paths(closed, &begin, &end);
    }
    expect_no_loss(&events);
    (end, events)
}

/// Every event about a connection or listener in the network namespace of another.
fn in_namespace_of(one: &Event, events: &[Event]) -> Vec<Event> {
    let netns = one.get("/tracer/netns/id").expect("it has one");
    let is_there = |it: &&Event| it.get("/tracer/netns/id") == Some(netns);
    events.iter().filter(is_there).cloned().collect()
}

#[track_caller]
fn expect_first_path(event: &Event, begin: &Value) {
    event.expect("/tracer/mptcp", true);
    event.expect("/network/transport", "tcp");
    event.expect("/source/ip", mptcp::FIRST.to_string());
    event.expect("/source/port", local(begin));
    event.expect("/destination/ip", "127.0.0.1");
    event.expect("/destination/port", port(begin));
}

/// Asserts what a close says of the paths, and of what they carried.
#[track_caller]
fn expect_all_paths(closed: &Event, begin: &Value, end: &Value) {
    closed.expect("/tracer/state", "SF");
    let subflows = closed.list("/tracer/subflows");
    let mut begins: Vec<_> = subflows
        .iter()
        .map(|subflow| json!([subflow["source"]["ip"], subflow["source"]["port"]]))
        .collect();
    begins.sort_by_key(Value::to_string);
    let mut expected = begin["further"].as_array().expect("a list").clone();
    expected.sort_by_key(Value::to_string);
    assert_eq!(begins, expected, "{closed}");
    assert_eq!(begins.len(), mptcp::FURTHER.len());
    for subflow in subflows {
        assert_eq!(subflow["destination"]["ip"], "127.0.0.1", "{closed}");
        assert_eq!(subflow["destination"]["port"], port(begin), "{closed}");
    }
    for (side, bytes) in [("source", "up"), ("destination", "down")] {
        let bytes = end[bytes].as_u64().expect("a number");
        let told = closed.number(&format!("/{side}/bytes"));
        assert!(
            told == bytes || is_repeated(end) && told > bytes,
            "{bytes} bytes {side}, {end}: {closed}"
        );
        assert!(carried(closed, side) <= told, "{closed}");
    }
    assert!(carried(closed, "source") > 0, "{closed}");
}

/// What one side sent over further paths.
fn carried(closed: &Event, side: &str) -> u64 {
    let subflows = closed.list("/tracer/subflows").iter();
    subflows
        .map(|subflow| subflow[side]["bytes"].as_u64().expect("a number"))
        .sum()
}

/// Whether the kernel sent something over two paths, which then counts twice.
fn is_repeated(end: &Value) -> bool {
    end["sent_again"].as_u64().expect("a number") > 0
}

fn a_connection_with_an_end_that_speaks_plain_tcp_is_plain() {
    for plain in ["initiator", "acceptor"] {
        let ((pid, fact), events) = common::observe(|| workload::run("mptcp-falls-back", &[plain]));
        expect_both_sides(&events, pid, &fact, None);
    }
}

fn a_connection_from_before_the_start_is_one_with_all_its_paths() {
    let mut workload = Workload::start("mptcp-paths", &["keep-first"]);
    let (pid, begin) = (workload.pid(), workload.fact());
    let mut tracer = Tracer::start(&[]);
    let is_existing = |event: &Event| event.is("connection_existing", pid);
    tracer.wait_for("a connection from before", 0, is_existing);
    let (end, _) = tracer.observe(|| {
        workload.go();
        let end = workload.fact();
        workload.finish();
        end
    });
    let events = tracer.stop(Signal::TERM).events;
    let one = events.iter().find(|event| is_existing(event));
    let events = in_namespace_of(one.expect("it was waited for"), &events);
    let existing = select(&events, "connection_existing", pid);
    let closed = select(&events, "connection_closed", pid);
    assert_eq!((existing.len(), closed.len()), (2, 2), "{events:?}");
    // Besides, the listener.
    assert_eq!(events.len(), 6, "{events:?}");
    for found in existing {
        found.expect("/tracer/mptcp", true);
        found.expect("/tracer/owner_provenance", "inferred");
        found.expect_absent("/tracer/subflows");
        let id = found.connection_id();
        let close = closed.iter().find(|close| close.connection_id() == id);
        let close = close.expect("it is closed");
        expect_all_paths(close, &begin, &end);
    }
    expect_no_loss(&events);
}
