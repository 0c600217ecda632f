//! What the tracer should have said about what a workload told: facts and events in, a panic that
//! shows the event where they differ.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::event::Event;
use crate::procfs;

/// The events with this action whose process has this PID, in order.
pub fn select<'a>(events: &'a [Event], action: &str, pid: u32) -> Vec<&'a Event> {
    events
        .iter()
        .filter(|event| event.is(action, pid))
        .collect()
}

/// The one event with this action and PID.
///
/// # Panics
/// If there is none, or more than one.
#[track_caller]
pub fn only<'a>(events: &'a [Event], action: &str, pid: u32) -> &'a Event {
    let found = select(events, action, pid);
    let [event] = found[..] else {
        panic!(
            "{} {action} of {pid} in {}",
            found.len(),
            shown(events, pid)
        )
    };
    event
}

/// Asserts that there are so many events with this action and PID.
#[track_caller]
pub fn expect_count(events: &[Event], action: &str, pid: u32, count: usize) {
    let found = select(events, action, pid).len();
    assert_eq!(found, count, "{action} of {pid} in {}", shown(events, pid));
}

/// Asserts that nothing was lost, but for what the kernel itself skipped: from 7.0 on one task preempts another in the
/// kernel, and a program without a backup is then skipped in the second one. That is rare, and told.
#[track_caller]
pub fn expect_no_loss(events: &[Event]) {
    const SKIPPED_MAX: u64 = 20;
    let preempts = procfs::kernel() >= (7, 0);
    let is_skip = |event: &&Event| preempts && event.text("/tracer/lost/stage") == "hook";
    let losses = events
        .iter()
        .filter(|event| event.action() == "events_lost");
    let (skips, lost): (Vec<_>, Vec<_>) = losses.partition(is_skip);
    let shown = |events: &[&Event]| {
        let losses = events
            .iter()
            .map(|event| event.json()["tracer"]["lost"].to_string());
        losses.collect::<Vec<_>>().join(", ")
    };
    assert!(lost.is_empty(), "losses: {}", shown(&lost));
    let skipped: u64 = skips
        .iter()
        .map(|event| event.number("/tracer/lost/count"))
        .sum();
    assert!(skipped <= SKIPPED_MAX, "skipped: {}", shown(&skips));
}

/// The actions of a process, for messages.
fn shown(events: &[Event], pid: u32) -> String {
    let of_process = events.iter().filter(|event| event.pid() == Some(pid));
    let actions: Vec<_> = of_process.map(Event::action).take(50).collect();
    format!("[{}] ({} events in all)", actions.join(", "), events.len())
}

/// One exchange between `connect` and `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The initiator's port.
    pub port: u16,
    /// Bytes from the initiator to the acceptor.
    pub up: u64,
    /// Bytes back.
    pub down: u64,
}

impl Exchange {
    /// From `[port, sent, received]`, as the initiator tells it.
    pub fn of_initiator(fact: &Value) -> Exchange {
        let [port, up, down] =
            [0, 1, 2].map(|index| fact[index].as_u64().expect("facts are numbers"));
        Exchange {
            port: u16::try_from(port).expect("a port"),
            up,
            down,
        }
    }

    /// The same, as the acceptor tells it.
    pub fn of_acceptor(fact: &Value) -> Exchange {
        let Exchange { port, up, down } = Exchange::of_initiator(fact);
        Exchange {
            port,
            up: down,
            down: up,
        }
    }
}

/// The port of a fact `{"port": …}`.
///
/// # Panics
/// If it has none.
#[track_caller]
pub fn port(fact: &Value) -> u16 {
    fact["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("the fact has a port")
}

/// A PID out of a fact.
///
/// # Panics
/// If it has none under this name.
#[track_caller]
pub fn pid(fact: &Value, name: &str) -> u32 {
    fact[name]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or_else(|| panic!("no PID {name} in {fact}"))
}

/// Everything that is known about the exchanges between a `connect` and a `serve`.
#[derive(Clone, Debug)]
pub struct Ledger<'a> {
    /// The initiator's PID.
    pub client: u32,
    /// The acceptor's PID.
    pub server: u32,
    /// Address of both, as it is to be written.
    pub ip: &'a str,
    /// `ipv4` or `ipv6`.
    pub family: &'a str,
    /// The acceptor's port.
    pub port: u16,
    /// In the order in which they were made.
    pub exchanges: Vec<Exchange>,
}

impl Ledger<'_> {
    /// Asserts that the events tell exactly these exchanges, from both sides.
    #[track_caller]
    pub fn expect(&self, events: &[Event]) {
        let egress = Side {
            ledger: self,
            owner: self.client,
            direction: "egress",
            opening: "connection_opened",
        };
        let ingress = Side {
            ledger: self,
            owner: self.server,
            direction: "ingress",
            opening: "connection_accepted",
        };
        let initiators = egress.expect(events);
        let acceptors = ingress.expect(events);
        for ((opened, opened_end), (accepted, accepted_end)) in initiators.iter().zip(&acceptors) {
            opened_end.expect("/tracer/peer_connection_id", accepted.connection_id());
            accepted_end.expect("/tracer/peer_connection_id", opened.connection_id());
            opened.expect(
                "/network/community_id",
                accepted.text("/network/community_id"),
            );
        }
        let ends = initiators
            .iter()
            .chain(&acceptors)
            .map(|(opening, _)| opening.connection_id());
        let distinct: HashSet<_> = ends.collect();
        assert_eq!(
            distinct.len(),
            2 * self.exchanges.len(),
            "connection ids repeat"
        );
    }
}

/// One side of a ledger.
struct Side<'a> {
    ledger: &'a Ledger<'a>,
    owner: u32,
    direction: &'a str,
    opening: &'a str,
}

impl Side<'_> {
    /// Opening and end of each connection, in the order of the exchanges.
    #[track_caller]
    fn expect<'a>(&self, events: &'a [Event]) -> Vec<(&'a Event, &'a Event)> {
        let count = self.ledger.exchanges.len();
        expect_count(events, self.opening, self.owner, count);
        expect_count(events, "connection_closed", self.owner, count);
        let openings = select(events, self.opening, self.owner);
        let closes = select(events, "connection_closed", self.owner);
        let closes: HashMap<_, _> = closes
            .into_iter()
            .map(|event| (event.connection_id(), event))
            .collect();
        let owner = openings
            .first()
            .map(|event| event.text("/process/entity_id"));
        let pairs = openings
            .into_iter()
            .zip(&self.ledger.exchanges)
            .map(|(opening, exchange)| {
                let Some(close) = closes.get(opening.connection_id()) else {
                    panic!("never closed: {opening}")
                };
                for event in [opening, close] {
                    self.expect_ends(event, exchange);
                    assert_eq!(Some(event.text("/process/entity_id")), owner, "in {event}");
                }
                opening.expect("/tracer/state", "S1");
                opening.expect("/event/outcome", "success");
                expect_totals(close, exchange, "SF");
                (opening, *close)
            });
        pairs.collect()
    }

    #[track_caller]
    fn expect_ends(&self, event: &Event, exchange: &Exchange) {
        event.expect("/network/transport", "tcp");
        event.expect("/network/type", self.ledger.family);
        event.expect("/network/direction", self.direction);
        event.expect("/source/ip", self.ledger.ip);
        event.expect("/source/port", exchange.port);
        event.expect("/destination/ip", self.ledger.ip);
        event.expect("/destination/port", self.ledger.port);
    }
}

/// Asserts how a connection ended and what it carried.
#[track_caller]
pub fn expect_totals(close: &Event, exchange: &Exchange, state: &str) {
    close.expect("/tracer/state", state);
    close.expect("/source/bytes", exchange.up);
    close.expect("/destination/bytes", exchange.down);
    assert!(
        close.number("/event/duration") > 0,
        "no duration in {close}"
    );
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use serde_json::json;

    use super::*;

    fn ledger() -> Ledger<'static> {
        let exchanges = vec![Exchange {
            port: 40000,
            up: 12,
            down: 34,
        }];
        Ledger {
            client: 7,
            server: 8,
            ip: "::1",
            family: "ipv6",
            port: 80,
            exchanges,
        }
    }

    fn event(action: &str, pid: u32, direction: &str, ids: [&str; 2]) -> Event {
        Event::from(json!({
            "event": {"action": action, "outcome": "success", "duration": 1},
            "network": {"transport": "tcp", "type": "ipv6", "direction": direction, "community_id": "1:a"},
            "source": {"ip": "::1", "port": 40000, "bytes": 12},
            "destination": {"ip": "::1", "port": 80, "bytes": 34},
            "process": {"pid": pid, "entity_id": "e"},
            "tracer": {"connection_id": ids[0], "peer_connection_id": ids[1],
                       "state": if action == "connection_closed" { "SF" } else { "S1" }},
        }))
    }

    /// What a tracer should say about [`ledger`].
    fn truth() -> Vec<Event> {
        vec![
            event("connection_opened", 7, "egress", ["a", "b"]),
            event("connection_accepted", 8, "ingress", ["b", "a"]),
            event("connection_closed", 7, "egress", ["a", "b"]),
            event("connection_closed", 8, "ingress", ["b", "a"]),
        ]
    }

    fn accepts(events: &[Event]) -> bool {
        catch_unwind(|| ledger().expect(events)).is_ok()
    }

    #[test]
    fn a_ledger_accepts_the_truth_and_does_not_mind_others() {
        let mut events = truth();
        events.push(event("connection_opened", 9, "egress", ["c", "d"]));
        ledger().expect(&events);
    }

    #[test]
    fn a_ledger_notices_each_event_that_is_missing_or_told_twice() {
        for index in 0..4 {
            let mut events = truth();
            let event = events.remove(index);
            assert!(!accepts(&events), "without {event}");
            events.extend([event.clone(), event]);
            assert!(!accepts(&events));
        }
    }

    #[test]
    fn a_ledger_notices_each_wrong_field_of_a_close() {
        let fields = [
            "/source/bytes",
            "/destination/bytes",
            "/source/port",
            "/destination/ip",
            "/network/direction",
            "/process/pid",
            "/process/entity_id",
            "/tracer/state",
            "/tracer/connection_id",
            "/tracer/peer_connection_id",
        ];
        for field in fields {
            let mut events = truth();
            let mut event = events[2].json().clone();
            *event.pointer_mut(field).expect("the field is there") = "wrong".into();
            events[2] = event.into();
            assert!(!accepts(&events), "{field} was wrong");
        }
    }
}
