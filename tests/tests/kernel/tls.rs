//! TLS handshakes, in a run that is asked for them, and the run that is not.

use std::io::Read as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{expect_count, expect_no_loss, only, port, select};
use tests::suite::Fact;
use tests::workload;
use tests::{bpf, command, facts, http, loopback, metrics, wait};

use crate::common;

static RUN: Mutex<Option<Tracer>> = Mutex::new(None);

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        nothing_is_told_unless_it_is_asked_for,
        one_program_looks_for_handshakes,
        a_handshake_is_told_with_the_connection_that_it_begins,
        a_handshake_over_ipv6_is_told,
        a_name_behind_a_large_key_is_told,
        a_handshake_that_is_too_long_is_told_without_what_is_missing,
        a_handshake_in_two_writes_is_told_as_far_as_the_first,
        what_is_sent_behind_a_handshake_changes_nothing,
        a_second_handshake_is_not_told,
        a_name_that_may_hide_another_is_marked,
        a_handshake_that_goes_with_the_syn_is_told_with_its_connection,
        what_curl_asks_for_is_told,
        what_begins_otherwise_is_not_told,
        a_handshake_that_cannot_be_read_is_counted,
        a_run_that_saw_handshakes_lost_nothing,
    ]
}

fn run<T>(act: impl FnOnce(&mut Tracer) -> T) -> T {
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    act(run.get_or_insert_with(|| Tracer::start(&["--tls"])))
}

const NAME: &str = "www.tls.test";

/// Who began a connection in this way, and all events.
#[track_caller]
fn greet(way: &str, address: &str) -> (u32, Value, Vec<Event>) {
    let act = || workload::run("greet", &[way, address, NAME]);
    let ((pid, fact), events) = run(|tracer| tracer.observe(act));
    (pid, fact, events)
}

/// What is told of the handshake: the name, the protocols, and whether it is cut.
#[track_caller]
fn expect_hello(events: &[Event], pid: u32, fact: &Value, protocols: &Value, truncated: bool) {
    let hello = only(events, "tls_client_hello", pid);
    let opened = only(events, "connection_opened", pid);
    hello.expect("/tls/client/server_name", NAME);
    if protocols.is_null() {
        hello.expect_absent("/tracer/tls/alpn");
    } else {
        hello.expect("/tracer/tls/alpn", protocols.clone());
    }
    hello.expect("/tracer/tls/truncated", truncated);
    for same in [
        "/tracer/connection_id",
        "/tracer/owner_provenance",
        "/tracer/lineage",
        "/process/entity_id",
        "/source",
        "/destination",
        "/network/community_id",
        "/network/direction",
    ] {
        hello.expect(same, opened.get(same).cloned().unwrap_or_default());
    }
    hello.expect("/destination/port", port(fact));
    hello.expect("/source/port", fact["local"].clone());
    hello.expect("/network/protocol", "tls");
    hello.expect_absent("/event/outcome");
    assert_eq!(hello.words("/process/args")[2], "greet");
    let closed = select(events, "connection_closed", pid);
    let closed = closed
        .iter()
        .find(|event| event.connection_id() == hello.connection_id());
    let closed = closed.expect("the connection is closed");
    closed.expect("/destination/domain", NAME);
    closed.expect("/tracer/provenance/destination.domain", "client_hello");
}

fn offered() -> Value {
    json!(["h2", "http/1.1"])
}

fn nothing_is_told_unless_it_is_asked_for() {
    let act = || workload::run("greet", &["at-once", "127.0.0.1", NAME]);
    let ((pid, _), events) = common::observe(act);
    expect_count(&events, "tls_client_hello", pid, 0);
    // Somebody else may have asked a name server for a name of that address.
    for closed in select(&events, "connection_closed", pid) {
        let domain = closed.get("/destination/domain").and_then(Value::as_str);
        assert_ne!(domain, Some(NAME));
    }
    assert_eq!(common::run(|tracer| programs(tracer)), [""; 0]);
}

/// The programs that look for handshakes.
fn programs(tracer: &Tracer) -> Vec<String> {
    let mut programs = bpf::programs_held_by(tracer.pid());
    assert!(!programs.is_empty(), "the tracer holds programs");
    programs.retain(|name| name.starts_with("client_hello"));
    programs
}

fn one_program_looks_for_handshakes() {
    let programs = run(|tracer| programs(tracer));
    assert_eq!(programs.len(), 1, "{programs:?}");
}

fn a_handshake_is_told_with_the_connection_that_it_begins() {
    let (pid, fact, events) = greet("at-once", "127.0.0.1");
    expect_hello(&events, pid, &fact, &offered(), false);
    let hello = only(&events, "tls_client_hello", pid);
    hello.expect("/tracer/tls/encrypted_client_hello", false);
}

fn a_handshake_over_ipv6_is_told() {
    let (pid, fact, events) = greet("at-once", "::1");
    expect_hello(&events, pid, &fact, &offered(), false);
}

fn a_name_behind_a_large_key_is_told() {
    let (pid, fact, events) = greet("with-large-key", "127.0.0.1");
    expect_hello(&events, pid, &fact, &offered(), false);
}

fn a_handshake_that_is_too_long_is_told_without_what_is_missing() {
    let (pid, _, events) = greet("with-larger-key", "127.0.0.1");
    let hello = only(&events, "tls_client_hello", pid);
    hello.expect_absent("/tls");
    hello.expect("/tracer/tls/truncated", true);
}

fn a_handshake_in_two_writes_is_told_as_far_as_the_first() {
    let (pid, fact, events) = greet("in-two", "127.0.0.1");
    expect_hello(&events, pid, &fact, &Value::Null, true);
}

fn what_is_sent_behind_a_handshake_changes_nothing() {
    let (pid, fact, events) = greet("with-data-behind", "127.0.0.1");
    expect_hello(&events, pid, &fact, &offered(), false);
}

fn a_second_handshake_is_not_told() {
    let (pid, fact, events) = greet("and-more", "127.0.0.1");
    expect_hello(&events, pid, &fact, &offered(), false);
}

fn a_name_that_may_hide_another_is_marked() {
    let (pid, fact, events) = greet("encrypted", "127.0.0.1");
    expect_hello(&events, pid, &fact, &offered(), false);
    let hello = only(&events, "tls_client_hello", pid);
    hello.expect("/tracer/tls/encrypted_client_hello", true);
}

fn a_handshake_that_goes_with_the_syn_is_told_with_its_connection() {
    for how in ["sent", "written"] {
        let ((pid, fact), events) = run(|tracer| {
            let act = || workload::run("fast-open", &[how, NAME]);
            tracer.observe_until(act, "the end of the acceptor", |(pid, _), event| {
                event.is("connection_closed", *pid) && event.text("/network/direction") == "ingress"
            })
        });
        assert_eq!(fact["with_syn"], true, "no data went with the SYN");
        let opened = only(&events, "connection_opened", pid);
        let hello = only(&events, "tls_client_hello", pid);
        hello.expect("/tls/client/server_name", NAME);
        hello.expect("/tracer/connection_id", opened.connection_id());
        hello.expect("/process/entity_id", opened.text("/process/entity_id"));
    }
}

/// Whom it asks hangs up, so that curl fails.
fn what_curl_asks_for_is_told() {
    let (listener, address) = loopback::listener();
    let (name, port) = ("www.curl.test", address.port());
    let answering = std::thread::spawn(move || listener.accept()?.0.read(&mut [0; 1]));
    let (url, place) = (
        format!("https://{name}:{port}/"),
        format!("{name}:{port}:127.0.0.1"),
    );
    let arguments = ["-sk", "--noproxy", "*", "--resolve", &place, &url];
    let mut curl = Command::new("curl");
    let act = || command::run(curl.args(arguments));
    let (finished, events) = run(|tracer| tracer.observe(act));
    // CURLE_SSL_CONNECT_ERROR
    assert_eq!(finished.code, Some(35), "{finished:#?}");
    let answered = answering.join().expect("the server does not panic");
    answered.expect("curl connects");
    let hello = events.iter().find(|event| {
        event.action() == "tls_client_hello" && event.get("/process/name") == Some(&"curl".into())
    });
    let hello = hello.expect("curl begins a handshake");
    hello.expect("/tls/client/server_name", name);
    hello.expect("/tracer/tls/alpn", offered());
    hello.expect("/tracer/tls/truncated", false);
    hello.expect("/destination/port", port);
}

fn what_begins_otherwise_is_not_told() {
    for way in ["something-else", "too-late", "short"] {
        let (pid, _, events) = greet(way, "127.0.0.1");
        expect_count(&events, "connection_opened", pid, 1);
        expect_count(&events, "tls_client_hello", pid, 0);
    }
}

fn malformed() -> f64 {
    let page = run(|tracer| http::get(tracer.metrics(), "/metrics"));
    let page = page.expect("the tracer serves metrics");
    metrics::sum(&page.body, "tracer_tls_malformed_total", &[]).expect("it is there")
}

fn a_handshake_that_cannot_be_read_is_counted() {
    let before = malformed();
    let (pid, _, events) = greet("malformed", "127.0.0.1");
    expect_count(&events, "connection_opened", pid, 1);
    expect_count(&events, "tls_client_hello", pid, 0);
    wait::until("it to be counted", || (malformed() > before).then_some(()));
}

fn a_run_that_saw_handshakes_lost_nothing() {
    run(|_| ());
    let tracer = RUN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ended = tracer.expect("it has just run").stop(Signal::TERM);
    expect_no_loss(&ended.events);
}

/// Ends the run if no test has.
pub(crate) fn abandon() {
    drop(RUN.lock().unwrap_or_else(PoisonError::into_inner).take());
}
