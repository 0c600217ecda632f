//! The state that everything else looks at: who runs, and who is connected to whom.
//!
//! In: the start inventory, events in ring order, the kernel's own sockets now and then, the passing of
//! time, losses. Out: observations to a [`Sink`]. One task owns a [`State`], and nothing else changes it. It reads no clock and does
//! no I/O: the same inputs give the same observations, which is how it is tested.

mod hello;

use std::sync::Arc;

use crate::connection::flows::{FlowTable, Question};
use crate::connection::holders::Holders;
use crate::connection::table::{ConnectionCounters, ConnectionTable, Context, Ids};
use crate::dns::lookups::{LookupCounters, Lookups};
use crate::dns::unowned::Unowned;
use crate::event::{
    BootTime, CgroupId, Close, DnsPayload, Event, EventKind, ExaminedSocket, FlowTotals,
    HeldSocket, ProcessKey, RawSocket, SocketId, SocketMoment, Transport,
};
use crate::observation::{Connection, Fact, Loss, LossUnit, Observation, Sink};
use crate::process::image::{Image, Provenance};
use crate::process::inventory::ExistingProcess;
use crate::process::population::Population;
use crate::process::secrets::Secrets;
use crate::process::table::{ProcessId, ProcessTable};
use crate::tls::hellos::{HelloCounters, Hellos};

/// Where names are asked for.
const DNS_PORT: u16 = 53;

/// How large the tables may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes, alive or still needed.
    pub processes: usize,
    /// Sockets that have a part in a connection.
    pub connections: usize,
    /// Flows of datagrams.
    pub flows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            processes: 65_536,
            connections: 262_144,
            flows: 65_536,
        }
    }
}

/// What the state counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// About connections.
    pub connections: ConnectionCounters,
    /// Sockets in the table.
    pub connection_entries: usize,
    /// Processes in the table.
    pub process_entries: usize,
    /// Processes that had to make room for others, since the start.
    pub process_evictions: u64,
    /// Cgroups that had to make room for others, since the start.
    pub cgroup_evictions: u64,
    /// About look-ups.
    pub lookups: LookupCounters,
    /// About TLS handshakes.
    pub hellos: HelloCounters,
}

/// The kernel's own sockets, as somebody found them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When he began to look.
    pub begun_at: BootTime,
    /// Every socket that a process holds, once for each holder and descriptor, in the order found.
    pub held: Vec<HeldSocket>,
    /// What lies where [suspects](State::suspects) were.
    pub examined: Vec<ExaminedSocket>,
    /// When he had seen all.
    pub complete_at: BootTime,
}

/// Who runs, and who is connected to whom.
#[derive(Debug)]
pub struct State {
    processes: ProcessTable,
    connections: ConnectionTable,
    flows: FlowTable,
    lookups: Lookups,
    unowned: Unowned,
    hellos: Hellos,
    now: BootTime,
}

impl State {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        State {
            processes: ProcessTable::new(limits.processes),
            connections: ConnectionTable::new(limits.connections),
            flows: FlowTable::new(limits.flows),
            lookups: Lookups::new(),
            unowned: Unowned::default(),
            hellos: Hellos::default(),
            now: BootTime::default(),
        }
    }

    /// The same, but that these secrets are masked rather than the obvious ones.
    pub fn masking(mut self, secrets: Secrets) -> Self {
        self.processes.mask(secrets);
        self
    }

    /// Takes the processes, in any order, that were alive at `taken_at`: after the hooks were
    /// attached, so that nobody is missed, and before their first event is applied.
    pub fn inventory(
        &mut self,
        taken_at: BootTime,
        processes: impl IntoIterator<Item = ExistingProcess>,
    ) {
        self.processes
            .inventory(taken_at, processes.into_iter().collect());
    }

    /// There is a cgroup of this ID and path. Those of the start come before its
    /// [inventory](Self::inventory).
    pub fn cgroup(&mut self, id: CgroupId, path: &[u8]) {
        self.processes.cgroup_mkdir(id, path);
    }

    /// Takes the kernel's own sockets. The first time, these are what was there before; later, what is
    /// not known was missed. It is told by [`settle`](Self::settle), when the records up to then have been
    /// applied, or with the record that happened to it.
    pub fn compare(&mut self, snapshot: Snapshot) {
        self.connections.compare(snapshot);
    }

    /// Sockets of the table, at most `limit`, that nobody held: perhaps they are gone.
    pub fn suspects(&self, snapshot: &Snapshot, limit: usize) -> Vec<SocketId> {
        self.connections.suspects(snapshot, limit)
    }

    /// Who holds one socket, as it was found.
    pub fn holders(&self, held: &[HeldSocket]) -> Vec<Arc<Image>> {
        Holders::of(held).images(&self.processes)
    }

    /// Who opened one socket: whoever was seen to, else whoever of its holders must have.
    pub fn owner(&self, held: &[HeldSocket]) -> (Option<Arc<Image>>, Provenance) {
        let close = held.first().map(|held| &held.close);
        let seen = close.and_then(|close| self.connections.owner(close, &self.processes));
        let inferred = || {
            let opener = Holders::of(held).opener(&self.processes)?;
            let image = self.processes.image(opener)?;
            Some((Arc::clone(image), Provenance::Inferred))
        };
        match seen.or_else(inferred) {
            Some((owner, provenance)) => (Some(owner), provenance),
            None => (None, Provenance::Unknown),
        }
    }

    /// The connection or listener that was found so, if it is known.
    pub fn connection(&self, found: &Close) -> Option<Connection> {
        self.connections.connection(found)
    }

    /// Everyone who is known.
    pub fn population(&self) -> Population {
        self.processes.population()
    }

    /// The youngest living child of a process.
    pub fn child_of(&self, parent: ProcessKey) -> Option<ProcessKey> {
        self.processes.child_of(parent)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> impl Iterator<Item = Connection> {
        self.connections.iter_open()
    }

    /// Applies the next event of the ring.
    pub fn event(&mut self, event: &Event<'_>, sink: &mut dyn Sink) {
        self.pass(event.time, sink);
        let time = event.time;
        if self.connections.is_comparing() {
            let (connections, mut context) = self.split(time, sink);
            connections.reconcile(time, &event.kind, &mut context);
        }
        match &event.kind {
            EventKind::Fork {
                parent,
                child,
                membership,
            } => {
                let forker = self.processes.seen(time, parent);
                let processes = &mut self.processes;
                let cause = self.connections.cause_of_fork(time, forker, processes);
                let image = processes.fork(time, forker, *child, membership, cause);
                sink.observe(&Observation {
                    time,
                    fact: Fact::ProcessForked(image),
                });
            }
            EventKind::Exec(exec) => {
                let over = self.connections.over(&exec.streams);
                let image = self.processes.exec(time, exec, over);
                sink.observe(&Observation {
                    time,
                    fact: Fact::ProcessExecuted(image),
                });
            }
            EventKind::Exit { task, status } => {
                if let Some(process) = self.processes.exit(time, task) {
                    let fact = Fact::ProcessExited {
                        process,
                        status: *status,
                    };
                    sink.observe(&Observation { time, fact });
                }
            }
            EventKind::CgroupMkdir { cgroup, path } => self.processes.cgroup_mkdir(*cgroup, path),
            EventKind::CgroupRmdir(cgroup) => self.processes.cgroup_rmdir(*cgroup),
            EventKind::CgroupAttach {
                process,
                cgroup,
                path,
            } => self.processes.cgroup_attach(*process, *cgroup, *path),
            EventKind::Connect(moment) => {
                self.moment(time, moment, sink, ConnectionTable::connect);
                if self.hellos.is_waiting() {
                    self.tell_waiting_hello(moment.socket, sink);
                }
            }
            EventKind::Attempt(moment) => self.moment(time, moment, sink, ConnectionTable::attempt),
            EventKind::ConnectError(moment, errno) => {
                self.moment(
                    time,
                    moment,
                    sink,
                    |connections, moment, process, context| {
                        connections.connect_error(moment, *errno, process, context);
                    },
                );
            }
            EventKind::Accept(moment, seen) => {
                self.moment(
                    time,
                    moment,
                    sink,
                    |connections, moment, process, context| {
                        connections.accept(moment, *seen, process, context);
                    },
                );
            }
            EventKind::Listen(moment) => {
                self.moment(time, moment, sink, ConnectionTable::listen);
                if moment.endpoints.local.port() == DNS_PORT {
                    let process = self.processes.seen(time, &moment.task);
                    self.note_resolver(Some(process));
                }
            }
            EventKind::Established {
                socket,
                endpoints,
                inbound,
            } => {
                let (connections, mut context) = self.split(time, sink);
                if *inbound {
                    connections.established_inbound(*socket, endpoints, &mut context);
                } else {
                    connections.established_outbound(*socket, endpoints, false, &mut context);
                }
            }
            EventKind::Subflow(subflow) => {
                let (connections, mut context) = self.split(time, sink);
                connections.subflow(subflow, &mut context);
            }
            EventKind::Close(close) => {
                let (connections, mut context) = self.split(time, sink);
                connections.close(close, &mut context);
                if close.endpoints.remote.port() == DNS_PORT {
                    self.lookups.close(close.socket, &close.endpoints);
                }
            }
            EventKind::ResetSent(socket) => {
                let (connections, mut context) = self.split(time, sink);
                connections.reset_sent(*socket, &mut context);
            }
            EventKind::Flow(flow) => {
                let task = flow.task.as_ref();
                let process = task.map(|task| self.processes.seen(time, task));
                let (flows, ids, mut context) = self.split_flows(time, sink);
                flows.begin(flow, process, ids, &mut context);
                let owner = process.or_else(|| self.flows.owner_of(flow.socket));
                if flow.endpoints.local.port() == DNS_PORT {
                    self.note_resolver(owner);
                }
            }
            EventKind::DatagramOwner {
                socket,
                task,
                by_connect,
            } => {
                let process = self.processes.seen(time, task);
                let (flows, _, mut context) = self.split_flows(time, sink);
                flows.owner(*socket, process, *by_connect, &mut context);
                if self.flows.is_at_port(*socket, DNS_PORT) {
                    self.note_resolver(Some(process));
                }
                for waiting in self.unowned.take(*socket) {
                    let asker = self.processes.image(process);
                    self.lookups
                        .payload(waiting.time, &waiting.payload(), asker, sink);
                }
            }
            EventKind::DatagramClose(socket) => {
                let (flows, _, mut context) = self.split_flows(time, sink);
                flows.close(*socket, &mut context);
            }
            EventKind::Dns(payload) => self.dns(time, payload, sink),
            EventKind::SocketCreated(socket) => self.socket_opened(time, socket, sink),
            EventKind::ClientHello(payload) => self.client_hello(time, payload, sink),
        }
    }

    /// Every event before `drained_up_to` has been applied: whoever waits for an earlier one waits in
    /// vain. Also tells what the tables lost since the last call.
    pub fn advance(&mut self, drained_up_to: BootTime, sink: &mut dyn Sink) {
        self.pass(drained_up_to, sink);
        self.report_losses(sink);
    }

    /// Tells of at most `limit` of the sockets that a comparison found, if every event before
    /// `drained_up_to`, which is after its end, has been applied.
    pub fn settle(&mut self, drained_up_to: BootTime, limit: usize, sink: &mut dyn Sink) {
        if self.is_comparing() {
            let (connections, mut context) = self.split(self.now, sink);
            connections.settle(drained_up_to, limit, &mut context);
        }
    }

    /// Whether there is something left to [settle](Self::settle).
    pub fn is_comparing(&self) -> bool {
        self.connections.is_comparing()
    }

    /// When [`advance`](Self::advance) will have something to report although nothing happens.
    pub fn due(&self) -> Option<BootTime> {
        let dues = [
            self.connections.due(),
            self.flows.due(),
            self.lookups.due(),
            self.unowned.due(),
            self.hellos.due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Totals of flows that are wanted.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.flows.take_questions()
    }

    /// The answer to a question, as of `time`; `None` if the kernel side knows nothing of the flow.
    pub fn answer(
        &mut self,
        question: Question,
        totals: Option<FlowTotals>,
        time: BootTime,
        sink: &mut dyn Sink,
    ) {
        let (flows, _, mut context) = self.split_flows(time, sink);
        flows.answer(question, totals, &mut context);
    }

    /// No datagram will follow: each flow ends, once its last question is answered.
    pub fn end_flows(&mut self, sink: &mut dyn Sink) {
        let (flows, _, mut context) = self.split_flows(self.now, sink);
        flows.drain(&mut context);
    }

    /// A process, by the key of its image, answers others on port 53: what it asks itself, it asks for them.
    pub fn mark_resolver(&mut self, process: ProcessKey) {
        self.lookups.names_mut().mark_resolver(process);
    }

    /// Whether a process is known to answer others on port 53.
    pub fn is_resolver(&self, process: ProcessKey) -> bool {
        self.lookups.names().is_resolver(process)
    }

    /// Something was lost before it got here.
    pub fn lost(&mut self, loss: Loss, time: BootTime, sink: &mut dyn Sink) {
        if (loss.stage, loss.kind) == ("ring", "dns") {
            self.lookups.doubt();
        }
        let count = match (loss.stage, loss.kind) {
            ("ring", "close") => self.connections.closes_lost_in_ring(loss.count),
            _ => loss.count,
        };
        if count > 0 {
            sink.observe(&Observation {
                time,
                fact: Fact::Lost(Loss { count, ..loss }),
            });
        }
    }

    /// No event will follow: reports what was held back.
    pub fn drain(&mut self, sink: &mut dyn Sink) {
        self.settle(BootTime(u64::MAX), usize::MAX, sink);
        let (connections, mut context) = self.split(self.now, sink);
        connections.drain(&mut context);
        self.tell_unowned(BootTime(u64::MAX), sink);
        self.tell_unknown_hellos(BootTime(u64::MAX), sink);
        self.lookups.drain(self.now, sink);
        self.report_losses(sink);
    }

    /// What is counted, at this moment.
    pub fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.counters(),
            connection_entries: self.connections.len(),
            process_entries: self.processes.len(),
            process_evictions: self.processes.evictions(),
            cgroup_evictions: self.processes.cgroup_evictions(),
            lookups: self.lookups.counters(),
            hellos: self.hellos.counters(),
        }
    }

    /// The clock only goes forward, although records of two CPUs can be slightly out of order.
    fn pass(&mut self, time: BootTime, sink: &mut dyn Sink) {
        self.now = self.now.max(time);
        let now = self.now;
        if self.connections.is_due(now) {
            let (connections, mut context) = self.split(now, sink);
            connections.advance(now, &mut context);
        }
        if self.flows.due().is_some_and(|due| due <= now) {
            let (flows, _, mut context) = self.split_flows(now, sink);
            flows.advance(now, &mut context);
        }
        self.tell_unowned(now, sink);
        if self.hellos.is_waiting() {
            self.tell_unknown_hellos(now, sink);
        }
        if self.lookups.is_due(now) {
            self.lookups.advance(now, sink);
        }
        self.processes.advance(now);
    }

    /// Something that a process does with a socket.
    fn moment(
        &mut self,
        time: BootTime,
        moment: &SocketMoment,
        sink: &mut dyn Sink,
        apply: impl FnOnce(&mut ConnectionTable, &SocketMoment, ProcessId, &mut Context<'_>),
    ) {
        let process = self.processes.seen(time, &moment.task);
        let (connections, mut context) = self.split(time, sink);
        apply(connections, moment, process, &mut context);
    }

    /// A raw or packet socket is no connection: nothing is remembered of it.
    fn socket_opened(&mut self, time: BootTime, socket: &RawSocket, sink: &mut dyn Sink) {
        let id = self.processes.seen(time, &socket.task);
        let own_cause = self.connections.cause_of_act(id, &mut self.processes);
        let process = self.processes.image(id);
        let of_process = process.and_then(|image| image.cause.as_deref());
        let fact = Fact::SocketOpened {
            socket,
            process,
            cause: own_cause.as_deref().or(of_process),
        };
        sink.observe(&Observation { time, fact });
        if let Some(cause) = own_cause {
            self.processes.retire_cause(cause);
        }
    }

    /// Who listens where names are asked for answers others.
    fn note_resolver(&mut self, process: Option<ProcessId>) {
        if let Some(image) = process.and_then(|process| self.processes.image(process)) {
            self.lookups.names_mut().mark_resolver(image.key);
        }
    }

    /// Something was sent to port 53 or came from there. Where the kernel names no task, the owner of the
    /// socket has asked.
    fn dns(&mut self, time: BootTime, payload: &DnsPayload<'_>, sink: &mut dyn Sink) {
        let seen = payload.task.as_ref();
        let seen = seen.map(|task| self.processes.seen(time, task));
        let asker = seen.or_else(|| {
            self.connections
                .owner_of(payload.socket, &payload.endpoints)
        });
        let asker = asker.or_else(|| self.flows.owner_of(payload.socket));
        let may_be_told = payload.transport == Transport::Udp && payload.task.is_none();
        if asker.is_none() && may_be_told && self.unowned.hold(time, payload) {
            return; // Its socket's owner may be told soon.
        }
        let asker = asker.and_then(|process| self.processes.image(process));
        self.lookups.payload(time, payload, asker, sink);
    }

    /// Whose owner was not told in time.
    fn tell_unowned(&mut self, now: BootTime, sink: &mut dyn Sink) {
        while let Some(waiting) = self.unowned.take_due(now) {
            self.lookups
                .payload(waiting.time, &waiting.payload(), None, sink);
        }
    }

    fn report_losses(&mut self, sink: &mut dyn Sink) {
        let (connections, mut context) = self.split(self.now, sink);
        connections.report_losses(&mut context);
        let loss = self.flows.take_loss();
        self.lost(loss, self.now, sink);
        let loss = Loss {
            stage: "table",
            kind: "process",
            unit: LossUnit::Record,
            count: self.processes.take_lost(),
        };
        self.lost(loss, self.now, sink);
        let loss = self.lookups.take_loss();
        self.lost(loss, self.now, sink);
    }

    fn split_flows<'a>(
        &'a mut self,
        time: BootTime,
        sink: &'a mut dyn Sink,
    ) -> (&'a mut FlowTable, &'a mut Ids, Context<'a>) {
        let context = Context {
            time,
            processes: &mut self.processes,
            names: self.lookups.names(),
            hellos: &self.hellos,
            sink,
        };
        (&mut self.flows, &mut self.connections.ids, context)
    }

    fn split<'a>(
        &'a mut self,
        time: BootTime,
        sink: &'a mut dyn Sink,
    ) -> (&'a mut ConnectionTable, Context<'a>) {
        let context = Context {
            time,
            processes: &mut self.processes,
            names: self.lookups.names(),
            hellos: &self.hellos,
            sink,
        };
        (&mut self.connections, context)
    }
}
