//! Names that processes ask for, and the connections that follow.

use std::process::Stdio;

use tests::event::Event;
use tests::expectations::{only, port, select};
use tests::http::OneAnswer;
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{command, facts};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_question_of_a_connected_socket_is_told_with_its_answer,
        a_question_of_an_unconnected_socket_is_told_with_its_answer,
        a_question_over_ipv6_is_told_with_its_answer,
        an_answer_that_lies_in_a_page_of_its_own_is_told,
        questions_for_both_families_at_once_are_two_look_ups,
        questions_of_two_sockets_at_once_are_two_look_ups,
        a_name_that_does_not_exist_is_told_so,
        a_question_that_nobody_answers_is_told_as_timed_out,
        a_question_over_a_stream_is_told_with_its_answer,
        a_question_over_a_stream_over_ipv6_is_told_with_its_answer,
        a_question_in_two_writes_is_told_with_its_answer,
        a_question_in_two_parts_is_told_with_its_answer,
        an_answer_that_is_peeked_at_and_read_at_once_is_told_once,
        dig_is_told_with_what_it_asks,
        dig_over_a_stream_is_told_with_what_it_asks,
        getent_is_told_with_what_it_asks,
        curl_is_told_with_what_it_asks_and_connects_to_it,
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

/// As what many drivers receive does, but for short packets.
fn an_answer_that_lies_in_a_page_of_its_own_is_told() {
    expect_answer("connected", SERVER, "udp", "pages.test");
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
    expect_both_families("both-families", "both.test");
}

/// As Go's own resolver does.
fn questions_of_two_sockets_at_once_are_two_look_ups() {
    expect_both_families("two-sockets", "two.test");
}

#[track_caller]
fn expect_both_families(way: &str, name: &str) {
    let asked = ask(way, SERVER, name);
    let mut kinds: Vec<_> = asked
        .lookups
        .iter()
        .map(|lookup| lookup.text("/dns/question/type"))
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["A", "AAAA"]);
    asked.connection.expect("/destination/domain", name);
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

/// Most questions, and their answer.
const OVER_UDP: [&str; 3] = ["udp", "A", "127.0.0.1"];

/// Runs a program for which `SERVER` is the name server. What it asked for: over which transport, for what kind
/// of address, and the answer; and all events.
#[track_caller]
fn resolve(name: &str, expected: [&str; 3], program: &[&str]) -> (Event, Vec<Event>) {
    let [transport, kind, address] = expected;
    let directory = tempfile::tempdir().expect("a directory");
    let servers = directory.path().join("resolv.conf");
    std::fs::write(&servers, format!("nameserver {SERVER}\n")).expect("a file");
    let servers = servers.to_str().expect("its name is UTF-8");
    let arguments = [&[servers, "/etc/resolv.conf"], program].concat();
    let (finished, events) = common::observe(|| {
        let mut answering = Workload::start("answer", &[SERVER]);
        answering.fact();
        let finished =
            command::run(workload::command("with-mount", &arguments).stdout(Stdio::piped()));
        answering.finish();
        finished
    });
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let lookups = events.iter().filter(|event| {
        event.action() == "dns_lookup" && event.get("/dns/question/name") == Some(&name.into())
    });
    let lookups = lookups.collect::<Vec<_>>();
    let [lookup] = lookups[..] else {
        panic!("one look-up rather than {lookups:#?}")
    };
    lookup.expect("/process/name", program[0]);
    lookup.expect("/process/args", program);
    lookup.expect("/dns/question/type", kind);
    lookup.expect("/dns/response_code", "NOERROR");
    lookup.expect("/dns/resolved_ip", serde_json::json!([address]));
    lookup.expect("/destination/ip", SERVER);
    lookup.expect("/network/transport", transport);
    (lookup.clone(), events)
}

fn dig_is_told_with_what_it_asks() {
    resolve("dig.test", OVER_UDP, &["dig", "+short", "dig.test"]);
}

fn dig_over_a_stream_is_told_with_what_it_asks() {
    let program = ["dig", "+short", "+tcp", "dig-stream.test"];
    resolve("dig-stream.test", ["tcp", "A", "127.0.0.1"], &program);
}

/// It asks for an IPv6 address first, and is content with that.
fn getent_is_told_with_what_it_asks() {
    let program = ["getent", "hosts", "getent.test"];
    resolve("getent.test", ["udp", "AAAA", "::1"], &program);
}

fn curl_is_told_with_what_it_asks_and_connects_to_it() {
    let server = OneAnswer::listen();
    let port = server.address.port();
    let url = format!("http://curl.test:{port}/");
    let answering = std::thread::spawn(move || server.answer());
    let program = ["curl", "-4sS", "--noproxy", "*", &url];
    let (lookup, events) = resolve("curl.test", OVER_UDP, &program);
    answering.join().expect("it answers");
    let curl = lookup.pid().expect("it has an owner");
    let connections = select(&events, "connection_opened", curl);
    let [connection] = connections[..] else {
        panic!("one connection rather than {connections:#?}")
    };
    connection.expect("/destination/port", port);
    connection.expect("/destination/domain", "curl.test");
    connection.expect("/tracer/provenance/destination.domain", "process");
}
