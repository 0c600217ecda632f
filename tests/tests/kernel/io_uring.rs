//! Connections through io_uring, which the system calls' own hooks never see.
//!
//! Where a kernel gives nobody a ring, that is what is tested and listed instead.

use std::net::SocketAddr;

use rustix::io::Errno;
use serde_json::Value;
use tests::environment::{self, HookMode};
use tests::event::Event;
use tests::expectations::{Exchange, expect_count, expect_totals, only, port};
use tests::suite::Fact;
use tests::workload::{self, Workload, uring};
use tests::{expectations, facts, loopback, procfs};

use crate::common;
use crate::ownership::{connect, expect_accepted};

pub(crate) fn facts() -> Vec<Fact> {
    if uring::refusal().is_some() {
        return facts![this_kernel_gives_nobody_a_ring];
    }
    facts![
        connect_in_the_submitting_thread_belongs_to_the_process,
        connect_in_a_worker_belongs_to_the_process,
        connect_in_the_polling_thread_belongs_to_the_process,
        a_refused_connect_fails_with_its_owner_in_every_way,
        accept_with_the_peers_address_belongs_to_the_process_in_every_way,
        accept_without_the_peers_address_belongs_to_the_process_or_to_nobody,
        whoever_asks_for_the_peers_address_later_did_not_accept,
        an_unseen_accept_in_a_worker_is_not_held_against_the_listener,
        multishot_accept_belongs_to_the_process_or_to_nobody_since_5_19,
    ]
}

/// The task in which an operation runs.
const WAYS: [&str; 3] = ["plain", "worker", "polled"];

fn this_kernel_gives_nobody_a_ring() {
    let refusal = uring::refusal().expect("it did when the tests were listed");
    assert!(!environment::in_vm(), "in the matrix it does: {refusal}");
    let errno = refusal.raw_os_error();
    assert!(
        [Some(libc::ENOSYS), Some(libc::EPERM)].contains(&errno),
        "{refusal}"
    );
    eprintln!("not offered by this kernel: io_uring: {refusal}");
}

fn connect_in_the_submitting_thread_belongs_to_the_process() {
    expect_opener("plain");
}

fn connect_in_a_worker_belongs_to_the_process() {
    expect_opener("worker");
}

fn connect_in_the_polling_thread_belongs_to_the_process() {
    expect_opener("polled");
}

#[track_caller]
fn expect_opener(way: &str) {
    let ((pid, port, exchanges), events) = common::observe(|| connect("uring-connect", &[way], 1));
    let opened = only(&events, "connection_opened", pid);
    opened.expect("/source/port", exchanges[0].port);
    opened.expect("/destination/port", port);
    opened.expect("/tracer/owner_provenance", "kernel");
    opened.expect("/process/name", common::own_name());
    opened.expect("/process/parent/pid", std::process::id());
    let closed = only(&events, "connection_closed", pid);
    closed.expect("/tracer/connection_id", opened.connection_id());
    expect_totals(closed, &exchanges[0], "SF");
}

fn a_refused_connect_fails_with_its_owner_in_every_way() {
    for way in WAYS {
        let ((pid, fact), events) = common::observe(|| workload::run("uring-refused", &[way]));
        assert_eq!(fact["errno"], libc::ECONNREFUSED, "{way}");
        let failed = only(&events, "connection_failed", pid);
        failed.expect("/destination/port", port(&fact));
        failed.expect("/error/code", "ECONNREFUSED");
        failed.expect("/tracer/state", "REJ");
        expect_count(&events, "connection_opened", pid, 0);
        expect_count(&events, "connection_closed", pid, 0);
    }
}

/// Connects to a workload that accepts through a ring; what it told first, the exchange, and all events.
fn accept(way: &str, how: &str) -> (Value, Exchange, Vec<Event>) {
    let ((fact, exchange), events) = common::observe(|| {
        let mut server = Workload::start("uring-accept", &[way, how]);
        let fact = server.fact();
        let address = format!("127.0.0.1:{}", port(&fact));
        let (_, asked) = workload::run("connect", &["1", &address]);
        server.fact();
        server.finish();
        (fact, Exchange::of_initiator(&asked[0]))
    });
    (fact, exchange, events)
}

fn accept_with_the_peers_address_belongs_to_the_process_in_every_way() {
    for way in WAYS {
        let (fact, exchange, events) = accept(way, "with-address");
        expect_accepted(&events, &fact, &exchange);
    }
}

fn accept_without_the_peers_address_belongs_to_the_process_or_to_nobody() {
    for way in WAYS {
        expect_acceptor_or_nobody(way, "without-address");
    }
}

fn whoever_asks_for_the_peers_address_later_did_not_accept() {
    expect_acceptor_or_nobody("plain", "asked-by-another");
}

fn multishot_accept_belongs_to_the_process_or_to_nobody_since_5_19() {
    if procfs::kernel() < (5, 19) {
        let errno = uring::refusal_to_repeat().and_then(|refusal| refusal.raw_os_error());
        assert_eq!(errno, Some(libc::EINVAL));
        return eprintln!("not offered by this kernel: multishot accept");
    }
    expect_acceptor_or_nobody("plain", "multishot");
}

/// Nothing that is left in tracepoint mode sees such an accept.
#[track_caller]
fn expect_acceptor_or_nobody(way: &str, how: &str) {
    let (fact, exchange, events) = accept(way, how);
    match environment::hook_mode() {
        HookMode::Fentry | HookMode::Kprobe => {
            expect_accepted(&events, &fact, &exchange);
        }
        HookMode::Tracepoint => expect_nobody(&events, port(&fact), exchange.port),
    }
}

/// What was accepted from `client` on `port` is told once, as closed, and has no owner.
#[track_caller]
fn expect_nobody(events: &[Event], port: u16, client: u16) {
    let told: Vec<_> = events
        .iter()
        .filter(|event| (event.source_port(), event.destination_port()) == (client, port))
        .filter(|event| event.get("/network/direction") != Some(&"egress".into()))
        .collect();
    let [closed] = told[..] else {
        panic!("{} events of what was accepted", told.len())
    };
    closed.expect("/event/action", "connection_closed");
    closed.expect("/network/direction", "ingress");
    closed.expect_absent("/process");
    closed.expect("/tracer/owner_provenance", "unknown");
}

fn an_unseen_accept_in_a_worker_is_not_held_against_the_listener() {
    let ((fact, client), events) = common::observe(|| {
        let mut server = Workload::start("uring-accept-and-reset", &[]);
        let fact = server.fact();
        let (client, own) = loopback::bound();
        // The reset can be there before connect returns.
        let connected =
            rustix::net::connect(&client, &SocketAddr::from(([127, 0, 0, 1], port(&fact))));
        assert!(
            matches!(connected, Ok(()) | Err(Errno::CONNRESET)),
            "{connected:?}"
        );
        server.fact();
        server.finish();
        (fact, own.port())
    });
    match environment::hook_mode() {
        HookMode::Fentry | HookMode::Kprobe => {
            let acceptor = expectations::pid(&fact, "acceptor");
            only(&events, "connection_accepted", acceptor).expect("/source/port", client);
            only(&events, "connection_closed", acceptor).expect("/tracer/state", "RSTR");
        }
        HookMode::Tracepoint => expect_nobody(&events, port(&fact), client),
    }
}
