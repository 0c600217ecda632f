//! What led to a connection: the contact that was being served when it came about.

use std::net::TcpStream;

use serde_json::json;
use tests::event::Event;
use tests::expectations::{only, port};
use tests::facts;
use tests::suite::Fact;
use tests::workload::Workload;

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        what_a_child_of_a_session_does_comes_of_its_only_visitor,
        of_two_visitors_the_latest_is_possible,
    ]
}

fn what_a_child_of_a_session_does_comes_of_its_only_visitor() {
    expect_cause(1, "likely");
}

fn of_two_visitors_the_latest_is_possible() {
    expect_cause(2, "possible");
}

/// A server accepts `visitors` connections, and then a shell of its connects somewhere.
fn expect_cause(visitors: usize, certainty: &str) {
    let ((session, visitor, target), events) = common::observe(|| {
        let mut target = Workload::start("serve", &["1", "127.0.0.1:0"]);
        let target_port = port(&target.fact());
        let address = format!("127.0.0.1:{target_port}");
        let count = visitors.to_string();
        let mut session = Workload::start("accept-and-run", &[&count, &address]);
        let session_port = port(&session.fact());
        let visit = |_| TcpStream::connect(("127.0.0.1", session_port)).expect("it listens");
        let visits: Vec<TcpStream> = (0..visitors).map(visit).collect();
        session.fact();
        target.fact();
        target.finish();
        let latest = visits.last().and_then(|visit| visit.local_addr().ok());
        let latest = latest.expect("it is connected").port();
        let pid = session.pid();
        session.finish();
        (pid, latest, target_port)
    });
    let is_target = |event: &&Event| {
        event.action() == "connection_opened" && event.destination_port() == target
    };
    let opened = events.iter().find(is_target).expect("it connected");
    let accepted = events
        .iter()
        .find(|event| event.is("connection_accepted", session) && event.source_port() == visitor);
    let accepted = accepted.expect("it accepted");
    let shell = opened.number("/process/parent/pid");
    let executed = only(
        &events,
        "process_exec",
        u32::try_from(shell).expect("a PID"),
    );
    for event in [opened, executed] {
        let [link] = event.list("/tracer/cause") else {
            panic!("not one link: {event}")
        };
        assert_eq!(link["connection_id"], accepted.connection_id(), "{event}");
        assert_eq!(link["peer"], json!({"ip": "127.0.0.1", "port": visitor}));
        assert_eq!(link["process"]["pid"], session, "{event}");
        assert_eq!(link["certainty"], certainty, "{event}");
        assert_eq!(link["candidates"], visitors, "{event}");
    }
    accepted.expect_absent("/tracer/cause");
}
