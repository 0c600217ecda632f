//! Connections that begin inside a write.

use tests::expectations::{Exchange, expect_count, expect_totals, port, select};
use tests::facts;
use tests::suite::Fact;
use tests::workload;

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_connection_that_begins_in_sendto_belongs_to_the_sender,
        a_connection_that_begins_in_a_write_belongs_to_the_process,
    ]
}

fn a_connection_that_begins_in_sendto_belongs_to_the_sender() {
    expect_connection("sent");
}

fn a_connection_that_begins_in_a_write_belongs_to_the_process() {
    expect_connection("written");
}

#[track_caller]
fn expect_connection(how: &str) {
    let ((pid, fact), events) = common::run(|tracer| {
        let act = || workload::run("fast-open", &[how]);
        tracer.observe_until(act, "the end of the acceptor", |(pid, _), event| {
            event.is("connection_closed", *pid) && event.text("/network/direction") == "ingress"
        })
    });
    assert_eq!(fact["with_syn"], true, "no data went with the SYN");
    let number = |name: &str| fact[name].as_u64().expect("a number");
    let exchange = Exchange {
        port: u16::try_from(number("local")).expect("a port"),
        up: number("up"),
        down: number("down"),
    };
    expect_count(&events, "connection_opened", pid, 1);
    expect_count(&events, "connection_accepted", pid, 1);
    expect_count(&events, "connection_failed", pid, 0);
    let closed = select(&events, "connection_closed", pid);
    assert_eq!(closed.len(), 2, "{closed:?}");
    for event in closed {
        event.expect("/source/port", exchange.port);
        event.expect("/destination/port", port(&fact));
        event.expect("/tracer/owner_provenance", "kernel");
        expect_totals(event, &exchange, "SF");
    }
}
