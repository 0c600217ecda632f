//! Many connections between two known processes, each told exactly once and exactly right.

use jiff::{SignedDuration, Timestamp};
use tests::event::Event;
use tests::expectations::{Exchange, Ledger, expect_count, expect_no_loss, port, select};
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{environment, facts};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        every_ipv4_connection_is_told_once_from_each_side_with_exact_bytes,
        every_ipv6_connection_is_told_once_from_each_side_with_exact_bytes,
        every_ipv4_mapped_connection_is_told_as_ipv4,
        every_refused_connection_fails_once_with_its_owner,
        every_refused_ipv6_connection_fails_once_with_its_owner,
    ]
}

fn every_ipv4_connection_is_told_once_from_each_side_with_exact_bytes() {
    expect_ledger(
        environment::connections(),
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.1",
        "ipv4",
    );
}

fn every_ipv6_connection_is_told_once_from_each_side_with_exact_bytes() {
    expect_ledger(
        environment::connections() / 50,
        "[::1]:0",
        "[::1]",
        "::1",
        "ipv6",
    );
}

fn every_ipv4_mapped_connection_is_told_as_ipv4() {
    expect_ledger(
        environment::connections() / 50,
        "[::]:0",
        "[::ffff:127.0.0.1]",
        "127.0.0.1",
        "ipv4",
    );
}

/// Makes `count` connections to a server on `listen`, by way of `host`, and expects them all.
fn expect_ledger(count: usize, listen: &str, host: &str, ip: &str, family: &str) {
    let count = count.to_string();
    let (ledger, events) = common::observe(|| {
        let mut server = Workload::start("serve", &[&count, listen]);
        let port = port(&server.fact());
        let (client, asked) = workload::run("connect", &[&count, &format!("{host}:{port}")]);
        let answered = server.fact();
        let asked = asked
            .as_array()
            .expect("a list")
            .iter()
            .map(Exchange::of_initiator);
        let answered = answered
            .as_array()
            .expect("a list")
            .iter()
            .map(Exchange::of_acceptor);
        let exchanges: Vec<_> = asked.collect();
        assert_eq!(
            exchanges,
            answered.collect::<Vec<_>>(),
            "the two ends disagree"
        );
        let ledger = Ledger {
            client,
            server: server.pid(),
            ip,
            family,
            port,
            exchanges,
        };
        server.finish();
        ledger
    });
    ledger.expect(&events);
    expect_no_loss(&events);
    expect_order(&events);
}

/// Times rise, but for the time that user space needs to learn an outcome.
#[track_caller]
fn expect_order(events: &[Event]) {
    let mut latest = Timestamp::UNIX_EPOCH;
    for event in events {
        let time: Timestamp = event.text("/@timestamp").parse().expect("RFC 3339");
        assert!(
            latest.duration_since(time) <= SignedDuration::from_millis(50),
            "after {latest}: {event}"
        );
        latest = latest.max(time);
    }
}

fn every_refused_connection_fails_once_with_its_owner() {
    expect_refusals(
        environment::connections(),
        "127.0.0.1:0",
        "127.0.0.1",
        "ipv4",
    );
}

fn every_refused_ipv6_connection_fails_once_with_its_owner() {
    expect_refusals(environment::connections() / 50, "[::1]:0", "::1", "ipv6");
}

fn expect_refusals(count: usize, address: &str, ip: &str, family: &str) {
    let ((pid, fact), events) =
        common::observe(|| workload::run("refused", &[&count.to_string(), address]));
    assert_eq!(fact["errno"], libc::ECONNREFUSED);
    let failed = select(&events, "connection_failed", pid);
    assert_eq!(failed.len(), count);
    for (event, local) in failed.iter().zip(fact["local"].as_array().expect("a list")) {
        event.expect("/event/outcome", "failure");
        event.expect("/error/code", "ECONNREFUSED");
        event.expect("/tracer/state", "REJ");
        event.expect("/network/type", family);
        event.expect("/network/direction", "egress");
        event.expect("/destination/ip", ip);
        event.expect("/destination/port", port(&fact));
        if *local != 0 {
            event.expect("/source/port", local.clone());
        }
    }
    expect_count(&events, "connection_opened", pid, 0);
    expect_count(&events, "connection_closed", pid, 0);
    expect_no_loss(&events);
}
