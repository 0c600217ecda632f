//! Multipath TCP: several TCP sockets that are one connection.
//!
//! In: subflows as they are established and end. Out: one connection, known by its first subflow, that lasts as
//! long as any of them. Its entry is found by the socket of one that lives; the others stand here alone. A
//! further subflow of a connection that is not in the table is nobody's, and nothing is told of it.

use hashbrown::HashMap;

use super::endpoints::Ends;
use super::entry::Entry;
use super::table::{ConnectionTable, Context};
use crate::arena::Handle;
use crate::event::{self, Close, Endpoints, SocketId, Totals};
use crate::observation::Subflow;

/// How many of a connection's subflows are kept, of those that ended and of those that live. What more ended ones
/// carried is in the totals; so many live at a time only if closes were lost.
const SUBFLOWS_MAX: usize = 64;

type Map<V> = HashMap<SocketId, V, foldhash::fast::RandomState>;

/// The subflows of all connections over Multipath TCP.
#[derive(Debug, Default)]
pub(super) struct Multipath {
    /// The upper socket of each subflow.
    uppers: Map<SocketId>,
    /// By their upper sockets.
    connections: Map<Subflows>,
}

/// The subflows of one connection.
#[derive(Debug)]
struct Subflows {
    entry: Handle,
    /// The entry is found by the socket of the first of these.
    live: Vec<Live>,
    /// All but the first subflow, at most [`SUBFLOWS_MAX`].
    ended: Vec<Subflow>,
    /// By all that ended.
    carried: Option<Totals>,
}

/// A subflow that is established.
#[derive(Clone, Copy, Debug)]
struct Live {
    socket: SocketId,
    ends: Ends,
    is_first: bool,
}

impl Multipath {
    /// Whether a socket is a subflow of a connection in the table.
    #[inline]
    pub(super) fn has(&self, socket: SocketId) -> bool {
        !self.uppers.is_empty() && self.uppers.contains_key(&socket)
    }

    /// The subflows, but the first, of the connection whose last one had this socket.
    #[inline]
    pub(super) fn ended(&self, socket: SocketId) -> &[Subflow] {
        let subflows = self.has(socket).then(|| self.of(socket)).flatten();
        subflows.map_or(&[], |subflows| &subflows.ended)
    }

    /// Takes out the connection to which this socket belongs.
    pub(super) fn remove(&mut self, socket: SocketId) {
        let upper = self.uppers.remove(&socket);
        let subflows = upper.and_then(|upper| self.connections.remove(&upper));
        for live in subflows.into_iter().flat_map(|subflows| subflows.live) {
            self.uppers.remove(&live.socket);
        }
    }

    /// Takes out a subflow, unless the entry of its connection is found by it.
    #[inline]
    pub(super) fn forget(&mut self, socket: SocketId) {
        if self.has(socket)
            && let Some(subflows) = self.of_mut(socket)
            && let Some(place) = subflows.live.iter().position(|it| it.socket == socket)
            && place != 0
        {
            subflows.live.remove(place);
            self.uppers.remove(&socket);
        }
    }

    fn of(&self, socket: SocketId) -> Option<&Subflows> {
        self.connections.get(self.uppers.get(&socket)?)
    }

    fn of_mut(&mut self, socket: SocketId) -> Option<&mut Subflows> {
        self.connections.get_mut(self.uppers.get(&socket)?)
    }
}

impl Subflows {
    /// One of them ends.
    fn end(&mut self, live: Live, totals: Option<Totals>) {
        self.live.retain(|other| other.socket != live.socket);
        self.carried = self.carried.zip(totals).map(|(sum, totals)| Totals {
            sent: sum.sent + totals.sent,
            received: sum.received + totals.received,
            rtt_us: if live.is_first {
                totals.rtt_us
            } else {
                sum.rtt_us
            },
            retransmits: sum.retransmits.saturating_add(totals.retransmits),
        });
        if !live.is_first && self.ended.len() < SUBFLOWS_MAX {
            self.ended.push(Subflow {
                endpoints: Endpoints::from(&live.ends),
                totals,
            });
        }
    }
}

impl ConnectionTable {
    /// A handshake of Multipath TCP is complete.
    pub(crate) fn subflow(&mut self, subflow: &event::Subflow, context: &mut Context<'_>) {
        let &event::Subflow {
            socket,
            upper,
            ref endpoints,
            ..
        } = subflow;
        if subflow.further {
            return self.join(socket, upper, Ends::from(endpoints), context);
        }
        if subflow.inbound {
            self.established_inbound(socket, endpoints, context);
        } else {
            self.established_outbound(socket, endpoints, true, context);
        }
        self.begin_multipath(socket, upper, context);
    }

    /// The connection with this socket is the first subflow under an upper socket.
    pub(super) fn begin_multipath(
        &mut self,
        socket: SocketId,
        upper: SocketId,
        context: &mut Context<'_>,
    ) {
        let Some(entry) = self.find(socket).filter(|_| !self.multipath.has(socket)) else {
            return;
        };
        // The closes of all subflows of an earlier connection were lost.
        if let Some(earlier) = self.multipath.connections.get(&upper) {
            self.drop_stale(earlier.entry, context);
        }
        self.entries[entry].mptcp = true;
        let first = Live {
            socket,
            ends: self.entries[entry].ends,
            is_first: true,
        };
        self.multipath.uppers.insert(socket, upper);
        let subflows = Subflows {
            entry,
            live: vec![first],
            ended: Vec::new(),
            carried: Some(Totals::default()),
        };
        self.multipath.connections.insert(upper, subflows);
    }

    /// A further subflow becomes part of its connection. Whoever made it, it is no connection of its own.
    pub(super) fn join(
        &mut self,
        socket: SocketId,
        upper: SocketId,
        ends: Ends,
        context: &mut Context<'_>,
    ) {
        self.drop_attempt(socket, &ends, context);
        self.vacate(socket, context);
        self.multipath.forget(socket);
        if let Some(subflows) = self.multipath.connections.get_mut(&upper)
            && subflows.live.len() < SUBFLOWS_MAX
        {
            subflows.live.push(Live {
                socket,
                ends,
                is_first: false,
            });
            self.multipath.uppers.insert(socket, upper);
        }
    }

    /// A subflow reaches CLOSE. The last one ends the connection, with what all of them carried.
    pub(super) fn end_subflow(&mut self, close: &Close, context: &mut Context<'_>) {
        let ends = Ends::from(&close.endpoints);
        let of_socket = |live: &&Live| live.socket == close.socket;
        let Some((subflows, live)) = self.multipath.of_mut(close.socket).and_then(|subflows| {
            let live = *subflows.live.iter().find(of_socket)?;
            Some((subflows, live))
        }) else {
            return self.drop_attempt(close.socket, &ends, context);
        };
        let entry = subflows.entry;
        subflows.end(live, close.totals);
        if let Some(next) = subflows.live.first() {
            let next = next.socket;
            self.multipath.uppers.remove(&close.socket);
            self.find_by(entry, next);
        } else {
            let close = Close {
                endpoints: Endpoints::from(&self.entries[entry].ends),
                totals: subflows.carried,
                ..*close
            };
            self.close_connection(&close, context);
        }
    }

    /// Takes out an attempt that turns out to be one at a further subflow.
    fn drop_attempt(&mut self, socket: SocketId, ends: &Ends, context: &mut Context<'_>) {
        if let Some(handle) = self.pending(socket, ends) {
            self.remove(handle, context.processes);
        }
    }

    /// Lets the entry of a connection be found by another of its subflows. A reset of the one before said
    /// nothing of the connection.
    fn find_by(&mut self, handle: Handle, socket: SocketId) {
        let entry = &mut self.entries[handle];
        if entry.socket != socket {
            self.sockets.remove(entry.socket, handle);
            entry.socket = socket;
            entry.reset_sent = false;
            self.sockets.insert(handle, &self.entries);
        }
    }

    /// The ends of the socket by which an entry is found.
    pub(super) fn ends_of<'a>(&'a self, entry: &'a Entry) -> &'a Ends {
        let subflows = entry
            .mptcp
            .then(|| self.multipath.of(entry.socket))
            .flatten();
        let live = subflows.and_then(|subflows| subflows.live.first());
        live.map_or(&entry.ends, |live| &live.ends)
    }
}

#[cfg(test)]
mod tests;
