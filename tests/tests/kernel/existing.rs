//! What was there before the tracer: told once, with whoever holds it.

use std::sync::LazyLock;

use rustix::process::Signal;
use serde_json::Value;
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{expect_no_loss, only, port, select};
use tests::suite::Fact;
use tests::workload::Workload;
use tests::{environment, facts, http, metrics, wait};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        what_one_process_holds_is_its_own_as_inferred,
        what_was_inherited_is_the_parents_and_both_hold_it,
        what_was_passed_is_nobodys_and_both_hold_it,
        the_same_addresses_in_two_namespaces_are_two_connections,
        every_start_under_load_tells_each_connection_once,
        ends_that_were_lost_are_found_and_what_lives_stays,
    ]
}

/// A workload that holds connections, and what it said of them.
struct Holding {
    workload: Workload,
    fact: Value,
}

impl Holding {
    fn start(arguments: &[&str]) -> Self {
        let mut workload = Workload::start("hold", arguments);
        let fact = workload.fact();
        Holding { workload, fact }
    }

    fn pid(&self) -> u32 {
        self.workload.pid()
    }

    fn clients(&self) -> Vec<u16> {
        let ports = self.fact["clients"].as_array().expect("a list").iter();
        let port = |port: &Value| u16::try_from(port.as_u64().expect("a number")).expect("a port");
        ports.map(port).collect()
    }

    fn end(mut self) {
        self.workload.go();
        self.workload.fact();
        self.workload.finish();
    }
}

/// What was held while one tracer started and ended before it did, and all that it told.
struct Found {
    alone: Held,
    forked: Held,
    passed: Held,
    /// At the same addresses as `alone`, in a network namespace of its own.
    elsewhere: Held,
    events: Vec<Event>,
}

/// Who held something, and what.
struct Held {
    pid: u32,
    fact: Value,
}

/// One start of a tracer finds them all, since a start takes seconds on an emulated machine.
static FOUND: LazyLock<Found> = LazyLock::new(|| {
    let alone = Holding::start(&["alone", "127.0.0.1:0", "1"]);
    let address = format!("127.0.0.1:{}", port(&alone.fact));
    let forked = Holding::start(&["forked", "127.0.0.1:0", "1"]);
    let passed = Holding::start(&["passed", "127.0.0.1:0", "1"]);
    let elsewhere = Holding::start(&["alone", &address, "1", "in-netns"]);
    let all = [alone, forked, passed, elsewhere];
    let held = all.each_ref().map(|holding| Held {
        pid: holding.pid(),
        fact: holding.fact.clone(),
    });
    let mut tracer = Tracer::start(&[]);
    tracer.observe(|| all.map(Holding::end));
    let events = tracer.stop(Signal::TERM).events;
    expect_no_loss(&events);
    let [alone, forked, passed, elsewhere] = held;
    Found {
        alone,
        forked,
        passed,
        elsewhere,
        events,
    }
});

/// The events of one process.
fn of(pid: u32) -> Vec<Event> {
    let events = FOUND.events.iter();
    events.filter(|it| it.pid() == Some(pid)).cloned().collect()
}

/// The events about what was held: at the listener's port, in order.
fn about<'a>(events: &'a [Event], action: &str, fact: &Value) -> Vec<&'a Event> {
    let port = port(fact);
    let has_port = |event: &&Event| [event.source_port(), event.destination_port()].contains(&port);
    let of_action = events.iter().filter(|event| event.action() == action);
    of_action.filter(has_port).collect()
}

#[track_caller]
fn expect_holders(event: &Event, fact: &Value) {
    let list = event.list("/tracer/holders").iter();
    let mut holders: Vec<u64> = list.map(|it| it["pid"].as_u64().expect("a PID")).collect();
    let expected = fact["holders"].as_array().expect("a list").iter();
    let mut expected: Vec<u64> = expected.map(|it| it.as_u64().expect("a PID")).collect();
    holders.sort_unstable();
    expected.sort_unstable();
    assert_eq!(holders, expected, "{event}");
}

/// Both ends were found, and their closes are told with the same owner.
#[track_caller]
fn expect_existing(events: &[Event], fact: &Value, owner: Option<u32>) {
    let found = about(events, "connection_existing", fact);
    let closed = about(events, "connection_closed", fact);
    assert_eq!((found.len(), closed.len()), (2, 2), "{fact}");
    let mut directions = [0, 1].map(|index| found[index].text("/network/direction"));
    directions.sort_unstable();
    assert_eq!(directions, ["ingress", "unknown"]);
    for event in &found {
        event.expect("/destination/port", port(fact));
        let close = closed
            .iter()
            .find(|it| it.connection_id() == event.connection_id());
        let close = close.unwrap_or_else(|| panic!("never closed: {event}"));
        for it in [event, close] {
            assert_eq!(it.pid(), owner, "{it}");
            it.expect("/tracer/existing", true);
            it.expect(
                "/tracer/owner_provenance",
                if owner.is_some() {
                    "inferred"
                } else {
                    "unknown"
                },
            );
        }
        close.expect_absent("/event/duration");
        close.expect("/tracer/state", "SF");
    }
}

fn what_one_process_holds_is_its_own_as_inferred() {
    let Held { pid, fact } = &FOUND.alone;
    let events = of(*pid);
    let listener = only(&events, "listen_opened", *pid);
    listener.expect("/destination/port", port(fact));
    listener.expect("/tracer/existing", true);
    listener.expect("/tracer/owner_provenance", "inferred");
    listener.expect("/process/parent/pid", std::process::id());
    expect_holders(listener, fact);
    expect_existing(&events, fact, Some(*pid));
    let closed = only(&events, "listen_closed", *pid);
    closed.expect("/tracer/connection_id", listener.connection_id());
}

fn what_was_inherited_is_the_parents_and_both_hold_it() {
    let Held { pid, fact } = &FOUND.forked;
    let events = &FOUND.events;
    expect_existing(events, fact, Some(*pid));
    for event in about(events, "connection_existing", fact) {
        expect_holders(event, fact);
    }
    expect_holders(only(events, "listen_opened", *pid), fact);
}

fn what_was_passed_is_nobodys_and_both_hold_it() {
    let Held { pid, fact } = &FOUND.passed;
    let found = about(&FOUND.events, "connection_existing", fact);
    let is_initiators = |event: &&Event| event.text("/network/direction") == "unknown";
    let (passed, kept): (Vec<&Event>, Vec<&Event>) = found.into_iter().partition(is_initiators);
    let ([passed], [kept]) = (&passed[..], &kept[..]) else {
        panic!("{} and {} connections of {fact}", passed.len(), kept.len())
    };
    expect_holders(passed, fact);
    assert_eq!(passed.pid(), None, "{passed}");
    passed.expect("/tracer/owner_provenance", "unknown");
    assert_eq!(kept.pid(), Some(*pid), "{kept}");
}

fn the_same_addresses_in_two_namespaces_are_two_connections() {
    let netns = [&FOUND.alone, &FOUND.elsewhere].map(|Held { pid, fact }| {
        let own = of(*pid);
        expect_existing(&own, fact, Some(*pid));
        let ids: Vec<u64> = own
            .iter()
            .filter_map(|it| it.get("/tracer/netns/id")?.as_u64())
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let connections: Vec<&str> = select(&own, "connection_existing", *pid)
            .iter()
            .map(|it| it.connection_id())
            .collect();
        for close in select(&own, "connection_closed", *pid) {
            let peer = close.text("/tracer/peer_connection_id");
            assert!(
                connections.contains(&peer),
                "a peer of another namespace: {close}"
            );
        }
        ids[0]
    });
    assert_ne!(netns[0], netns[1]);
}

/// Connections that last, and others that come and go while the tracer starts.
fn every_start_under_load_tells_each_connection_once() {
    for _ in 0..environment::starts() {
        let holding = Holding::start(&["alone", "127.0.0.1:0", "50"]);
        let mut load = Workload::start("connect-until-told", &[]);
        let load_port = load.fact();
        let mut tracer = Tracer::start(&[]);
        let (pid, fact, clients) = (holding.pid(), holding.fact.clone(), holding.clients());
        let load_pid = load.pid();
        tracer.observe(|| {
            load.go();
            load.finish();
            holding.end();
        });
        let events = tracer.stop(Signal::TERM).events;
        expect_no_loss(&events);
        for client in clients {
            for action in ["connection_existing", "connection_closed"] {
                let of_pid = select(&events, action, pid);
                let count = of_pid
                    .iter()
                    .filter(|it| [it.source_port(), it.destination_port()].contains(&client))
                    .count();
                assert_eq!(count, 2, "{action} of {client}: {fact}");
            }
        }
        expect_nothing_twice(&events);
        for action in [
            "connection_opened",
            "connection_accepted",
            "connection_closed",
        ] {
            for event in about(&events, action, &load_port) {
                assert!([None, Some(load_pid)].contains(&event.pid()), "{event}");
            }
        }
    }
}

/// No connection begins or ends twice, and no two at once have the same ends and direction.
#[track_caller]
fn expect_nothing_twice(events: &[Event]) {
    for actions in [
        &[
            "connection_opened",
            "connection_accepted",
            "connection_existing",
        ][..],
        &["connection_closed"],
        &["listen_opened"],
        &["listen_closed"],
    ] {
        let of_actions = events.iter().filter(|it| actions.contains(&it.action()));
        let mut ids: Vec<&str> = of_actions.map(Event::connection_id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{actions:?}");
    }
}

/// The tracer sleeps while more connections end than its ring has room for.
fn ends_that_were_lost_are_found_and_what_lives_stays() {
    let lasting = Holding::start(&["alone", "127.0.0.1:0", "1"]);
    let ending = Holding::start(&["alone", "127.0.0.1:0", "200"]);
    let mut tracer = Tracer::start(&["--ring-size", "16384"]);
    let address = tracer.metrics();
    wait::until("all to be found", || {
        let found = select(tracer.events(), "connection_existing", ending.pid());
        (found.len() == 400).then_some(())
    });
    tracer.signal(Signal::STOP);
    ending.end();
    tracer.signal(Signal::CONT);
    wait::until("entries to be found stale", || {
        let page = http::get(address, "/metrics").expect("the tracer serves metrics");
        let stale = metrics::sum(&page.body, "tracer_comparison_stale_total", &[]);
        (stale > Some(100.0)).then_some(())
    });
    let (pid, listener, first) = (lasting.pid(), port(&lasting.fact), tracer.events().len());
    lasting.end();
    tracer.wait_for("the end of what lived", first, |event| {
        event.is("connection_closed", pid) && event.destination_port() == listener
    });
    tracer.stop(Signal::TERM);
}
