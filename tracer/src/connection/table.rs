//! The connection table: every socket that has a part in a connection, by its kernel address.
//!
//! In: what processes do with sockets and what becomes of these, in ring order. Out: observations,
//! each as soon as its truth is known. `outbound`, `inbound` and `closing` hold the rules; here
//! is what they share: entries come, change their phase, and go.
//!
//! A socket's address means one socket until it closes. When a record shows a new use of an address
//! that still has an entry, the record of the close was lost, and the entry is dropped: it never
//! lends its owner to another connection.

use std::collections::VecDeque;
use std::sync::Arc;

use super::comparison::Comparison;
use super::endpoints::Ends;
use super::entry::{
    ASKED, ASKED_NS, ENDED, ENDING, ENDING_NS, Entries, Entry, LASTING, Phase, WAITING, WAITING_NS,
};
use super::listeners::Listeners;
use super::multipath::Multipath;
use super::peers::{Flow, Peers};
use super::sockets::Sockets;
use crate::arena::Handle;
use crate::dns::names::Names;
use crate::event::{BootTime, Close, Endpoints, SocketId, Stream};
use crate::observation::{
    Connection, ConnectionId, Direction, Fact, Loss, LossUnit, Observation, Sink,
};
use crate::process::image::{Image, Over, Provenance};
use crate::process::table::{ProcessId, ProcessTable};
use crate::tls::hellos::Hellos;

/// The lists of what is held, and for how long each holds it.
const HOLDS: [(usize, u64); 3] = [
    (ENDING, ENDING_NS),
    (WAITING, WAITING_NS),
    (ASKED, ASKED_NS),
];

const NEVER: BootTime = BootTime(u64::MAX);

/// How many connections can be found by their other end after they ended: one can be over before its
/// other end is accepted.
const ENDED_MAX: usize = 4_096;

/// What a rule needs besides the table.
pub(crate) struct Context<'a> {
    /// When it happens.
    pub(crate) time: BootTime,
    /// Who is involved.
    pub(crate) processes: &'a mut ProcessTable,
    /// What addresses are called.
    pub(crate) names: &'a Names,
    /// What clients call their servers.
    pub(crate) hellos: &'a Hellos,
    /// Who is told.
    pub(crate) sink: &'a mut dyn Sink,
}

impl Context<'_> {
    /// A connection as the sinks see it, with the name that its destination had when it was opened.
    pub(super) fn named(&self, entry: &Entry) -> Connection {
        self.with_name(entry.connection(), entry.process_at_open())
    }

    /// The same with the name, if a process asked for the address.
    pub(super) fn with_name(
        &self,
        mut connection: Connection,
        owner: Option<&Arc<Image>>,
    ) -> Connection {
        if connection.direction == Direction::Egress {
            let at = connection.opened_at.unwrap_or(self.time);
            let address = connection.endpoints.remote.ip();
            let asked_for = self.names.of(owner.map(AsRef::as_ref), address, at);
            connection.domain = asked_for.or_else(|| self.hellos.domain(connection.id));
        }
        connection
    }

    pub(super) fn observe(&mut self, fact: Fact<'_>) {
        self.observe_at(self.time, fact);
    }

    /// For what happened earlier but could not be told until now.
    pub(super) fn observe_at(&mut self, time: BootTime, fact: Fact<'_>) {
        self.sink.observe(&Observation { time, fact });
    }
}

/// What the table counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Outbound connections that are open.
    pub active_egress: u64,
    /// Inbound connections that are open and accepted.
    pub active_ingress: u64,
    /// Connections that were found open and of which nobody knows who began them.
    pub active_unknown: u64,
    /// Sockets that listen.
    pub listeners: u64,
    /// Connections, failed ones included, whose owner is not known, since the start.
    pub unattributed: u64,
    /// Entries that had to make room for others, since the start.
    pub evictions: u64,
    /// Closes that must have happened but were not seen, since the start.
    pub lost_closes: u64,
    /// What comparisons with the kernel's own sockets found, since the start.
    pub compared: Compared,
}

/// What comparisons with the kernel's own sockets found, the first one apart: it finds what there was
/// before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many were made.
    pub runs: u64,
    /// Sockets that no record had told of.
    pub missed: u64,
    /// Entries whose socket was gone.
    pub stale: u64,
    /// Connections that had been accepted unseen.
    pub repaired: u64,
}

/// Every socket that has a part in a connection.
#[derive(Debug)]
pub struct ConnectionTable {
    pub(super) entries: Entries,
    pub(super) sockets: Sockets,
    pub(super) listeners: Listeners,
    pub(super) multipath: Multipath,
    /// What the kernel's own sockets were found to be, until the records up to then are applied.
    pub(super) comparison: Option<Box<Comparison>>,
    pub(super) peers: Peers,
    /// How many entries are in the list [`ENDED`].
    ended: usize,
    /// A time before which nothing that is held becomes due: perhaps too early, never too late.
    nothing_due_before: BootTime,
    /// The last few that ended before anyone accepted them.
    pub(super) never_accepted: VecDeque<Connection>,
    pub(crate) ids: Ids,
    capacity: usize,
    pub(super) counters: ConnectionCounters,
    reported: ConnectionCounters,
    /// By the ring's own count.
    closes_lost_in_ring: u64,
    reported_closes: u64,
}

impl ConnectionTable {
    /// An empty table for at most `capacity` sockets.
    pub fn new(capacity: usize) -> Self {
        ConnectionTable {
            entries: Entries::new(),
            sockets: Sockets::default(),
            listeners: Listeners::default(),
            multipath: Multipath::default(),
            comparison: None,
            peers: Peers::default(),
            ended: 0,
            nothing_due_before: NEVER,
            never_accepted: VecDeque::new(),
            ids: Ids::default(),
            capacity: capacity.max(1),
            counters: ConnectionCounters::default(),
            reported: ConnectionCounters::default(),
            closes_lost_in_ring: 0,
            reported_closes: 0,
        }
    }

    /// Number of sockets.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that have been reported as opened or accepted and not yet as closed.
    pub fn iter_open(&self) -> impl Iterator<Item = Connection> {
        let entries = self.entries.iter();
        let open = entries.filter(|entry| matches!(entry.phase, Phase::Open));
        open.map(Entry::connection)
    }

    /// Who owns the socket that was found so, if that is known, and where from.
    pub(crate) fn owner(
        &self,
        found: &Close,
        processes: &ProcessTable,
    ) -> Option<(Arc<Image>, Provenance)> {
        let entry = self.found(found)?;
        let owner = entry.process_now(processes)?;
        Some((Arc::clone(owner), entry.owner_provenance))
    }

    /// The process that owns a socket with these ends.
    pub(crate) fn owner_of(&self, socket: SocketId, ends: &Endpoints) -> Option<ProcessId> {
        let entry = &self.entries[self.find(socket)?];
        let owner = entry.owner.as_ref()?;
        entry.ends.agree_with(&ends.into()).then_some(owner.process)
    }

    /// The connection that a process has as one of its standard streams, if it is known.
    pub(crate) fn over(&self, streams: &[Stream]) -> Option<Over> {
        streams.iter().find_map(|stream| {
            let &Stream::Socket(socket, [own, peer]) = stream else {
                return None;
            };
            let entry = &self.entries[self.find(socket)?];
            let is_same =
                peer != 0 && entry.ends.local.port == own && entry.ends.remote.port == peer;
            is_same.then(|| Over(Arc::new(entry.connection())))
        })
    }

    /// What is known of the socket that was found so.
    pub(crate) fn connection(&self, found: &Close) -> Option<Connection> {
        self.found(found).map(Entry::connection)
    }

    fn found(&self, found: &Close) -> Option<&Entry> {
        let entry = &self.entries[self.find(found.socket)?];
        let is_same = entry.ends.agree_with(&Ends::from(&found.endpoints));
        is_same.then_some(entry)
    }

    /// What the table counts.
    pub fn counters(&self) -> ConnectionCounters {
        self.counters
    }

    /// Lets time pass: what was held for a record that did not come is reported as it is.
    pub(crate) fn advance(&mut self, now: BootTime, context: &mut Context<'_>) {
        for (list, wait) in HOLDS {
            while let Some((handle, entry)) = self.entries.first(list) {
                if now.since(entry.since) < wait {
                    break;
                }
                self.release(handle, context);
            }
        }
        self.nothing_due_before = self.due().unwrap_or(NEVER);
    }

    /// Whether [`advance`](Self::advance) has anything to do.
    #[inline]
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        now >= self.nothing_due_before
    }

    /// When time alone will lead to a report, if nothing happens before.
    pub(crate) fn due(&self) -> Option<BootTime> {
        let ends = HOLDS.map(|(list, wait)| {
            let (_, entry) = self.entries.first(list)?;
            Some(BootTime(entry.since.0.saturating_add(wait)))
        });
        ends.into_iter().flatten().min()
    }

    /// Reports what is held, although a record might still follow.
    pub(crate) fn drain(&mut self, context: &mut Context<'_>) {
        for list in [ENDING, WAITING, ASKED] {
            while let Some((handle, _)) = self.entries.first(list) {
                self.release(handle, context);
            }
        }
    }

    /// Tells the sinks what was lost since the last report.
    pub(crate) fn report_losses(&mut self, context: &mut Context<'_>) {
        let (now, before) = (
            self.counters,
            std::mem::replace(&mut self.reported, self.counters),
        );
        let losses = [
            ("ring", "close", self.newly_lost_closes()),
            ("table", "connection", now.evictions - before.evictions),
        ];
        for (stage, kind, count) in losses {
            if count > 0 {
                let unit = LossUnit::Event;
                context.observe(Fact::Lost(Loss {
                    stage,
                    kind,
                    unit,
                    count,
                }));
            }
        }
    }

    /// So many closes did not fit into the ring. Returns how many of them have not been reported when
    /// their entries were found to be stale.
    pub(crate) fn closes_lost_in_ring(&mut self, count: u64) -> u64 {
        self.closes_lost_in_ring += count;
        self.newly_lost_closes()
    }

    /// A close that the ring lost and the stale entry that it leaves are one loss, whichever is seen first.
    fn newly_lost_closes(&mut self) -> u64 {
        let lost = self.counters.lost_closes.max(self.closes_lost_in_ring);
        lost - std::mem::replace(&mut self.reported_closes, lost)
    }

    pub(super) fn find(&self, socket: SocketId) -> Option<Handle> {
        self.sockets.find(socket, &self.entries)
    }

    /// An entry for a connection of which nothing is known but its ends.
    pub(super) fn unknown(
        &mut self,
        socket: SocketId,
        ends: Ends,
        phase: Phase,
        first_seen: BootTime,
    ) -> Entry {
        Entry::new(self.ids.next(first_seen), socket, ends, phase, first_seen)
    }

    /// Whether the next entry makes another one go.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Adds an entry for a socket that has none.
    pub(super) fn insert(&mut self, entry: Entry, context: &mut Context<'_>) -> Handle {
        if self.is_full() {
            self.evict(context);
        }
        // The record of a subflow's close was lost.
        self.multipath.forget(entry.socket);
        self.count_phase(entry.phase, entry.direction, true);
        self.expect(entry.phase.list(), entry.since);
        let handle = self.entries.push(entry.phase.list(), entry);
        self.sockets.insert(handle, &self.entries);
        self.meet_peer(handle);
        handle
    }

    /// Moves an entry on.
    pub(super) fn set_phase(&mut self, handle: Handle, phase: Phase, time: BootTime) {
        let entry = &mut self.entries[handle];
        let direction = entry.direction;
        let before = std::mem::replace(&mut entry.phase, phase);
        entry.since = time;
        self.entries.move_to(handle, phase.list());
        self.expect(phase.list(), time);
        self.count_phase(before, direction, false);
        self.count_phase(phase, direction, true);
    }

    /// An entry enters a list.
    fn expect(&mut self, list: usize, since: BootTime) {
        if let Some((_, wait)) = HOLDS.into_iter().find(|(held, _)| *held == list) {
            let due = BootTime(since.0.saturating_add(wait));
            self.nothing_due_before = self.nothing_due_before.min(due);
        }
    }

    /// Takes what the ends of an entry lack from what another record says of them.
    pub(super) fn complete(&mut self, handle: Handle, ends: &Ends) {
        let entry = &self.entries[handle];
        if entry.ends.lack_nothing() {
            return;
        }
        let completed = entry.ends.completed_by(ends);
        if completed != entry.ends {
            self.hide_from_peer(handle);
            self.entries[handle].ends = completed;
        }
    }

    /// Enters a connection whose ends have become complete where its peer will look for it, and
    /// introduces the two to each other if the peer is there. Each has but one peer. A connection that
    /// ended can have been the other end only of one that this host accepts late.
    pub(super) fn meet_peer(&mut self, handle: Handle) {
        let entry = &self.entries[handle];
        let Some(flow) = Flow::of(&entry.ends) else {
            return;
        };
        let (id, direction) = (entry.id, entry.direction);
        let peer = self.peers.enter(handle, flow, &self.entries);
        let peer = peer.filter(|&peer| {
            let peer = &self.entries[peer];
            let late = direction != Direction::Egress && peer.direction == Direction::Egress;
            let is_open = !matches!(peer.phase, Phase::Ended);
            peer.peer().is_none() && peer.id != id && (late || is_open)
        });
        self.entries[handle].is_findable = true;
        if let Some(peer) = peer {
            let peer = &mut self.entries[peer];
            peer.set_peer(id);
            let peer = peer.id;
            self.entries[handle].set_peer(peer);
        }
    }

    /// The reverse of entering it.
    fn hide_from_peer(&mut self, handle: Handle) {
        let entry = &mut self.entries[handle];
        if std::mem::take(&mut entry.is_findable)
            && let Some(flow) = Flow::of(&entry.ends)
        {
            self.peers.remove(handle, flow);
        }
    }

    /// Makes way for a new use of a socket's address.
    pub(super) fn vacate(&mut self, socket: SocketId, context: &mut Context<'_>) {
        if let Some(handle) = self.find(socket) {
            self.drop_stale(handle, context);
        }
    }

    /// Takes out an entry whose socket is no longer the same.
    pub(super) fn drop_stale(&mut self, handle: Handle, context: &mut Context<'_>) {
        if self.entries[handle].phase.list() == LASTING {
            self.remove(handle, context.processes);
            self.counters.lost_closes += 1;
        } else {
            self.release(handle, context);
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, handle: Handle, processes: &mut ProcessTable) {
        if self.entries.get(handle).is_none() {
            return;
        }
        self.end_serving(handle, processes);
        let entry = &mut self.entries[handle];
        let owner = entry.owner.take();
        if let Some(cause) = entry.cause.take() {
            processes.retire_cause(cause);
        }
        let (phase, direction) = (entry.phase, entry.direction);
        if entry.mptcp {
            self.multipath.remove(entry.socket);
        }
        self.sockets.remove(entry.socket, handle);
        self.count_phase(phase, direction, false);
        let entry = &self.entries[handle];
        if matches!(phase, Phase::Listening | Phase::Unlistened) {
            self.listeners.remove(handle, &(&entry.ends).into());
            self.forget(handle);
        } else if entry.is_findable {
            self.remember(handle);
        } else {
            self.forget(handle);
        }
        if let Some(owner) = owner {
            owner.release(processes);
        }
    }

    /// Keeps what was a connection until many others have ended.
    fn remember(&mut self, handle: Handle) {
        if self.ended == ENDED_MAX
            && let Some((oldest, _)) = self.entries.first(ENDED)
        {
            self.forget(oldest);
            self.ended -= 1;
        }
        self.entries[handle].phase = Phase::Ended;
        self.entries.move_to(handle, ENDED);
        self.ended += 1;
    }

    fn forget(&mut self, handle: Handle) {
        self.hide_from_peer(handle);
        self.entries.remove(handle);
    }

    /// The oldest entry makes room. What is held is only reported early, which loses nothing; but
    /// it is held for so short a time that it is the last to go.
    fn evict(&mut self, context: &mut Context<'_>) {
        if let Some((handle, _)) = self.entries.first(LASTING) {
            self.remove(handle, context.processes);
            self.counters.evictions += 1;
        } else if let Some((handle, _)) = self
            .entries
            .first(WAITING)
            .or_else(|| self.entries.first(ENDING))
            .or_else(|| self.entries.first(ASKED))
        {
            self.release(handle, context);
        }
    }

    fn count_phase(&mut self, phase: Phase, direction: Direction, entered: bool) {
        let counter = match (phase, direction) {
            (Phase::Open, Direction::Egress) => &mut self.counters.active_egress,
            (Phase::Open, Direction::Ingress) => &mut self.counters.active_ingress,
            (Phase::Open, Direction::Unknown) => &mut self.counters.active_unknown,
            (Phase::Listening, _) => &mut self.counters.listeners,
            _ => return,
        };
        *counter = if entered { *counter + 1 } else { *counter - 1 };
    }
}

/// Gives every connection an identity of its own, the same whenever the same records are replayed.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    latest: u64,
    serial: u32,
}

impl Ids {
    /// Times are mostly new; the serial number, which never repeats, is for those that are not.
    pub(super) fn next(&mut self, first_seen: BootTime) -> ConnectionId {
        let first_seen_ns = first_seen.0;
        if first_seen_ns > self.latest {
            self.latest = first_seen_ns;
            return ConnectionId {
                first_seen_ns,
                serial: 0,
            };
        }
        self.serial = self.serial.wrapping_add(1);
        ConnectionId {
            first_seen_ns,
            serial: self.serial,
        }
    }
}

#[cfg(test)]
mod tests;
