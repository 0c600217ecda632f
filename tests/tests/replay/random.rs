//! Whatever comes out of the ring, in whatever order: some things must never be said.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use tracer::dns::Lookup;
use tracer::dns::names::KnownFrom;
use tracer::event::{
    AcceptSeen, BootTime, Close, DnsPayload, Endpoints, Errno, Event, EventKind, ExaminedSocket,
    Exec, Flow, FlowKey, FlowTotals, HeldSocket, HelloPayload, Membership, Name, ProcessKey,
    Protocol, RawFamily, RawSocket, RawType, SocketId, SocketMoment, Subflow, Task, TcpState,
    Transport,
};
use tracer::observation::{
    Connection, ConnectionId, Direction, Fact, FlowStage, Observation, Sink,
};
use tracer::process::image::Image;
use tracer::state::{Limits, Snapshot, State};

use crate::recorded::{Rewriter, Written};
use crate::text::Transcript;

const SMALL: Limits = Limits {
    processes: 6,
    connections: 4,
    flows: 3,
};

/// Which address `a` has?
const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
/// 127.0.0.1.
const ANSWER: &[u8] = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\
    \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01";

/// What a TLS client may send, without any extension.
const HELLO: &[u8] =
    b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x03RandomRandomRandomRandomRandom!!\0\0\x02\x13\x01\x01\0";

/// A few numbers, out of which an event is made. Few processes, sockets and ports, so that
/// everything collides.
#[derive(Clone, Debug)]
struct Dice {
    verb: u8,
    process: u32,
    start: u64,
    socket: u64,
    local: u16,
    remote: u16,
    state: u8,
    errno: u32,
    step: i64,
}

prop_compose! {
    fn dice()(
        (verb, process, start, socket) in (0..22u8, 1..6u32, 0..3u64, 0..3u64),
        (local, remote) in (0..4u16, 0..4u16),
        (state, errno) in (0..12u8, 0..5u32),
        step in prop_oneof![-50_000..1_000_000i64, 0..60_000_000i64],
    ) -> Dice {
        Dice { verb, process, start, socket, local, remote, state, errno, step }
    }
}

impl Dice {
    fn task(&self) -> Task {
        Task {
            tgid: self.process,
            tid: self.process + u32::from(self.state % 2),
            start_ns: (self.start > 0).then_some(self.start),
            euid: (self.start > 0).then_some(u32::from(self.state)),
            kernel_thread: false,
            parent: None,
            name: Name([b'a' + self.state; 16]),
        }
    }

    fn endpoints(&self) -> Endpoints {
        let end = |port| ([127, 0, 0, u8::from(port > 0)], port).into();
        Endpoints {
            netns: 1,
            local: end(self.local),
            remote: end(self.remote),
            ipv6_socket: self.state.is_multiple_of(3),
        }
    }

    fn state(&self) -> TcpState {
        use TcpState::{
            Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen,
            SynReceived, SynSent,
        };
        let states = [
            Established,
            SynSent,
            SynReceived,
            FinWait1,
            FinWait2,
            Close,
            CloseWait,
            LastAck,
            Listen,
            Closing,
            SynSent,
            Established,
        ];
        states[usize::from(self.state)]
    }

    fn errno(&self) -> Option<Errno> {
        [
            None,
            Some(Errno(104)),
            Some(Errno(111)),
            Some(Errno(110)),
            Some(Errno(115)),
        ][self.errno as usize]
    }

    fn moment(&self) -> SocketMoment {
        SocketMoment {
            socket: SocketId(self.socket),
            task: self.task(),
            endpoints: self.endpoints(),
            state: self.state(),
        }
    }

    fn kind(&self) -> EventKind<'static> {
        let socket = SocketId(self.socket);
        match self.verb {
            0 => EventKind::Fork {
                parent: self.task(),
                child: self.child(),
                membership: Membership::default(),
            },
            1 => EventKind::Exec(Exec::of(self.task(), b"sh\0")),
            2 => EventKind::Exit {
                task: self.task(),
                status: 0,
            },
            3 | 4 => EventKind::Connect(self.moment()),
            5 => EventKind::Attempt(self.moment()),
            6 => EventKind::ConnectError(self.moment(), self.errno().unwrap_or(Errno(101))),
            7 => EventKind::Accept(self.moment(), self.seen()),
            8 => EventKind::Listen(self.moment()),
            9 => EventKind::Established {
                socket,
                endpoints: self.endpoints(),
                inbound: self.errno == 0,
            },
            10 => EventKind::ResetSent(socket),
            11 => EventKind::Subflow(Subflow {
                socket,
                upper: self.upper().unwrap_or(SocketId(100)),
                endpoints: self.endpoints(),
                further: self.start.is_multiple_of(2),
                inbound: self.errno == 0,
            }),
            12 => EventKind::SocketCreated(RawSocket {
                socket: None,
                task: self.task(),
                netns: 1,
                family: RawFamily::Packet,
                socket_type: RawType::Raw,
                protocol: self.errno,
            }),
            13 => EventKind::Dns(self.dns()),
            14 => EventKind::Flow(self.flow()),
            15 => EventKind::DatagramOwner {
                socket,
                task: self.task(),
                by_connect: self.errno == 0,
            },
            16 => EventKind::DatagramClose(socket),
            17 => EventKind::ClientHello(HelloPayload {
                socket,
                endpoints: self.endpoints(),
                bytes: if self.errno == 0 { b"" } else { HELLO },
            }),
            _ => EventKind::Close(self.close()),
        }
    }

    fn flow(&self) -> Flow {
        let endpoints = self.endpoints();
        Flow {
            key: FlowKey([
                self.socket,
                u64::from(self.errno),
                endpoints.remote.port().into(),
                0,
            ]),
            socket: SocketId(self.socket),
            protocol: Protocol::UDP,
            task: self.state.is_multiple_of(2).then(|| self.task()),
            endpoints,
            received: self.start > 1,
            own_header: false,
            bytes: 10,
            packets: 1,
        }
    }

    /// What the kernel side may know of a flow.
    fn totals(&self, last: BootTime) -> Option<FlowTotals> {
        (self.errno > 0).then(|| FlowTotals {
            sent_packets: self.start,
            last,
            ..FlowTotals::default()
        })
    }

    /// A question, its answer, or something that is neither.
    fn dns(&self) -> DnsPayload<'static> {
        let bytes = [QUESTION, ANSWER, &ANSWER[..30], b"\0\x1d", b"?"][self.errno as usize];
        DnsPayload {
            socket: SocketId(self.socket),
            task: self.state.is_multiple_of(2).then(|| self.task()),
            endpoints: self.endpoints(),
            transport: if self.start > 1 {
                Transport::Tcp
            } else {
                Transport::Udp
            },
            received: self.errno > 0,
            bytes,
            truncated: self.state > 10,
            sequence: NonZeroU32::new(self.errno * 29),
        }
    }

    fn close(&self) -> Close {
        Close {
            socket: SocketId(self.socket),
            endpoints: self.endpoints(),
            old_state: self.state(),
            errno: self.errno(),
            fin_received: false,
            held: self.start.is_multiple_of(2),
            further: self.start.is_multiple_of(3),
            totals: None,
        }
    }

    /// Adds to what somebody finds who looks at the kernel's sockets; true when he has seen all.
    fn look(&self, time: BootTime, snapshot: &mut Snapshot) -> bool {
        match self.verb {
            19 => snapshot.held.push(HeldSocket {
                time,
                close: self.close(),
                holder: self.task(),
                descriptor: self.errno,
                inode: self.socket,
                upper: self.upper(),
            }),
            20 => snapshot.examined.push(ExaminedSocket {
                socket: SocketId(self.socket),
                found: (self.errno > 0).then(|| self.endpoints()),
            }),
            _ => snapshot.complete_at = time,
        }
        self.verb > 20
    }

    /// One of two, or none.
    fn upper(&self) -> Option<SocketId> {
        let upper = u64::from(self.local % 3);
        (upper > 0).then_some(SocketId(99 + upper))
    }

    fn child(&self) -> ProcessKey {
        ProcessKey {
            tgid: u32::from(self.state) + 1,
            start_ns: self.start + 1,
        }
    }

    fn seen(&self) -> AcceptSeen {
        [
            AcceptSeen::AtAccept,
            AcceptSeen::ByDescriptor,
            AcceptSeen::ByPeerName,
        ][usize::from(self.local % 3)]
    }
}

fn key(task: &Task) -> ProcessKey {
    ProcessKey {
        tgid: task.tgid,
        start_ns: task.start_ns.unwrap_or(0),
    }
}

/// Who was named by any record, and what was said of each connection.
#[derive(Default)]
struct Judge {
    named: HashSet<ProcessKey>,
    begun: HashMap<ConnectionId, u32>,
    ended: HashSet<ConnectionId>,
    failed: HashSet<ConnectionId>,
    /// Who began a TLS handshake.
    greeted: HashSet<ConnectionId>,
    /// Whose questions were answered.
    answered: HashSet<ProcessKey>,
}

impl Judge {
    fn name(&mut self, event: &EventKind<'_>) {
        let task = match event {
            EventKind::Fork { parent, child, .. } => {
                self.named.insert(*child);
                parent
            }
            EventKind::Exec(exec) => &exec.task,
            EventKind::Exit { task, .. } => task,
            EventKind::Connect(moment)
            | EventKind::Attempt(moment)
            | EventKind::ConnectError(moment, _)
            | EventKind::Accept(moment, _)
            | EventKind::Listen(moment) => &moment.task,
            EventKind::SocketCreated(socket) => &socket.task,
            EventKind::DatagramOwner { task, .. }
            | EventKind::Flow(Flow {
                task: Some(task), ..
            }) => task,
            EventKind::Dns(DnsPayload {
                task: Some(task), ..
            }) => task,
            _ => return,
        };
        self.named.insert(key(task));
    }

    fn connection(&mut self, connection: &Connection, process: Option<&Image>) {
        assert_eq!(
            connection.owner,
            process.map(|image| image.key),
            "{connection:?}"
        );
        assert!(
            connection
                .owner
                .is_none_or(|owner| self.named.contains(&owner))
        );
        if let Some(domain) = &connection.domain {
            let has_asked = connection
                .owner
                .is_some_and(|owner| self.answered.contains(&owner));
            assert_eq!(connection.direction, Direction::Egress);
            assert!(has_asked || domain.known_from != KnownFrom::Process);
        }
        assert_ne!(connection.peer, Some(connection.id));
        assert!(
            !self.failed.contains(&connection.id),
            "a failure is final: {connection:?}"
        );
    }

    fn lookup(&mut self, lookup: &Lookup, process: Option<&Arc<Image>>) {
        assert!(process.is_none_or(|image| self.named.contains(&image.key)));
        assert_eq!(&*lookup.question.name, "a");
        let has_answer = lookup.answer().is_some_and(|answer| answer.code == 0);
        if let (true, Some(image)) = (has_answer, process) {
            self.answered.insert(image.key);
        }
    }

    fn begin(&mut self, connection: &Connection) {
        let times = self.begun.entry(connection.id).or_default();
        *times += 1;
        assert_eq!(*times, 1, "begun twice: {connection:?}");
    }

    fn end(&mut self, connection: &Connection) {
        assert!(
            self.ended.insert(connection.id),
            "ended twice: {connection:?}"
        );
    }
}

impl Sink for Judge {
    fn observe(&mut self, observation: &Observation<'_>) {
        match &observation.fact {
            Fact::ProcessForked(image) | Fact::ProcessExecuted(image) => {
                assert!(image.lineage().count() <= 258);
                assert!(image.lineage().all(|image| self.named.contains(&image.key)));
            }
            Fact::Lookup {
                lookup, process, ..
            } => self.lookup(lookup, *process),
            Fact::ProcessExited { .. } | Fact::Detected { .. } | Fact::Lost(_) => {}
            Fact::ClientHello {
                connection,
                process,
                ..
            } => match connection {
                Some(connection) => {
                    self.connection(connection, process.map(|image| &**image));
                    assert!(!self.ended.contains(&connection.id));
                    assert!(self.greeted.insert(connection.id), "told twice");
                }
                None => assert!(process.is_none()),
            },
            Fact::DatagramFlow {
                connection,
                process,
                stage,
                ..
            } => {
                self.connection(connection, process.map(|image| &**image));
                match stage {
                    FlowStage::Start => self.begin(connection),
                    FlowStage::Info => assert!(!self.ended.contains(&connection.id)),
                    FlowStage::End => self.end(connection),
                }
            }
            Fact::SocketOpened { process, .. } => {
                let process = process.expect("a task opened it");
                assert!(self.named.contains(&process.key));
            }
            Fact::ConnectionOpened {
                connection,
                process,
                ..
            }
            | Fact::ConnectionAccepted {
                connection,
                process,
            }
            | Fact::ConnectionExisting {
                connection,
                process,
                ..
            }
            | Fact::ListenOpened {
                connection,
                process,
                ..
            } => {
                self.connection(connection, process.map(|image| &**image));
                self.begin(connection);
            }
            Fact::ConnectionClosed {
                connection,
                process,
                ..
            }
            | Fact::ListenClosed {
                connection,
                process,
            } => {
                self.connection(connection, process.map(|image| &**image));
                self.end(connection);
            }
            Fact::ConnectionFailed {
                connection,
                process,
                ..
            } => {
                self.connection(connection, process.map(|image| &**image));
                assert!(!self.begun.contains_key(&connection.id));
                self.end(connection);
                self.failed.insert(connection.id);
            }
        }
    }

    fn flush(&mut self) {}
}

fn events(dice: &[Dice]) -> Vec<Event<'static>> {
    let mut now = 1_000_000_000_i64;
    let event = |dice: &Dice| {
        now += dice.step;
        Event {
            time: BootTime(now.unsigned_abs()),
            kind: dice.kind(),
        }
    };
    dice.iter().map(event).collect()
}

fn transcript(events: &[Event<'_>]) -> String {
    let mut state = State::new(SMALL);
    let mut transcript = Transcript::default();
    for event in events {
        state.event(event, &mut transcript);
    }
    state.drain(&mut transcript);
    transcript.end(&state.counters())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_events_makes_the_state_lie_or_grow(
        dice in prop::collection::vec(dice(), 0..300),
        limits in prop_oneof![Just(SMALL), Just(Limits::default())],
    ) {
        let mut state = State::new(limits);
        let mut judge = Judge::default();
        let mut snapshot = Snapshot::default();
        for (dice, event) in dice.iter().zip(events(&dice)) {
            if dice.verb < 19 {
                judge.name(&event.kind);
                state.event(&event, &mut judge);
            } else if dice.look(event.time, &mut snapshot) {
                judge.named.extend(snapshot.held.iter().map(|held| key(&held.holder)));
                state.compare(std::mem::take(&mut snapshot));
            } else if dice.local == 0 {
                state.advance(event.time, &mut judge);
                state.settle(event.time, dice.remote.into(), &mut judge);
            }
            for question in state.take_questions() {
                state.answer(question, dice.totals(event.time), event.time, &mut judge);
            }
            let counters = state.counters();
            prop_assert!(counters.process_entries <= limits.processes);
            prop_assert!(counters.connection_entries <= limits.connections);
            let connections = counters.connections;
            let lasting =
                connections.active_egress + connections.active_ingress + connections.active_unknown
                    + connections.listeners;
            prop_assert!(lasting <= counters.connection_entries as u64);
        }
        state.drain(&mut judge);
        let entries = state.counters().connection_entries;
        state.advance(BootTime(u64::MAX), &mut judge);
        prop_assert_eq!(state.counters().connection_entries, entries, "drained once and for all");
    }

    #[test]
    fn what_is_written_of_any_events_is_read_and_written_again_as_it_was(
        dice in prop::collection::vec(dice(), 0..120),
    ) {
        let mut state = State::new(Limits::default());
        let mut written = Written::default();
        let mut snapshot = Snapshot::default();
        for (dice, event) in dice.iter().zip(events(&dice)) {
            if dice.verb < 19 {
                state.event(&event, &mut written);
            } else if dice.look(event.time, &mut snapshot) {
                state.compare(std::mem::take(&mut snapshot));
            } else if dice.local == 0 {
                state.advance(event.time, &mut written);
                state.settle(event.time, dice.remote.into(), &mut written);
            }
            for question in state.take_questions() {
                state.answer(question, dice.totals(event.time), event.time, &mut written);
            }
        }
        state.drain(&mut written);
        let mut rewriter = Rewriter::default();
        for (sequence, line) in written.lines.iter().enumerate() {
            prop_assert_eq!(rewriter.rewritten(line, sequence as u64), Ok(line.clone()));
        }
    }

    #[test]
    fn same_events_give_the_same_observations(
        dice in prop::collection::vec(dice(), 0..200),
    ) {
        let events = events(&dice);
        prop_assert_eq!(transcript(&events), transcript(&events));
    }
}
