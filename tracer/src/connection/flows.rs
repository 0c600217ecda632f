//! Flows of datagrams: who exchanges them with whom, through which socket.
//!
//! In: the first datagram of each flow, owners and closes of sockets, in ring order, and the totals that
//! were asked for. Out: observations, when a flow begins, at most once a minute while it goes on, and when
//! it ends; and [`Question`]s: the kernel programs add the datagrams up, and whoever drives the state reads
//! the totals. The owner is whoever sent or received first; it never changes.

use hashbrown::{HashMap, HashSet};

use super::entry::Owner;
use super::table::{Context, Ids};
use crate::arena::{Arena, Handle};
use crate::event::{
    BootTime, Endpoints, Flow as FirstDatagram, FlowKey, FlowTotals, Protocol, SocketId,
};
use crate::observation::{
    Connection, ConnectionId, Direction, Fact, FlowStage, Loss, LossUnit, Opening,
};
use crate::process::image::Provenance;
use crate::process::table::ProcessId;

/// Flows of which the owner is not known yet.
const UNOWNED: usize = 0;
/// Flows that go on, in the order in which they were looked at.
const CURRENT: usize = 1;
/// Flows whose last totals are asked for.
const ENDING: usize = 2;

/// How long the owner of a flow may take to be told: he is, before his system call returns.
const UNOWNED_NS: u64 = 50_000_000;
/// How often a flow is looked at.
const LOOK_NS: u64 = 15_000_000_000;
/// How often a flow that goes on is told.
const TELL_NS: u64 = 60_000_000_000;
/// After how long without a datagram a flow is over.
const IDLE_NS: u64 = 60_000_000_000;

/// The totals of a flow are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Of which.
    pub key: FlowKey,
    /// They are not wanted again: what the kernel side keeps can go.
    pub last: bool,
}

/// What makes a flow one, while its socket lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    socket: SocketId,
    protocol: Protocol,
    peer: std::net::SocketAddr,
}

#[derive(Debug)]
struct Entry {
    id: ConnectionId,
    pair: Pair,
    endpoints: Endpoints,
    direction: Direction,
    opening: Opening,
    owner: Option<Owner>,
    /// Where the owner is known from.
    owner_provenance: Provenance,
    /// Where the kernel side counts now.
    key: FlowKey,
    /// What it counted elsewhere before.
    before: FlowTotals,
    /// All that is known so far.
    totals: FlowTotals,
    /// When the first datagram was seen.
    begun_at: BootTime,
    /// When it was last told, and what.
    told_at: BootTime,
    told: FlowTotals,
    /// When it was last looked at.
    since: BootTime,
}

/// A socket that has flows, or an owner without any yet.
#[derive(Debug, Default)]
struct Socket {
    owner: Option<Owner>,
    /// The owner connected it, rather than using it.
    by_connect: bool,
    /// Slots of its flows.
    flows: HashSet<u32>,
}

/// All flows.
#[derive(Debug)]
pub struct FlowTable {
    entries: Arena<Entry, 3>,
    by_pair: HashMap<Pair, Handle>,
    by_key: HashMap<FlowKey, Handle>,
    sockets: HashMap<SocketId, Socket>,
    questions: Vec<Question>,
    capacity: usize,
    dropped: u64,
}

impl FlowTable {
    /// An empty table for at most `capacity` flows, and as many sockets.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Arena::new(),
            by_pair: HashMap::new(),
            by_key: HashMap::new(),
            sockets: HashMap::new(),
            questions: Vec::new(),
            capacity,
            dropped: 0,
        }
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The totals that are wanted since the last call.
    pub(crate) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// The first datagram between a socket and a peer, as the kernel side has it.
    pub(crate) fn begin(
        &mut self,
        first: &FirstDatagram,
        process: Option<ProcessId>,
        ids: &mut Ids,
        context: &mut Context<'_>,
    ) {
        let pair = Pair {
            socket: first.socket,
            protocol: first.protocol,
            peer: first.endpoints.remote,
        };
        if let Some(&handle) = self.by_pair.get(&pair) {
            if self.entries[handle].is_same(first, process) {
                self.count_elsewhere(handle, first.key);
                return;
            }
            self.forget_in_socket(handle);
            self.end(handle, context);
        }
        if self.entries.len() >= self.capacity {
            self.dropped += 1;
            self.ask(first.key, true);
            return;
        }
        let entry = Self::entry(pair, first, ids.next(context.time), context.time);
        let handle = self.entries.push(UNOWNED, entry);
        self.by_pair.insert(pair, handle);
        self.by_key.insert(first.key, handle);
        let socket = self.sockets.entry(pair.socket).or_default();
        socket.flows.insert(handle.slot());
        let (owner, by_connect) = match (process, &socket.owner) {
            (Some(process), _) => (Owner::take(context.processes, process), false),
            (None, Some(owner)) => (Some(owner.share(context.processes)), socket.by_connect),
            (None, None) => return,
        };
        self.tell_begin(handle, owner, by_connect, context);
    }

    fn entry(pair: Pair, first: &FirstDatagram, id: ConnectionId, now: BootTime) -> Entry {
        let mut totals = FlowTotals {
            last: now,
            ..FlowTotals::default()
        };
        if first.received {
            totals.received_packets = first.packets.into();
            totals.received_bytes = first.bytes;
        } else {
            totals.sent_packets = first.packets.into();
            totals.sent_bytes = first.bytes;
        }
        Entry {
            id,
            pair,
            endpoints: first.endpoints,
            direction: if first.received {
                Direction::Ingress
            } else {
                Direction::Egress
            },
            opening: opening(first),
            owner: None,
            owner_provenance: Provenance::Unknown,
            key: first.key,
            before: FlowTotals::default(),
            totals,
            begun_at: now,
            told_at: now,
            told: totals,
            since: now,
        }
    }

    /// The kernel side has begun to count anew.
    fn count_elsewhere(&mut self, handle: Handle, key: FlowKey) {
        let entry = &mut self.entries[handle];
        let former = std::mem::replace(&mut entry.key, key);
        self.by_key.insert(key, handle);
        self.ask(former, true);
    }

    fn ask(&mut self, key: FlowKey, last: bool) {
        self.questions.push(Question { key, last });
    }

    fn tell_begin(
        &mut self,
        handle: Handle,
        owner: Option<Owner>,
        by_connect: bool,
        context: &mut Context<'_>,
    ) {
        let entry = &mut self.entries[handle];
        entry.owner_provenance = match owner {
            Some(_) if by_connect => Provenance::Inferred,
            Some(_) => Provenance::Kernel,
            None => Provenance::Unknown,
        };
        entry.owner = owner;
        self.entries.move_to(handle, CURRENT);
        let entry = &self.entries[handle];
        let process = entry.owner.as_ref().map(|owner| owner.at_open.clone());
        let connection = &context.with_name(entry.connection(), process.as_ref());
        let fact = Fact::DatagramFlow {
            connection,
            process: process.as_ref(),
            stage: FlowStage::Start,
            totals: entry.told,
            new: entry.told,
            duration_ns: None,
        };
        context.observe_at(entry.begun_at, fact);
    }

    /// A process sends or receives with a socket for the first time (tracepoint mode).
    pub(crate) fn owner(
        &mut self,
        id: SocketId,
        process: ProcessId,
        by_connect: bool,
        context: &mut Context<'_>,
    ) {
        if self.sockets.len() >= self.capacity && !self.sockets.contains_key(&id) {
            self.dropped += 1;
            return;
        }
        let socket = self.sockets.entry(id).or_default();
        if socket.owner.is_some() {
            return;
        }
        let Some(owner) = Owner::take(context.processes, process) else {
            return;
        };
        socket.by_connect = by_connect;
        let owner = socket.owner.insert(owner);
        let mut unowned = in_order(&self.entries, &socket.flows);
        unowned.retain(|&handle| self.entries.list_of(handle) == Some(UNOWNED));
        let owners = unowned.iter().map(|_| owner.share(context.processes));
        let owners: Vec<_> = owners.collect();
        for (handle, owner) in unowned.into_iter().zip(owners) {
            self.tell_begin(handle, Some(owner), by_connect, context);
        }
    }

    /// Who uses a socket, as far as that was told of the socket rather than of its flows.
    pub(crate) fn owner_of(&self, id: SocketId) -> Option<ProcessId> {
        let owner = self.sockets.get(&id)?.owner.as_ref()?;
        Some(owner.process)
    }

    /// Whether a socket has a flow at this local port.
    pub(crate) fn is_at_port(&self, id: SocketId, port: u16) -> bool {
        let flows = self.sockets.get(&id).map(|socket| &socket.flows);
        let mut handles = flows.into_iter().flatten().copied();
        handles.any(|slot| {
            let flow = self
                .entries
                .handle(slot)
                .map(|handle| &self.entries[handle]);
            flow.is_some_and(|flow| flow.endpoints.local.port() == port)
        })
    }

    /// A socket is closed.
    pub(crate) fn close(&mut self, id: SocketId, context: &mut Context<'_>) {
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        for handle in in_order(&self.entries, &socket.flows) {
            self.end(handle, context);
        }
        if let Some(owner) = socket.owner {
            owner.release(context.processes);
        }
    }

    /// It has ended: what it carried is asked for.
    fn end(&mut self, handle: Handle, context: &mut Context<'_>) {
        if self.entries.list_of(handle) == Some(UNOWNED) {
            self.tell_begin(handle, None, false, context);
        }
        self.entries.move_to(handle, ENDING);
        let entry = &self.entries[handle];
        let (pair, key) = (entry.pair, entry.key);
        self.by_pair.remove(&pair);
        self.ask(key, true);
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: BootTime, context: &mut Context<'_>) {
        while let Some((handle, entry)) = self.entries.first(UNOWNED)
            && now.since(entry.since) >= UNOWNED_NS
        {
            self.tell_begin(handle, None, false, context);
        }
        while let Some((handle, entry)) = self.entries.first(CURRENT)
            && now.since(entry.since) >= LOOK_NS
        {
            let key = entry.key;
            self.entries[handle].since = now;
            self.entries.move_to(handle, CURRENT);
            self.ask(key, false);
        }
    }

    /// When [`advance`](Self::advance) has something to do.
    pub(crate) fn due(&self) -> Option<BootTime> {
        let due = |list, wait| {
            let (_, entry) = self.entries.first(list)?;
            Some(BootTime(entry.since.0 + wait))
        };
        [due(UNOWNED, UNOWNED_NS), due(CURRENT, LOOK_NS)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The answer to a [`Question`]; `None` if the kernel side knows nothing of it.
    pub(crate) fn answer(
        &mut self,
        question: Question,
        totals: Option<FlowTotals>,
        context: &mut Context<'_>,
    ) {
        let Some(&handle) = self.by_key.get(&question.key) else {
            return;
        };
        if question.last {
            self.by_key.remove(&question.key);
        }
        let entry = &mut self.entries[handle];
        let is_current = entry.key == question.key;
        if let Some(totals) = totals {
            entry.totals = entry.before.plus(&totals);
            if question.last {
                entry.before = entry.totals;
            }
        }
        if !is_current {
            return;
        }
        match self.entries.list_of(handle) {
            Some(ENDING) => self.tell_end(handle, context),
            _ => self.looked_at(handle, context),
        }
    }

    fn looked_at(&mut self, handle: Handle, context: &mut Context<'_>) {
        let entry = &mut self.entries[handle];
        if context.time.since(entry.totals.last) >= IDLE_NS {
            self.forget_in_socket(handle);
            self.end(handle, context);
            return;
        }
        if context.time.since(entry.told_at) >= TELL_NS && entry.totals != entry.told {
            entry.told_at = context.time;
            self.tell(handle, FlowStage::Info, context);
        }
    }

    /// Its socket lives on without it.
    fn forget_in_socket(&mut self, handle: Handle) {
        let id = self.entries[handle].pair.socket;
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.flows.remove(&handle.slot());
        // With an owner it is needed: he is not told again.
        if socket.flows.is_empty() && socket.owner.is_none() {
            self.sockets.remove(&id);
        }
    }

    fn tell(&mut self, handle: Handle, stage: FlowStage, context: &mut Context<'_>) {
        let entry = &mut self.entries[handle];
        let told = std::mem::replace(&mut entry.told, entry.totals);
        let owner = entry.owner.as_ref();
        let process = owner.map(|owner| owner.now(context.processes).clone());
        let at_open = owner.map(|owner| &owner.at_open);
        let fact = Fact::DatagramFlow {
            connection: &context.with_name(entry.connection(), at_open),
            process: process.as_ref(),
            stage,
            totals: entry.totals,
            new: entry.totals.since(&told),
            duration_ns: Some(entry.totals.last.since(entry.begun_at)),
        };
        context.observe_at(entry.totals.last, fact);
    }

    fn tell_end(&mut self, handle: Handle, context: &mut Context<'_>) {
        self.tell(handle, FlowStage::End, context);
        if let Some(entry) = self.entries.remove(handle)
            && let Some(owner) = entry.owner
        {
            owner.release(context.processes);
        }
    }

    /// Nothing will follow: everything ends now, as soon as its questions are answered.
    pub(crate) fn drain(&mut self, context: &mut Context<'_>) {
        let sockets: Vec<SocketId> = self.sockets.keys().copied().collect();
        for socket in sockets {
            self.close(socket, context);
        }
    }

    /// What had no room since the last call.
    pub(crate) fn take_loss(&mut self) -> Loss {
        Loss {
            stage: "table",
            kind: "flow",
            unit: LossUnit::Record,
            count: std::mem::take(&mut self.dropped),
        }
    }
}

impl Entry {
    /// Whether another first datagram is of the same flow: of another socket that has this address now, the
    /// close was lost.
    fn is_same(&self, first: &FirstDatagram, process: Option<ProcessId>) -> bool {
        let owner = self.owner.as_ref().map(|owner| owner.process);
        self.endpoints.local.port() == first.endpoints.local.port()
            && self.endpoints.netns == first.endpoints.netns
            && (process.is_none() || process == owner)
    }

    fn connection(&self) -> Connection {
        let owner = self.owner.as_ref();
        Connection {
            id: self.id,
            socket: self.pair.socket,
            protocol: self.pair.protocol,
            endpoints: self.endpoints,
            direction: self.direction,
            owner: owner.map(|owner| owner.at_open.key),
            owner_provenance: self.owner_provenance,
            opening: self.opening,
            peer: None,
            opened_at: Some(self.begun_at),
            existing: false,
            cause: owner.and_then(|owner| owner.at_open.cause.clone()),
            mptcp: false,
            domain: None,
        }
    }
}

/// A socket's flows by their slots, in the order in which they began.
fn in_order(entries: &Arena<Entry, 3>, slots: &HashSet<u32>) -> Vec<Handle> {
    let handles = slots.iter().filter_map(|&slot| entries.handle(slot));
    let mut handles: Vec<Handle> = handles.collect();
    handles.sort_unstable_by_key(|&handle| entries[handle].id);
    handles
}

/// Which hook saw it.
fn opening(first: &FirstDatagram) -> Opening {
    match (first.received, first.protocol == Protocol::UDP) {
        (true, true) => Opening::DatagramReceived,
        (true, false) => Opening::PacketReceived,
        (false, true) => Opening::DatagramSent,
        (false, false) if first.own_header => Opening::PacketWritten,
        (false, false) => Opening::PacketSent,
    }
}

#[cfg(test)]
mod tests;
