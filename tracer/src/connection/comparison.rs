//! Comparison with the kernel's own sockets: at the start to find what was there before, and from time to
//! time to find what was missed.
//!
//! In: which sockets processes hold, and what lies where others were. Out: entries for what no record
//! told of, and the end of those whose socket is gone.
//!
//! What was found goes into the order of the records. A record of a socket may be older than the look at
//! it, and then tells more than the look does, or younger, and then happens to what was found. So each
//! socket waits until a record needs to know what was found, or until all records before the end of the
//! walk have been applied. Then they are entered a few at a time, since each of them is an event.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hashbrown::HashMap;

use super::endpoints::Ends;
use super::entry::{Entry, LASTING, Phase, WAITING_NS};
use super::holders::Holders;
use super::table::{ConnectionTable, Context};
use crate::arena::Handle;
use crate::event::{
    BootTime, Close, Endpoints, EventKind, ExaminedSocket, HeldSocket, SocketId, Subflow, TcpState,
};
use crate::observation::{Direction, Fact, Opening};
use crate::process::image::Provenance;
use crate::state::Snapshot;

/// What was found and is not yet entered.
#[derive(Debug)]
pub(super) struct Comparison {
    found: HashMap<SocketId, Found, foldhash::fast::RandomState>,
    /// In the order in which they are entered: listeners first, since whoever is found connected may be
    /// theirs; of each kind the oldest first. What has been entered before its turn is no more in `found`.
    listeners: VecDeque<(BootTime, SocketId)>,
    others: VecDeque<(BootTime, SocketId)>,
    /// Namespace, local and remote end of each.
    by_ends: HashMap<(u32, SocketAddr, SocketAddr), SocketId, foldhash::fast::RandomState>,
    /// The first subflow of a Multipath TCP connection, by its upper socket and by its further subflows.
    firsts: HashMap<SocketId, SocketId, foldhash::fast::RandomState>,
    examined: Vec<ExaminedSocket>,
    begun_at: BootTime,
    complete_at: BootTime,
}

/// A socket that somebody holds.
#[derive(Clone, Debug)]
struct Found {
    time: BootTime,
    close: Close,
    ends: Ends,
    /// The upper socket and the further subflows, if it is the first one of Multipath TCP.
    upper: Option<SocketId>,
    further: Vec<(SocketId, Ends)>,
    holders: Holders,
}

impl Found {
    fn state(&self) -> TcpState {
        self.close.old_state
    }

    /// Whether a record of the socket happened to what was found.
    fn comes_before(&self, kind: &EventKind<'_>, time: BootTime, is_known: bool) -> bool {
        match kind {
            // Whatever the times say: it was not closed yet when it was looked at.
            EventKind::Close(close) => {
                close.further || self.ends.agree_with(&Ends::from(&close.endpoints))
            }
            // Of an attempt that is known, the record tells.
            EventKind::Established {
                endpoints, inbound, ..
            }
            | EventKind::Subflow(Subflow {
                endpoints,
                inbound,
                further: false,
                ..
            }) => !inbound && !is_known && self.ends.agree_with(&Ends::from(endpoints)),
            _ => self.time <= time,
        }
    }

    /// Everyone who holds one socket. If the socket's address was another's before, the latest counts.
    fn add(found: &mut HashMap<SocketId, Found, foldhash::fast::RandomState>, held: &HeldSocket) {
        let ends = Ends::from(&held.close.endpoints);
        let new = || Found {
            time: held.time,
            close: held.close,
            ends,
            upper: held.upper,
            further: Vec::new(),
            holders: Holders::default(),
        };
        let it = found.entry(held.close.socket).or_insert_with(new);
        if !it.ends.agree_with(&ends) {
            *it = new();
        }
        (it.time, it.close, it.ends, it.upper) = (held.time, held.close, ends, held.upper);
        it.holders.add(&held.holder, held.descriptor);
    }

    fn add_further(&mut self, socket: SocketId, ends: Ends) {
        if self.further.iter().all(|(other, _)| *other != socket) {
            self.further.push((socket, ends));
        }
    }
}

impl Comparison {
    fn new(snapshot: Snapshot) -> Self {
        let mut found: HashMap<_, Found, _> = HashMap::default();
        let mut firsts = HashMap::default();
        for held in &snapshot.held {
            let socket = held.close.socket;
            match held.upper {
                Some(upper) if held.close.further => {
                    let first = firsts.get(&upper).copied();
                    if let Some(first) = first.and_then(|first| found.get_mut(&first)) {
                        firsts.insert(socket, first.close.socket);
                        first.add_further(socket, Ends::from(&held.close.endpoints));
                    }
                    continue;
                }
                Some(upper) => firsts.insert(upper, socket),
                None => None,
            };
            Found::add(&mut found, held);
        }
        let by_time = |are_listeners| {
            let is_wanted = |it: &&Found| (it.state() == TcpState::Listen) == are_listeners;
            let wanted = found.values().filter(is_wanted);
            let mut order: Vec<_> = wanted.map(|it| (it.time, it.close.socket)).collect();
            order.sort_unstable_by_key(|(time, socket)| (*time, socket.0));
            order.into()
        };
        let by_ends = found.values().map(|it| {
            let ends = &it.close.endpoints;
            ((ends.netns, ends.local, ends.remote), it.close.socket)
        });
        Comparison {
            by_ends: by_ends.collect(),
            firsts,
            listeners: by_time(true),
            others: by_time(false),
            found,
            examined: snapshot.examined,
            begun_at: snapshot.begun_at,
            complete_at: snapshot.complete_at,
        }
    }

    /// Takes the other end of a connection, if it was found, too.
    fn take_peer(&mut self, of: &Found) -> Option<Found> {
        let ends = &of.close.endpoints;
        let reversed = (ends.netns, ends.remote, ends.local);
        self.found.remove(self.by_ends.get(&reversed)?)
    }

    /// The next to be entered.
    fn next(&mut self) -> Option<Found> {
        loop {
            let next = self.listeners.pop_front();
            let (_, socket) = next.or_else(|| self.others.pop_front())?;
            if let Some(found) = self.found.remove(&socket) {
                return Some(found);
            }
        }
    }
}

impl ConnectionTable {
    /// Begins a comparison: it is over when [`settle`](Self::settle) is told that the records up to its
    /// end have been applied.
    pub(crate) fn compare(&mut self, snapshot: Snapshot) {
        self.comparison = Some(Box::new(Comparison::new(snapshot)));
    }

    /// Whether a comparison waits for records.
    #[inline]
    pub(crate) fn is_comparing(&self) -> bool {
        self.comparison.is_some()
    }

    /// Entries that nobody holds although nothing happened to them since `before`: those whose socket is
    /// perhaps gone.
    pub(crate) fn suspects(&self, snapshot: &Snapshot, limit: usize) -> Vec<SocketId> {
        let held = snapshot.held.iter().map(|held| held.close.socket);
        let held: hashbrown::HashSet<SocketId, foldhash::fast::RandomState> = held.collect();
        let entries = self.entries.iter();
        let lasting = entries.filter(|entry| entry.phase.list() == LASTING);
        let suspects = lasting
            .filter(|entry| entry.since < snapshot.begun_at && !held.contains(&entry.socket));
        suspects.map(|entry| entry.socket).take(limit).collect()
    }

    /// The record `kind` is the next to be applied. What was found of its socket comes first, if the
    /// record happened to that.
    pub(crate) fn reconcile(
        &mut self,
        time: BootTime,
        kind: &EventKind<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(socket) = socket_of(kind) else {
            return;
        };
        let Some(comparison) = &self.comparison else {
            return;
        };
        let socket = comparison.firsts.get(&socket).copied().unwrap_or(socket);
        let is_known = self.find(socket).is_some();
        let Some(comparison) = &mut self.comparison else {
            return;
        };
        let Some(found) = comparison.found.get(&socket) else {
            return;
        };
        if matches!(kind, EventKind::Connect(_)) && found.state() == TcpState::SynSent {
            // The look saw the change that this connect tells of.
            comparison.found.remove(&socket);
        } else if found.comes_before(kind, time, is_known) {
            self.settle_one(socket, time, context);
        }
    }

    /// Enters at most `limit` of what was found, once the records before `drained_up_to` have been applied.
    pub(crate) fn settle(
        &mut self,
        drained_up_to: BootTime,
        limit: usize,
        context: &mut Context<'_>,
    ) {
        for _ in 0..limit {
            let complete = |it: &&mut Box<Comparison>| drained_up_to >= it.complete_at;
            let Some(comparison) = self.comparison.as_mut().filter(complete) else {
                return;
            };
            match comparison.next() {
                Some(found) => self.enter(&found, context),
                None => return self.conclude(context),
            }
        }
    }

    /// All that was found has been entered.
    fn conclude(&mut self, context: &mut Context<'_>) {
        if let Some(comparison) = self.comparison.take() {
            for examined in &comparison.examined {
                self.judge(examined, comparison.begun_at, context);
            }
            self.counters.compared.runs += 1;
        }
    }

    /// Whether an entry is a connection between these ends that was found open.
    pub(super) fn was_found(&self, socket: SocketId, ends: &Ends) -> bool {
        self.find(socket).is_some_and(|handle| {
            let entry = &self.entries[handle];
            entry.existing && matches!(entry.phase, Phase::Open) && entry.ends.agree_with(ends)
        })
    }

    /// Enters one socket before its time, after the listeners that were found before it.
    fn settle_one(&mut self, socket: SocketId, time: BootTime, context: &mut Context<'_>) {
        let Some(comparison) = &mut self.comparison else {
            return;
        };
        let mut due = Vec::new();
        while let Some((_, listener)) = comparison.listeners.pop_front_if(|(at, _)| *at <= time) {
            due.extend(comparison.found.remove(&listener));
        }
        let found = comparison.found.remove(&socket);
        // Before the end of the walk, records of the other end may still come that tell more of it.
        if let Some(found) = found.as_ref().filter(|_| time >= comparison.complete_at) {
            due.extend(comparison.take_peer(found));
        }
        due.extend(found);
        for found in &due {
            self.enter(found, context);
        }
    }

    /// Makes an entry for what was found, and for its subflows, unless the records told of it.
    fn enter(&mut self, found: &Found, context: &mut Context<'_>) {
        let known = self.find(found.close.socket);
        if known.is_some() || !self.multipath.has(found.close.socket) {
            self.enter_socket(known, found, context);
        }
        let Some(upper) = found.upper else {
            return;
        };
        self.begin_multipath(found.close.socket, upper, context);
        for (socket, ends) in &found.further {
            if !self.multipath.has(*socket) {
                self.join(*socket, upper, *ends, context);
            }
        }
    }

    fn enter_socket(&mut self, known: Option<Handle>, found: &Found, context: &mut Context<'_>) {
        if let Some(handle) = known {
            let entry = &self.entries[handle];
            if self.ends_of(entry).agree_with(&found.ends) {
                let waited = found.time.since(entry.since);
                if matches!(entry.phase, Phase::Unaccepted) && waited > WAITING_NS {
                    self.repair(handle, found, context);
                }
                return;
            }
            self.drop_stale(handle, context);
        }
        // To be found again and again would make others go again and again.
        if self.is_full() {
            self.counters.evictions += u64::from(self.counters.compared.runs == 0);
            return;
        }
        match found.state() {
            TcpState::Listen => self.enter_listener(found, context),
            TcpState::SynSent => {
                let thread = found.holders.thread();
                self.enter_entry(
                    found,
                    Phase::Connecting { thread },
                    Direction::Egress,
                    context,
                );
            }
            TcpState::Established
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => self.enter_connection(found, context),
            _ => {}
        }
    }

    fn enter_listener(&mut self, found: &Found, context: &mut Context<'_>) {
        let handle = self.enter_entry(found, Phase::Listening, Direction::Ingress, context);
        self.listeners.add(handle, &found.close.endpoints);
        let holders = found.holders.images(context.processes);
        let entry = &self.entries[handle];
        context.observe_at(
            found.time,
            Fact::ListenOpened {
                connection: &entry.connection(),
                process: entry.process_at_open(),
                holders: &holders,
            },
        );
    }

    fn enter_connection(&mut self, found: &Found, context: &mut Context<'_>) {
        let is_listeners = self.listeners.find(&found.close.endpoints).next().is_some();
        let direction = if is_listeners {
            Direction::Ingress
        } else {
            Direction::Unknown
        };
        let handle = self.enter_entry(found, Phase::Open, direction, context);
        self.counters.unattributed += u64::from(self.entries[handle].owner.is_none());
        let holders = found.holders.images(context.processes);
        let entry = &self.entries[handle];
        context.observe_at(
            found.time,
            Fact::ConnectionExisting {
                connection: &entry.connection(),
                process: entry.process_at_open(),
                holders: &holders,
                totals: found.close.totals,
            },
        );
    }

    fn enter_entry(
        &mut self,
        found: &Found,
        phase: Phase,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Handle {
        let owner = found.holders.owner(found.time, context.processes);
        let entry = Entry {
            direction,
            owner_provenance: inferred(owner.is_some()),
            owner,
            opening: Opening::Inventory,
            // An attempt is seen to open, or to fail.
            existing: !matches!(phase, Phase::Connecting { .. }),
            mptcp: found.upper.is_some(),
            ..self.unknown(found.close.socket, found.ends, phase, found.time)
        };
        // The first comparison finds what there was before.
        self.counters.compared.missed += u64::from(self.counters.compared.runs > 0);
        let handle = self.insert(entry, context);
        if matches!(phase, Phase::Open) {
            self.begin_serving(handle, context.processes);
        }
        handle
    }

    /// Somebody holds a connection that had been waiting to be accepted: nobody saw how he got it.
    fn repair(&mut self, handle: Handle, found: &Found, context: &mut Context<'_>) {
        let owner = found.holders.owner(found.time, context.processes);
        self.set_phase(handle, Phase::Open, found.time);
        let entry = &mut self.entries[handle];
        entry.owner_provenance = inferred(owner.is_some());
        entry.owner = owner;
        entry.opening = Opening::Inventory;
        self.begin_serving(handle, context.processes);
        let entry = &self.entries[handle];
        self.counters.compared.repaired += 1;
        self.counters.unattributed += u64::from(entry.owner.is_none());
        context.observe_at(
            found.time,
            Fact::ConnectionAccepted {
                connection: &entry.connection(),
                process: entry.process_at_open(),
            },
        );
    }

    /// Ends the entry of a socket that nobody holds and whose place is empty or taken by another.
    fn judge(&mut self, examined: &ExaminedSocket, begun_at: BootTime, context: &mut Context<'_>) {
        let Some(handle) = self.find(examined.socket) else {
            return;
        };
        let entry = &self.entries[handle];
        let ends = self.ends_of(entry);
        let is_there = |there: &Endpoints| ends.agree_with(&Ends::from(there));
        let is_same = examined.found.as_ref().is_some_and(is_there);
        if !is_same && entry.since < begun_at && entry.phase.list() == LASTING {
            self.drop_stale(handle, context);
            self.counters.compared.stale += 1;
        }
    }
}

/// The socket of a record that needs to know what was found. An accept does not: it tells more.
fn socket_of(kind: &EventKind<'_>) -> Option<SocketId> {
    match kind {
        EventKind::Close(close) => Some(close.socket),
        EventKind::Established { socket, .. } | EventKind::ResetSent(socket) => Some(*socket),
        EventKind::ClientHello(payload) => Some(payload.socket),
        EventKind::Subflow(subflow) if subflow.further => Some(subflow.upper),
        EventKind::Subflow(subflow) => Some(subflow.socket),
        EventKind::Connect(moment) | EventKind::Attempt(moment) | EventKind::Listen(moment) => {
            Some(moment.socket)
        }
        _ => None,
    }
}

fn inferred(is_known: bool) -> Provenance {
    if is_known {
        Provenance::Inferred
    } else {
        Provenance::Unknown
    }
}
