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

use hashbrown::{HashMap, HashSet};

use super::entry::{ENDING, ENDING_NS, Entry, LASTING, Owner, Phase, WAITING, WAITING_NS};
use super::listeners::Listeners;
use super::peers::{Peer, Peers};
use crate::arena::{Arena, Handle};
use crate::event::{BootTime, Endpoints, ProcessKey, SocketId};
use crate::observation::{
    Connection, ConnectionId, Direction, Fact, Loss, LossUnit, Observation, Opening, Sink,
};
use crate::process::image::Provenance;
use crate::process::table::{ProcessId, ProcessTable};

/// The lists of what is held, and for how long each holds it.
const HOLDS: [(usize, u64); 2] = [(ENDING, ENDING_NS), (WAITING, WAITING_NS)];

/// What a rule needs besides the table.
pub(crate) struct Context<'a> {
    /// When it happens.
    pub(crate) time: BootTime,
    /// Who is involved.
    pub(crate) processes: &'a mut ProcessTable,
    /// Who is told.
    pub(crate) sink: &'a mut dyn Sink,
}

impl Context<'_> {
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
    /// Sockets that listen.
    pub listeners: u64,
    /// Connections, failed ones included, whose owner is not known, since the start.
    pub unattributed: u64,
    /// Entries that had to make room for others, since the start.
    pub evictions: u64,
    /// Closes that must have happened but were not seen, since the start.
    pub lost_closes: u64,
}

/// Every socket that has a part in a connection.
#[derive(Debug)]
pub struct ConnectionTable {
    pub(super) entries: Arena<Entry, 3>,
    /// Sockets of connections that are older than the tracer and have not been seen to end.
    pub(super) existing: HashSet<SocketId, foldhash::fast::RandomState>,
    by_socket: HashMap<SocketId, Handle, foldhash::fast::RandomState>,
    pub(super) listeners: Listeners,
    peers: Peers,
    /// The last few that ended before anyone accepted them.
    pub(super) never_accepted: VecDeque<Connection>,
    ids: Ids,
    capacity: usize,
    pub(super) counters: ConnectionCounters,
    reported: ConnectionCounters,
}

impl ConnectionTable {
    /// An empty table for at most `capacity` sockets.
    pub fn new(capacity: usize) -> Self {
        ConnectionTable {
            entries: Arena::new(),
            existing: HashSet::default(),
            by_socket: HashMap::default(),
            listeners: Listeners::default(),
            peers: Peers::default(),
            never_accepted: VecDeque::new(),
            ids: Ids::default(),
            capacity: capacity.max(1),
            counters: ConnectionCounters::default(),
            reported: ConnectionCounters::default(),
        }
    }

    /// Number of sockets.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sockets that were connected when tracing began: whose they are cannot be concluded.
    pub fn existing(&mut self, sockets: impl IntoIterator<Item = SocketId>) {
        self.existing.extend(sockets);
    }

    /// Connections that have been reported as opened or accepted and not yet as closed.
    pub fn iter_open(&self) -> impl Iterator<Item = &Connection> {
        let entries = self.entries.iter();
        let open = entries.filter(|entry| matches!(entry.phase, Phase::Open));
        open.map(|entry| &entry.connection)
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
    }

    /// When time alone will lead to a report, if nothing happens before.
    pub(crate) fn due(&self) -> Option<BootTime> {
        let ends = HOLDS.map(|(list, wait)| {
            let (_, entry) = self.entries.first(list)?;
            Some(BootTime(entry.since.0 + wait))
        });
        ends.into_iter().flatten().min()
    }

    /// Reports what is held, although a record might still follow.
    pub(crate) fn drain(&mut self, context: &mut Context<'_>) {
        for list in [ENDING, WAITING] {
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
            ("ring", "close", now.lost_closes - before.lost_closes),
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

    pub(super) fn find(&self, socket: SocketId) -> Option<Handle> {
        self.by_socket.get(&socket).copied()
    }

    /// A connection of which nothing is known but its ends.
    pub(super) fn unknown(
        &mut self,
        socket: SocketId,
        endpoints: Endpoints,
        first_seen: BootTime,
    ) -> Connection {
        Connection {
            id: self.ids.next(first_seen),
            socket,
            endpoints,
            direction: Direction::Unknown,
            owner: None,
            owner_provenance: Provenance::Unknown,
            opening: Opening::State,
            peer: None,
            opened_at: None,
        }
    }

    /// Adds an entry for a socket that has none.
    pub(super) fn insert(
        &mut self,
        connection: Connection,
        owner: Option<Owner>,
        phase: Phase,
        context: &mut Context<'_>,
    ) -> Handle {
        if self.entries.len() >= self.capacity {
            self.evict(context);
        }
        let socket = connection.socket;
        self.count_phase(phase, connection.direction, true);
        let entry = Entry {
            connection,
            owner,
            since: context.time,
            reset_sent: false,
            phase,
        };
        let handle = self.entries.push(entry.phase.list(), entry);
        self.by_socket.insert(socket, handle);
        self.meet_peer(handle);
        handle
    }

    /// Moves an entry on.
    pub(super) fn set_phase(&mut self, handle: Handle, phase: Phase, time: BootTime) {
        let list = phase.list();
        let entry = &mut self.entries[handle];
        let direction = entry.connection.direction;
        let before = std::mem::replace(&mut entry.phase, phase);
        entry.since = time;
        self.entries.move_to(handle, list);
        self.count_phase(before, direction, false);
        self.count_phase(phase, direction, true);
    }

    /// Enters a connection whose ends have become complete where its peer will look for it.
    pub(super) fn meet_peer(&mut self, handle: Handle) {
        let connection = &self.entries[handle].connection;
        let is_open = |peer: Peer| {
            let entry = self
                .by_socket
                .get(&peer.socket)
                .map(|&handle| &self.entries[handle]);
            entry.is_some_and(|entry| entry.connection.id == peer.id)
        };
        let (id, Some(peer)) = (connection.id, self.peers.enter(connection, is_open)) else {
            return;
        };
        self.introduce(peer, id);
        self.entries[handle].connection.peer = Some(peer.id);
    }

    /// Tells a connection, if it is still open, who its peer is.
    fn introduce(&mut self, peer: Peer, id: ConnectionId) {
        let other = self
            .find(peer.socket)
            .and_then(|handle| self.entries.get_mut(handle));
        if let Some(other) = other.filter(|other| other.connection.id == peer.id) {
            other.connection.peer = Some(id);
        }
    }

    /// Makes way for a new use of a socket's address.
    pub(super) fn vacate(&mut self, socket: SocketId, context: &mut Context<'_>) {
        let Some(handle) = self.find(socket) else {
            return;
        };
        if self.entries[handle].phase.list() == LASTING {
            self.remove(handle, context.processes);
            self.counters.lost_closes += 1;
        } else {
            self.release(handle, context);
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, handle: Handle, processes: &mut ProcessTable) {
        let Some(entry) = self.entries.remove(handle) else {
            return;
        };
        self.by_socket.remove(&entry.connection.socket);
        self.count_phase(entry.phase, entry.connection.direction, false);
        match entry.phase {
            Phase::Listening | Phase::Unlistened => {
                self.listeners.remove(handle, &entry.connection.endpoints);
            }
            _ => self.peers.end(&entry.connection),
        }
        if let Some(owner) = entry.owner {
            processes.release(owner.process);
        }
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
        {
            self.release(handle, context);
        }
    }

    fn count_phase(&mut self, phase: Phase, direction: Direction, entered: bool) {
        let counter = match (phase, direction) {
            (Phase::Open, Direction::Egress) => &mut self.counters.active_egress,
            (Phase::Open, Direction::Ingress) => &mut self.counters.active_ingress,
            (Phase::Listening, _) => &mut self.counters.listeners,
            _ => return,
        };
        *counter = if entered { *counter + 1 } else { *counter - 1 };
    }
}

/// Whom a process context makes the owner, as a connection has it.
pub(super) fn owned_by(
    processes: &mut ProcessTable,
    process: ProcessId,
) -> (Option<Owner>, Option<ProcessKey>) {
    let owner = Owner::take(processes, process);
    let key = owner.as_ref().map(|owner| owner.at_open.key);
    (owner, key)
}

/// Gives every connection an identity of its own, the same whenever the same records are replayed.
#[derive(Debug, Default)]
struct Ids {
    latest: u64,
    serial: u32,
}

impl Ids {
    /// Times are mostly new; the serial number, which never repeats, is for those that are not.
    fn next(&mut self, first_seen: BootTime) -> ConnectionId {
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
