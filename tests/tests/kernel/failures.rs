//! Attempts that come to nothing, each for its own reason.

use serde_json::Value;
use tests::environment::{self, HookMode};
use tests::event::Event;
use tests::expectations::{expect_count, only, port, select};
use tests::suite::Fact;
use tests::{facts, workload};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_refused_connect_that_does_not_wait_fails_like_one_that_does,
        a_connect_without_a_route_fails,
        a_connect_given_up_by_its_process_is_cancelled,
        a_connect_without_an_answer_times_out,
        a_connect_that_a_router_cannot_deliver_is_unreachable,
    ]
}

fn a_refused_connect_that_does_not_wait_fails_like_one_that_does() {
    let ((pid, fact), events) = common::observe(|| workload::run("refused-later", &[]));
    assert_eq!(fact["errno"], libc::ECONNREFUSED);
    let failed = the_failure(&events, pid, port(&fact));
    failed.expect("/error/code", "ECONNREFUSED");
    failed.expect("/tracer/state", "REJ");
}

fn a_connect_without_a_route_fails() {
    let ((pid, fact), events) = common::run(|tracer| {
        let act = || workload::run("unreachable", &[]);
        tracer.observe_until(act, "the failure over IPv6", |(pid, _), event| {
            event.is("connection_failed", *pid) && event.text("/network/type") == "ipv6"
        })
    });
    let failed = select(&events, "connection_failed", pid);
    assert_eq!(failed.len(), 2, "{failed:?}");
    let unreachable = [("203.0.113.1", "ipv4"), ("2001:db8::1", "ipv6")];
    for (event, (ip, family)) in failed.into_iter().zip(unreachable) {
        event.expect("/destination/ip", ip);
        event.expect("/destination/port", 443);
        event.expect("/tracer/state", "S0");
        match environment::hook_mode() {
            HookMode::Fentry | HookMode::Kprobe => {
                event.expect("/error/code", errno_name(&fact[family]));
            }
            HookMode::Tracepoint => event.expect_absent("/error/code"),
        }
    }
    expect_count(&events, "connection_opened", pid, 0);
}

fn a_connect_given_up_by_its_process_is_cancelled() {
    // What was given up is told once no system call can say more about it.
    let ((pid, fact), events) = common::run(|tracer| {
        let act = || workload::run("give-up", &[]);
        tracer.observe_until(act, "the failure", |(pid, _), event| {
            event.is("connection_failed", *pid)
        })
    });
    let failed = the_failure(&events, pid, port(&fact));
    failed.expect("/error/code", "ECANCELED");
    failed.expect("/tracer/state", "S0");
    failed.expect("/source/port", fact["local"].clone());
}

fn a_connect_without_an_answer_times_out() {
    let ((pid, fact), events) = common::observe(|| workload::run("time-out", &[]));
    assert_eq!(fact["errno"], libc::ETIMEDOUT);
    let failed = the_failure(&events, pid, port(&fact));
    failed.expect("/error/code", "ETIMEDOUT");
    failed.expect("/tracer/state", "S0");
}

fn a_connect_that_a_router_cannot_deliver_is_unreachable() {
    let ((pid, fact), events) = common::observe(|| workload::run("told-unreachable", &[]));
    assert_eq!(fact["errno"], libc::EHOSTUNREACH);
    let failed = the_failure(&events, pid, port(&fact));
    failed.expect("/error/code", "EHOSTUNREACH");
    failed.expect("/tracer/state", "S0");
    failed.expect("/source/port", fact["local"].clone());
}

/// What a kernel says that has no route; for IPv6 it depends on which look-up fails first.
#[track_caller]
fn errno_name(errno: &Value) -> &'static str {
    match errno.as_i64().and_then(|errno| i32::try_from(errno).ok()) {
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        _ => panic!("errno {errno} is not for want of a route"),
    }
}

/// The one failure of a process, after which nothing else is said about that connection.
#[track_caller]
fn the_failure(events: &[Event], pid: u32, port: u16) -> &Event {
    let failed = only(events, "connection_failed", pid);
    failed.expect("/event/outcome", "failure");
    failed.expect("/destination/ip", "127.0.0.1");
    failed.expect("/destination/port", port);
    let id = failed.get("/tracer/connection_id");
    let told = events
        .iter()
        .filter(|event| event.get("/tracer/connection_id") == id)
        .count();
    assert_eq!(told, 1, "more is said about {failed}");
    failed
}
