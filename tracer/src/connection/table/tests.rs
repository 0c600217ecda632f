//! What the table does at its limits. The rules themselves are told by `tests/replay/*.txt`.

use std::collections::HashSet;

use super::*;
use crate::connection::endpoints::sample as endpoints;
use crate::event::{Close, Event, EventKind, Name, SocketMoment, Task, TcpState};
use crate::state::{Limits, State};

/// What was said, in a word and a number.
#[derive(Default)]
struct Heard {
    said: Vec<(&'static str, u64)>,
    ids: Vec<ConnectionId>,
}

impl Sink for Heard {
    fn observe(&mut self, observation: &Observation<'_>) {
        let (word, connection) = match &observation.fact {
            Fact::ConnectionOpened { connection, .. } => ("opened", connection),
            Fact::ConnectionClosed { connection, .. } => ("closed", connection),
            Fact::ConnectionFailed { connection, .. } => ("failed", connection),
            Fact::Lost(loss) => return self.said.push((loss.kind, loss.count)),
            _ => return,
        };
        self.said.push((word, connection.socket.0));
        self.ids.push(connection.id);
    }

    fn flush(&mut self) {}
}

fn connect(socket: u64) -> EventKind<'static> {
    EventKind::Connect(SocketMoment {
        socket: SocketId(socket),
        task: Task {
            tgid: 20,
            tid: 20,
            start_ns: Some(1),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: Name::default(),
        },
        endpoints: endpoints(socket),
        state: TcpState::SynSent,
    })
}

fn established(socket: u64) -> EventKind<'static> {
    let endpoints = endpoints(socket);
    EventKind::Established {
        socket: SocketId(socket),
        endpoints,
        inbound: false,
    }
}

fn close(socket: u64, old_state: TcpState) -> EventKind<'static> {
    EventKind::Close(Close {
        socket: SocketId(socket),
        endpoints: endpoints(socket),
        old_state,
        errno: None,
        fin_received: false,
        held: false,
        further: false,
        totals: None,
    })
}

struct Bench {
    state: State,
    heard: Heard,
}

impl Bench {
    fn new(connections: usize) -> Self {
        let limits = Limits {
            connections,
            ..Limits::default()
        };
        Bench {
            state: State::new(limits),
            heard: Heard::default(),
        }
    }

    fn at(&mut self, time: u64, kinds: impl IntoIterator<Item = EventKind<'static>>) {
        for kind in kinds {
            self.state.event(
                &Event {
                    time: BootTime(time),
                    kind,
                },
                &mut self.heard,
            );
        }
    }

    fn ring_lost_closes(&mut self, time: u64, count: u64) {
        let loss = Loss {
            stage: "ring",
            kind: "close",
            unit: LossUnit::Event,
            count,
        };
        self.state.lost(loss, BootTime(time), &mut self.heard);
    }

    fn counters(&self) -> ConnectionCounters {
        self.state.counters().connections
    }
}

#[test]
fn oldest_connection_makes_room_and_the_loss_is_told() {
    let mut bench = Bench::new(3);
    bench.at(
        1,
        (1..=5).flat_map(|socket| [connect(socket), established(socket)]),
    );
    bench.state.advance(BootTime(2), &mut bench.heard);
    bench.state.advance(BootTime(3), &mut bench.heard);
    let opened = (1..=5).map(|socket| ("opened", socket));
    let expected: Vec<_> = opened.chain([("connection", 2)]).collect();
    assert_eq!(bench.heard.said, expected);
    let counters = bench.counters();
    assert_eq!((counters.evictions, counters.active_egress), (2, 3));
    assert_eq!(bench.state.counters().connection_entries, 3);
}

#[test]
fn held_entries_make_room_without_a_loss() {
    let mut bench = Bench::new(2);
    for socket in 1..=4 {
        bench.at(1, [connect(socket), close(socket, TcpState::SynSent)]);
    }
    bench.state.drain(&mut bench.heard);
    let failed: Vec<_> = (1..=4).map(|socket| ("failed", socket)).collect();
    assert_eq!(bench.heard.said, failed);
    assert_eq!(bench.counters().evictions, 0);
}

#[test]
fn owner_is_forgotten_with_its_last_connection() {
    let mut bench = Bench::new(10);
    bench.at(1, [connect(1), established(1)]);
    let EventKind::Connect(moment) = connect(1) else {
        unreachable!()
    };
    bench.at(
        2,
        [EventKind::Exit {
            task: moment.task,
            status: 0,
        }],
    );
    bench
        .state
        .advance(BootTime(60_000_000_000), &mut bench.heard);
    assert_eq!(bench.state.counters().process_entries, 1);
    bench.at(60_000_000_001, [close(1, TcpState::LastAck)]);
    assert_eq!(bench.state.counters().process_entries, 0);
}

#[test]
fn every_connection_has_an_identity_of_its_own_even_if_times_repeat() {
    let mut bench = Bench::new(100);
    for time in [5, 6, 5, 5, 7, 6, 6, 5, 8, 5] {
        bench.at(time, [connect(1), established(1)]);
    }
    let distinct: HashSet<_> = bench.heard.ids.iter().collect();
    assert_eq!((bench.heard.ids.len(), distinct.len()), (10, 10));
}

#[test]
fn reset_is_waited_for_two_milliseconds_and_an_error_fifty() {
    let mut bench = Bench::new(10);
    bench.at(
        1,
        [connect(1), established(1), close(1, TcpState::FinWait2)],
    );
    bench.at(1, [connect(2), close(2, TcpState::SynSent)]);
    for time in [ENDING_NS, WAITING_NS] {
        bench.state.advance(BootTime(time), &mut bench.heard);
        bench.heard.said.push(("time", time));
        assert_eq!(bench.state.due(), Some(BootTime(time + 1)));
        bench.state.advance(BootTime(time + 1), &mut bench.heard);
    }
    assert_eq!(bench.state.due(), None);
    let expected = [
        ("opened", 1),
        ("time", ENDING_NS),
        ("closed", 1),
        ("time", WAITING_NS),
        ("failed", 2),
    ];
    assert_eq!(bench.heard.said, expected);
}

#[test]
fn close_that_the_ring_lost_and_the_entry_that_it_left_are_one_loss() {
    let mut bench = Bench::new(10);
    bench.at(1, [connect(1), established(1), connect(2), established(2)]);
    bench.ring_lost_closes(2, 1);
    // Both addresses are used again: one of the entries is explained.
    bench.at(3, [connect(1), connect(2)]);
    bench.state.advance(BootTime(4), &mut bench.heard);
    bench.ring_lost_closes(5, 1);
    bench.ring_lost_closes(6, 1);
    let lost: Vec<_> = bench
        .heard
        .said
        .iter()
        .filter(|it| it.0 == "close")
        .collect();
    assert_eq!(lost, [&("close", 1), &("close", 1), &("close", 1)]);
    assert_eq!(bench.counters().lost_closes, 2);
}
