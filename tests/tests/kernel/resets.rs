//! Established connections that end by a reset, and who sent it.

use tests::expectations::{Exchange, expect_totals, port, select};
use tests::suite::Fact;
use tests::{facts, workload};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_reset_by_the_initiator_is_rsto_on_both_sides,
        a_reset_by_the_acceptor_is_rstr_on_both_sides,
        a_close_with_bytes_unread_is_a_reset,
    ]
}

fn a_reset_by_the_initiator_is_rsto_on_both_sides() {
    expect_reset("initiator", "RSTO");
}

fn a_reset_by_the_acceptor_is_rstr_on_both_sides() {
    expect_reset("acceptor", "RSTR");
}

fn a_close_with_bytes_unread_is_a_reset() {
    expect_reset("unread", "RSTR");
}

#[track_caller]
fn expect_reset(how: &str, state: &str) {
    let ((pid, fact), events) = common::observe(|| workload::run("reset", &[how]));
    assert_eq!(fact["errno"], libc::ECONNRESET);
    let closed = select(&events, "connection_closed", pid);
    assert_eq!(closed.len(), 2, "{closed:?}");
    for event in closed {
        event.expect("/source/port", fact["local"].clone());
        event.expect("/destination/port", port(&fact));
        expect_totals(
            event,
            &Exchange {
                port: event.source_port(),
                up: 5,
                down: 7,
            },
            state,
        );
    }
}
