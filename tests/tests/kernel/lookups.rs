//! Names that processes ask for, and the connections that follow.

use tests::event::Event;
use tests::expectations::{only, port, select};
use tests::facts;
use tests::suite::Fact;
use tests::workload::{self, Workload};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_question_of_a_connected_socket_is_told_with_its_answer,
        a_question_of_an_unconnected_socket_is_told_with_its_answer,
        a_question_over_ipv6_is_told_with_its_answer,
        questions_for_both_families_at_once_are_two_look_ups,
        a_name_that_does_not_exist_is_told_so,
        a_question_that_nobody_answers_is_told_as_timed_out,
        a_question_over_a_stream_is_told_with_its_answer,
        a_question_over_a_stream_over_ipv6_is_told_with_its_answer,
        a_question_in_two_writes_is_told_with_its_answer,
        a_question_in_two_parts_is_told_with_its_answer,
        an_answer_that_is_peeked_at_and_read_at_once_is_told_once,
    ]
}

const SERVER: &str = "127.0.0.53";

/// Who asked, what came of it in order, and the connection that followed.
struct Asked {
    lookups: Vec<Event>,
    connection: Event,
}

#[track_caller]
fn ask(way: &str, server: &str, name: &str) -> Asked {
    let ((pid, fact), events) = common::observe(|| {
        let mut answering = Workload::start("answer", &[server]);
        answering.fact();
        let asked = workload::run("ask", &[way, server, name]);
        answering.finish();
        asked
    });
    let connections = select(&events, "connection_opened", pid);
    let to_port = |it: &&&Event| it.get("/destination/port") == Some(&port(&fact).into());
    let connection = connections.iter().find(to_port);
    let connection = (*connection.expect("the connection that follows")).clone();
    let lookups = select(&events, "dns_lookup", pid);
    for lookup in &lookups {
        lookup.expect("/dns/question/name", name);
        lookup.expect("/destination/ip", server);
        lookup.expect("/destination/port", 53);
        assert_eq!(lookup.words("/process/args")[2], "ask");
    }
    Asked {
        lookups: lookups.into_iter().cloned().collect(),
        connection,
    }
}

#[track_caller]
fn expect_answer(way: &str, server: &str, transport: &str, name: &str) {
    let Asked {
        lookups,
        connection,
    } = ask(way, server, name);
    let [lookup] = &lookups[..] else {
        panic!("one look-up rather than {lookups:#?}")
    };
    lookup.expect("/dns/question/type", "A");
    lookup.expect("/dns/response_code", "NOERROR");
    lookup.expect("/dns/resolved_ip", serde_json::json!(["127.0.0.1"]));
    lookup.expect("/event/outcome", "success");
    lookup.expect("/network/transport", transport);
    connection.expect("/destination/domain", name);
    connection.expect("/tracer/provenance/destination.domain", "process");
}

fn a_question_of_a_connected_socket_is_told_with_its_answer() {
    expect_answer("connected", SERVER, "udp", "connected.test");
}

fn a_question_of_an_unconnected_socket_is_told_with_its_answer() {
    expect_answer("unconnected", SERVER, "udp", "Unconnected.test");
}

fn a_question_over_ipv6_is_told_with_its_answer() {
    expect_answer("connected", "::1", "udp", "six.test");
}

fn a_question_over_a_stream_is_told_with_its_answer() {
    expect_answer("stream", SERVER, "tcp", "stream.test");
}

fn a_question_over_a_stream_over_ipv6_is_told_with_its_answer() {
    expect_answer("stream", "::1", "tcp", "six-stream.test");
}

fn a_question_in_two_writes_is_told_with_its_answer() {
    expect_answer("stream-in-two-writes", SERVER, "tcp", "writes.test");
}

fn a_question_in_two_parts_is_told_with_its_answer() {
    expect_answer("stream-in-two-parts", SERVER, "tcp", "parts.test");
}

fn an_answer_that_is_peeked_at_and_read_at_once_is_told_once() {
    expect_answer("stream-read-at-once", SERVER, "tcp", "once.test");
}

fn questions_for_both_families_at_once_are_two_look_ups() {
    let asked = ask("both-families", SERVER, "both.test");
    let mut kinds: Vec<_> = asked
        .lookups
        .iter()
        .map(|lookup| lookup.text("/dns/question/type"))
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["A", "AAAA"]);
    asked.connection.expect("/destination/domain", "both.test");
}

fn a_name_that_does_not_exist_is_told_so() {
    let asked = ask("connected", SERVER, "missing.test");
    assert_eq!(asked.lookups.len(), 1);
    asked.lookups[0].expect("/dns/response_code", "NXDOMAIN");
    asked.lookups[0].expect("/event/outcome", "failure");
    let named = asked.connection.get("/destination/domain");
    assert_ne!(named, Some(&"missing.test".into()));
}

fn a_question_that_nobody_answers_is_told_as_timed_out() {
    let ((pid, _), events) = common::run(|tracer| {
        let act = || {
            let mut answering = Workload::start("answer", &[SERVER]);
            answering.fact();
            let asked = workload::run("ask", &["unheard", SERVER, "silent.test"]);
            answering.finish();
            asked
        };
        tracer.observe_until(act, "that no answer came", |(pid, _), event| {
            event.is("dns_lookup", *pid)
        })
    });
    let lookup = only(&events, "dns_lookup", pid);
    lookup.expect("/dns/question/name", "silent.test");
    lookup.expect("/event/outcome", "failure");
    lookup.expect("/error/code", "ETIMEDOUT");
}
