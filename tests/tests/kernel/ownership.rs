//! Whose connection it is, where that is not simply the process that is looked at.

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{Exchange, expect_count, expect_totals, only, pid, port, select};
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{facts, procfs, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        connect_in_a_thread_belongs_to_the_process_and_its_leaders_name,
        connect_after_exec_belongs_to_the_same_process_with_its_new_image,
        connect_after_exec_in_a_thread_belongs_to_the_same_process,
        accept_with_the_peers_address_belongs_to_the_acceptor,
        accept_without_the_peers_address_belongs_to_the_acceptor,
        accept_in_a_thread_belongs_to_the_process,
        accept_in_a_forked_worker_belongs_to_the_worker,
        accept_that_already_waits_when_tracing_begins_has_its_process,
        a_connection_that_nobody_accepts_is_closed_once_under_its_listener,
    ]
}

/// Runs a workload that connects `count` times; its PID, the port, the acceptor and the exchanges.
pub(crate) fn connect(name: &str, arguments: &[&str], count: usize) -> (u32, u16, Vec<Exchange>) {
    let mut server = Workload::start("serve", &[&count.to_string(), "127.0.0.1:0"]);
    let port = port(&server.fact());
    let address = format!("127.0.0.1:{port}");
    let mut client = Workload::start(name, &[arguments, &[address.as_str()]].concat());
    let pid = client.pid();
    let told = server.fact();
    let exchanges = told
        .as_array()
        .expect("a list")
        .iter()
        .map(Exchange::of_acceptor)
        .collect();
    client.fact();
    client.finish();
    server.finish();
    (pid, port, exchanges)
}

fn connect_in_a_thread_belongs_to_the_process_and_its_leaders_name() {
    let ((pid, _, exchanges), events) = common::observe(|| connect("connect-in-thread", &[], 1));
    let opened = only(&events, "connection_opened", pid);
    opened.expect("/source/port", exchanges[0].port);
    opened.expect(
        "/process/name",
        only(&events, "process_exec", pid).text("/process/name"),
    );
    expect_totals(only(&events, "connection_closed", pid), &exchanges[0], "SF");
}

fn connect_after_exec_belongs_to_the_same_process_with_its_new_image() {
    expect_same_process_after_exec("leader");
}

fn connect_after_exec_in_a_thread_belongs_to_the_same_process() {
    expect_same_process_after_exec("thread");
}

#[track_caller]
fn expect_same_process_after_exec(caller: &str) {
    let ((pid, _, exchanges), events) =
        common::observe(|| connect("connect-then-exec", &[caller], 2));
    let opened = select(&events, "connection_opened", pid);
    let [before, after] = opened[..] else {
        panic!("{} connections of {pid}", opened.len())
    };
    before.expect("/source/port", exchanges[0].port);
    after.expect("/source/port", exchanges[1].port);
    after.expect("/process/entity_id", before.text("/process/entity_id"));
    after.expect("/process/parent/pid", std::process::id());
    assert_eq!(
        before.words("/process/args")[2],
        "connect-then-exec",
        "{before}"
    );
    assert_eq!(after.words("/process/args")[2], "connect", "{after}");
}

fn accept_with_the_peers_address_belongs_to_the_acceptor() {
    expect_acceptor("with-address");
}

fn accept_without_the_peers_address_belongs_to_the_acceptor() {
    expect_acceptor("without-address");
}

fn accept_in_a_thread_belongs_to_the_process() {
    expect_acceptor("in-thread");
}

fn accept_in_a_forked_worker_belongs_to_the_worker() {
    let (acceptor, events) = expect_acceptor("in-worker");
    let accepted = only(&events, "connection_accepted", acceptor);
    let listener = accepted.number("/process/parent/pid");
    let opened = |event: &&Event| {
        event.action() == "listen_opened" && event.get("/process/pid") == Some(&listener.into())
    };
    assert!(
        events.iter().any(|event| opened(&event)),
        "the parent did not listen: {accepted}"
    );
}

/// Connects to a workload that accepts in the way `how`; the acceptor and all events.
#[track_caller]
fn expect_acceptor(how: &str) -> (u32, Vec<Event>) {
    let ((fact, exchange), events) = common::observe(|| {
        let mut server = Workload::start("accept", &[how]);
        let fact = server.fact();
        meet(server, fact)
    });
    (expect_accepted(&events, &fact, &exchange), events)
}

/// Connects to a workload that has told where it accepts; that fact, and the exchange.
pub(crate) fn meet(mut server: Workload, fact: Value) -> (Value, Exchange) {
    workload::run("connect", &["1", &format!("127.0.0.1:{}", port(&fact))]);
    let exchange = Exchange::of_acceptor(&server.fact());
    server.finish();
    (fact, exchange)
}

#[track_caller]
pub(crate) fn expect_accepted(events: &[Event], fact: &Value, exchange: &Exchange) -> u32 {
    let acceptor = pid(fact, "acceptor");
    let accepted = only(events, "connection_accepted", acceptor);
    accepted.expect("/source/port", exchange.port);
    accepted.expect("/destination/port", port(fact));
    accepted.expect("/network/direction", "ingress");
    let closed = only(events, "connection_closed", acceptor);
    closed.expect("/tracer/connection_id", accepted.connection_id());
    expect_totals(closed, exchange, "SF");
    let ingress = events
        .iter()
        .filter(|event| event.action() == "connection_accepted");
    assert_eq!(
        ingress
            .filter(|event| event.destination_port() == port(fact))
            .count(),
        1,
        "accepted twice"
    );
    acceptor
}

fn accept_that_already_waits_when_tracing_begins_has_its_process() {
    let servers = ["with-address", "without-address"].map(|how| {
        let mut server = Workload::start("accept", &[how]);
        let fact = server.fact();
        wait::until("the workload to accept", || {
            procfs::waits_in_accept(server.pid()).then_some(())
        });
        (server, fact)
    });
    let mut tracer = Tracer::start(&[]);
    let (met, events) = tracer.observe(|| servers.map(|(server, fact)| meet(server, fact)));
    for (fact, exchange) in met {
        expect_accepted(&events, &fact, &exchange);
    }
    tracer.stop(Signal::TERM);
}

fn a_connection_that_nobody_accepts_is_closed_once_under_its_listener() {
    let ((pid, listener, client), events) = common::observe(|| {
        let mut server = Workload::start("accept-never", &[]);
        let pid = server.pid();
        let listener = port(&server.fact());
        let client = TcpStream::connect(("127.0.0.1", listener)).expect("it listens");
        server.go();
        server.fact();
        server.finish();
        (
            pid,
            listener,
            client.local_addr().expect("it was connected").port(),
        )
    });
    expect_count(&events, "connection_accepted", pid, 0);
    let closed = only(&events, "connection_closed", pid);
    closed.expect("/network/direction", "ingress");
    closed.expect("/source/port", client);
    closed.expect("/destination/port", listener);
    closed.expect("/tracer/owner_provenance", "inferred");
}
