//! Flows from their first datagram to their end, with a kernel side that is made up.

use std::collections::HashMap;

use super::*;
use crate::event::{Event, EventKind, Name, Task};
use crate::observation::{Observation, Sink};
use crate::state::{Limits, State};

const SECOND: u64 = 1_000_000_000;

/// What was told of a flow: its stage, its owner's PID, datagrams sent and received, and those that were new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    stage: FlowStage,
    owner: Option<u32>,
    totals: (u64, u64),
    new: (u64, u64),
}

#[derive(Default)]
struct Heard {
    told: Vec<Told>,
    ids: Vec<ConnectionId>,
    lost: u64,
}

impl Sink for Heard {
    fn observe(&mut self, observation: &Observation<'_>) {
        match &observation.fact {
            Fact::DatagramFlow {
                connection,
                process,
                stage,
                totals,
                new,
                ..
            } => {
                let packets = |totals: &FlowTotals| (totals.sent_packets, totals.received_packets);
                self.ids.push(connection.id);
                self.told.push(Told {
                    stage: *stage,
                    owner: process.map(|image| image.key.tgid),
                    totals: packets(totals),
                    new: packets(new),
                });
            }
            Fact::Lost(loss) => self.lost += loss.count,
            _ => {}
        }
    }

    fn flush(&mut self) {}
}

/// The state, and a kernel that counts.
struct Bench {
    state: State,
    heard: Heard,
    counted: HashMap<FlowKey, FlowTotals>,
}

fn task(tgid: u32) -> Task {
    Task {
        tgid,
        tid: tgid,
        start_ns: Some(1),
        euid: Some(0),
        kernel_thread: false,
        parent: None,
        name: Name::default(),
    }
}

/// A socket's datagram with a peer at this port; the socket has the generation 0 unless told.
#[derive(Clone, Copy)]
struct Datagram {
    socket: u64,
    generation: u64,
    port: u16,
    owner: Option<u32>,
    received: bool,
}

fn sent(socket: u64, port: u16, owner: u32) -> Datagram {
    Datagram {
        socket,
        generation: 0,
        port,
        owner: Some(owner),
        received: false,
    }
}

impl Datagram {
    fn without_owner(self) -> Self {
        Self {
            owner: None,
            ..self
        }
    }

    fn of_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    fn key(&self) -> FlowKey {
        FlowKey([self.socket, self.generation, self.port.into(), 0])
    }
}

impl Bench {
    fn new(flows: usize) -> Self {
        let limits = Limits {
            flows,
            ..Limits::default()
        };
        Self {
            state: State::new(limits),
            heard: Heard::default(),
            counted: HashMap::new(),
        }
    }

    /// As the kernel programs do: counts it, and tells the first.
    fn datagram(&mut self, time: u64, datagram: Datagram) {
        let time = BootTime(time);
        let is_first = !self.counted.contains_key(&datagram.key());
        let totals = self.counted.entry(datagram.key()).or_default();
        let packets = if datagram.received {
            &mut totals.received_packets
        } else {
            &mut totals.sent_packets
        };
        *packets += 1;
        totals.last = time;
        if is_first {
            let local = ([127, 0, 0, 1], 4000).into();
            let kind = EventKind::Flow(FirstDatagram {
                key: datagram.key(),
                socket: SocketId(datagram.socket),
                protocol: Protocol::UDP,
                task: datagram.owner.map(task),
                endpoints: Endpoints {
                    netns: 1,
                    local,
                    remote: ([127, 0, 0, 1], datagram.port).into(),
                    ipv6_socket: false,
                },
                received: datagram.received,
                own_header: false,
                bytes: 10,
                packets: 1,
            });
            self.event(time, kind);
        }
    }

    fn event(&mut self, time: BootTime, kind: EventKind<'static>) {
        self.state.event(&Event { time, kind }, &mut self.heard);
        self.answer(time);
    }

    fn close(&mut self, time: u64, socket: u64) {
        self.event(BootTime(time), EventKind::DatagramClose(SocketId(socket)));
    }

    fn advance(&mut self, time: u64) {
        self.state.advance(BootTime(time), &mut self.heard);
        self.answer(BootTime(time));
    }

    fn answer(&mut self, time: BootTime) {
        loop {
            let questions = self.state.take_questions();
            if questions.is_empty() {
                return;
            }
            for question in questions {
                let totals = self.counted.get(&question.key).copied();
                if question.last {
                    self.counted.remove(&question.key);
                }
                self.state.answer(question, totals, time, &mut self.heard);
            }
        }
    }

    fn stages(&self) -> Vec<FlowStage> {
        self.heard.told.iter().map(|told| told.stage).collect()
    }
}

use FlowStage::{End, Info, Start};

#[test]
fn a_flow_ends_with_its_socket_and_all_that_it_carried() {
    let mut bench = Bench::new(8);
    for time in 0..5 {
        bench.datagram(SECOND + time, sent(1, 53, 20));
    }
    bench.close(2 * SECOND, 1);
    let owner = Some(20);
    let start = Told {
        stage: Start,
        owner,
        totals: (1, 0),
        new: (1, 0),
    };
    let end = Told {
        stage: End,
        owner,
        totals: (5, 0),
        new: (4, 0),
    };
    assert_eq!(bench.heard.told, [start, end]);
    assert_eq!(bench.heard.ids[0], bench.heard.ids[1]);
    assert!(bench.counted.is_empty(), "what is over is not kept");
}

#[test]
fn a_flow_that_goes_on_is_told_once_a_minute() {
    let mut bench = Bench::new(8);
    for time in 0..150 {
        bench.datagram((1 + time) * SECOND, sent(1, 53, 20));
        bench.advance((1 + time) * SECOND);
    }
    assert_eq!(bench.stages(), [Start, Info, Info]);
    let new: u64 = bench.heard.told.iter().map(|told| told.new.0).sum();
    assert_eq!(
        new, bench.heard.told[2].totals.0,
        "each datagram is new once"
    );
}

#[test]
fn a_flow_that_is_idle_for_a_minute_ends_and_begins_anew() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 20));
    for time in 2..61 {
        bench.advance(time * SECOND);
        assert_eq!(bench.stages(), [Start], "after {time} s");
    }
    bench.advance(61 * SECOND);
    assert_eq!(bench.stages(), [Start, End]);
    bench.datagram(80 * SECOND, sent(1, 53, 20));
    bench.close(81 * SECOND, 1);
    assert_eq!(bench.stages(), [Start, End, Start, End]);
    assert_ne!(bench.heard.ids[1], bench.heard.ids[2]);
}

#[test]
fn a_flow_that_the_kernel_counts_elsewhere_is_still_one() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 20));
    bench.datagram(SECOND + 1, sent(1, 53, 20));
    for _ in 0..3 {
        bench.datagram(SECOND + 2, sent(1, 53, 20).of_generation(1));
    }
    bench.close(2 * SECOND, 1);
    assert_eq!(bench.stages(), [Start, End]);
    assert_eq!(bench.heard.told[1].totals, (5, 0));
    assert!(bench.counted.is_empty());
}

#[test]
fn a_socket_with_the_address_of_one_whose_close_was_lost_has_its_own_flow() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 20));
    bench.datagram(2 * SECOND, sent(1, 53, 30).of_generation(1));
    bench.close(3 * SECOND, 1);
    let owners: Vec<_> = bench.heard.told.iter().map(|told| told.owner).collect();
    assert_eq!(bench.stages(), [Start, Start, End, End]);
    assert_eq!(owners, [Some(20), Some(30), Some(20), Some(30)]);
}

#[test]
fn an_owner_who_is_told_after_the_datagram_owns_its_flow() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 0).without_owner());
    assert_eq!(bench.stages(), []);
    let owner = EventKind::DatagramOwner {
        socket: SocketId(1),
        task: task(20),
        by_connect: false,
    };
    bench.event(BootTime(SECOND + 1), owner);
    bench.datagram(SECOND + 2, sent(1, 54, 0).without_owner());
    assert_eq!(bench.stages(), [Start, Start]);
    assert!(bench.heard.told.iter().all(|told| told.owner == Some(20)));
}

#[test]
fn flows_of_a_socket_are_told_in_the_order_in_which_they_began() {
    let mut bench = Bench::new(16);
    for port in 1..=12 {
        bench.datagram(SECOND + u64::from(port), sent(1, port, 0).without_owner());
    }
    let owner = EventKind::DatagramOwner {
        socket: SocketId(1),
        task: task(20),
        by_connect: false,
    };
    bench.event(BootTime(SECOND + 20), owner);
    bench.close(SECOND + 30, 1);
    let (starts, ends) = bench.heard.ids.split_at(12);
    assert!(starts.is_sorted(), "{starts:?}");
    assert_eq!(starts, ends);
}

#[test]
fn an_owner_who_is_not_told_in_time_is_unknown() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 0).without_owner());
    bench.advance(SECOND + UNOWNED_NS - 1);
    assert_eq!(bench.stages(), []);
    bench.advance(SECOND + UNOWNED_NS);
    assert_eq!(bench.stages(), [Start]);
    assert_eq!(bench.heard.told[0].owner, None);
}

#[test]
fn flows_for_which_there_is_no_room_are_counted() {
    let mut bench = Bench::new(2);
    for port in 1..=5 {
        bench.datagram(SECOND, sent(1, port, 20));
    }
    bench.advance(SECOND + 1);
    assert_eq!(bench.stages(), [Start, Start]);
    assert_eq!(bench.heard.lost, 3);
    assert_eq!(
        bench.counted.len(),
        2,
        "the kernel keeps no more than the state"
    );
}

#[test]
fn everything_ends_when_tracing_does() {
    let mut bench = Bench::new(8);
    bench.datagram(SECOND, sent(1, 53, 20));
    bench.datagram(SECOND, sent(2, 53, 20));
    bench.state.end_flows(&mut bench.heard);
    bench.answer(BootTime(2 * SECOND));
    assert_eq!(bench.stages(), [Start, Start, End, End]);
    assert!(bench.counted.is_empty());
}
