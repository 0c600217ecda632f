//! What the tracer does itself stays out of what it tells, unless it is asked to include it.

use std::net::SocketAddr;

use rustix::process::Signal;
use tests::daemon::Tracer;
use tests::event::Event;
use tests::suite::Fact;
use tests::{facts, http};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        neither_canary_nor_scrape_of_the_tracer_is_told,
        include_self_tells_them
    ]
}

fn scrape(metrics: SocketAddr) {
    let response = http::get(metrics, "/metrics").expect("the tracer serves metrics");
    assert_eq!(response.status, 200);
}

/// Whether the tracer or a child of it is the process of an event.
fn own(event: &Event, tracer: u32) -> bool {
    event.descends_from(tracer)
}

fn neither_canary_nor_scrape_of_the_tracer_is_told() {
    common::run(|tracer| {
        let pid = tracer.pid();
        let metrics = tracer.metrics();
        let ((), events) = tracer.observe(|| scrape(metrics));
        let seen = |action| {
            events.iter().any(|event| {
                event.is(action, std::process::id()) && event.destination_port() == metrics.port()
            })
        };
        assert!(seen("connection_opened"), "the scraper's own end is told");
        let told = tracer.events().iter().find(|event| own(event, pid));
        assert!(told.is_none(), "{}", told.expect("there is one"));
    });
}

fn include_self_tells_them() {
    let mut tracer = Tracer::start(&["--include-self"]);
    let pid = tracer.pid();
    scrape(tracer.metrics());
    let port = tracer.metrics().port();
    tracer.wait_for("the scrape is accepted", 0, |event| {
        event.is("connection_accepted", pid) && event.destination_port() == port
    });
    tracer.wait_for("the canary connects", 0, |event| {
        event.action() == "connection_opened" && own(event, pid)
    });
    tracer.wait_for("the canary executes", 0, |event| {
        event.action() == "process_exec" && own(event, pid)
    });
    tracer.wait_for("the canary opens a raw socket", 0, |event| {
        event.action() == "socket_opened" && own(event, pid)
    });
    tracer.stop(Signal::TERM);
}
