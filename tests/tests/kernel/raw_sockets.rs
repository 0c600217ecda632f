//! Sockets that can see or forge traffic.

use serde_json::{Value, json};
use tests::environment::{self, HookMode};
use tests::event::Event;
use tests::expectations::{expect_count, only, select};
use tests::facts;
use tests::procfs::Process;
use tests::suite::Fact;
use tests::workload::{self, raw_sockets};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    let mut facts = facts![
        each_raw_and_packet_socket_is_told_and_no_other,
        a_raw_socket_is_told_with_the_namespace_that_it_is_in,
        a_socket_that_is_refused_is_not_told,
        a_socket_that_is_made_and_not_handed_out_is_told_where_its_making_is_seen,
    ];
    facts.extend(match raw_sockets::refusal_of_io_uring() {
        Some(_) => facts![no_socket_is_opened_through_io_uring_here],
        None => facts![a_raw_socket_through_io_uring_is_told_unless_only_system_calls_are_seen],
    });
    facts
}

/// What the workload opens: `network` and `tracer.socket`.
fn opened() -> [(Value, Value); 8] {
    let inet = |transport: &str, number: u32| {
        (
            json!({"transport": transport, "type": "ipv4", "iana_number": number.to_string()}),
            json!({"family": "inet", "type": "raw", "protocol": number}),
        )
    };
    let packet = |socket: Value| (Value::Null, socket);
    [
        inet("icmp", 1),
        (
            json!({"transport": "ipv6-icmp", "type": "ipv6", "iana_number": "58"}),
            json!({"family": "inet6", "type": "raw", "protocol": 58}),
        ),
        inet("tcp", 6),
        (
            json!({"type": "ipv6", "iana_number": "200"}),
            json!({"family": "inet6", "type": "raw", "protocol": 200}),
        ),
        packet(json!({"family": "packet", "type": "raw", "protocol": 3, "protocol_name": "all"})),
        packet(
            json!({"family": "packet", "type": "dgram", "protocol": 0x806, "protocol_name": "arp"}),
        ),
        packet(json!({"family": "packet", "type": "raw", "protocol": 0})),
        packet(
            json!({"family": "packet", "type": "packet", "protocol": 0x800, "protocol_name": "ipv4"}),
        ),
    ]
}

#[track_caller]
fn expect_opened(event: &Event, (network, socket): (Value, Value), netns: &Value) {
    event.expect("/event/category", json!(["network"]));
    event.expect("/event/type", json!(["info"]));
    event.expect("/event/outcome", "success");
    event.expect("/tracer/socket", socket);
    event.expect("/tracer/netns/id", netns.clone());
    if network.is_null() {
        event.expect_absent("/network");
    } else {
        event.expect("/network", network);
    }
}

fn each_raw_and_packet_socket_is_told_and_no_other() {
    let ((pid, fact), events) = common::observe(|| workload::run("raw-sockets", &["here"]));
    expect_count(&events, "socket_opened", pid, opened().len());
    let told = select(&events, "socket_opened", pid);
    let exec = only(&events, "process_exec", pid);
    let parent = std::process::id();
    for (event, expected) in told.into_iter().zip(opened()) {
        expect_opened(event, expected, &fact["netns"]);
        event.expect("/process/entity_id", exec.text("/process/entity_id"));
        event.expect("/process/parent/pid", parent);
        event.expect("/tracer/lineage", exec.json()["tracer"]["lineage"].clone());
        let name = Process::read(parent).expect("it lives").name;
        event.expect("/process/name", name);
    }
}

fn a_raw_socket_is_told_with_the_namespace_that_it_is_in() {
    let ((pid, fact), events) = common::observe(|| workload::run("raw-sockets", &["elsewhere"]));
    expect_count(&events, "socket_opened", pid, opened().len());
    let told = select(&events, "socket_opened", pid);
    for (event, expected) in told.into_iter().zip(opened()) {
        expect_opened(event, expected, &fact["netns"]);
    }
}

fn a_socket_that_is_refused_is_not_told() {
    let ((pid, _), events) = common::observe(|| workload::run("raw-sockets-refused", &[]));
    expect_count(&events, "process_exec", pid, 1);
    expect_count(&events, "socket_opened", pid, 0);
}

fn a_socket_that_is_made_and_not_handed_out_is_told_where_its_making_is_seen() {
    let ((pid, _), events) = common::observe(|| workload::run("raw-sockets-not-handed-out", &[]));
    let is_seen = environment::hook_mode() != HookMode::Tracepoint;
    expect_count(&events, "socket_opened", pid, if is_seen { 3 } else { 0 });
}

fn a_raw_socket_through_io_uring_is_told_unless_only_system_calls_are_seen() {
    let ((pid, _), events) = common::observe(|| workload::run("raw-socket-through-uring", &[]));
    let is_seen = environment::hook_mode() != HookMode::Tracepoint;
    expect_count(&events, "socket_opened", pid, usize::from(is_seen));
    for event in select(&events, "socket_opened", pid) {
        event.expect("/network/transport", "icmp");
    }
}

/// Where the kernel refuses, the refusal is the fact.
fn no_socket_is_opened_through_io_uring_here() {
    let refusal = raw_sockets::refusal_of_io_uring();
    assert!(refusal.is_some(), "this kernel opens sockets so");
}
