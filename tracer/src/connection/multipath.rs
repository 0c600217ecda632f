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
mod tests {
    use super::*;
    use crate::event::{BootTime, Name, SocketMoment, Task, TcpState};
    use crate::observation::{Fact, Observation, Sink};
    use crate::process::table::ProcessTable;

    const UPPER: SocketId = SocketId(1_000);

    /// What was said when connections closed.
    #[derive(Default)]
    struct Closes(Vec<(Option<Totals>, usize)>);

    impl Sink for Closes {
        fn observe(&mut self, observation: &Observation<'_>) {
            if let Fact::ConnectionClosed {
                totals, subflows, ..
            } = observation.fact
            {
                self.0.push((totals, subflows.len()));
            }
        }

        fn flush(&mut self) {}
    }

    struct Bench {
        table: ConnectionTable,
        processes: ProcessTable,
        closes: Closes,
    }

    impl Bench {
        fn new(capacity: usize) -> Self {
            Bench {
                table: ConnectionTable::new(capacity),
                processes: ProcessTable::new(8),
                closes: Closes::default(),
            }
        }

        fn act(&mut self, act: impl FnOnce(&mut ConnectionTable, &mut Context<'_>)) {
            let mut context = Context {
                time: BootTime(1),
                processes: &mut self.processes,
                sink: &mut self.closes,
            };
            act(&mut self.table, &mut context);
        }

        fn open(&mut self, socket: u64, upper: SocketId) {
            let task = Task {
                tgid: 20,
                tid: 20,
                start_ns: Some(1),
                euid: Some(0),
                kernel_thread: false,
                name: Name::default(),
            };
            let process = self.processes.seen(BootTime(1), &task);
            let moment = SocketMoment {
                socket: SocketId(socket),
                task,
                endpoints: endpoints(socket),
                state: TcpState::SynSent,
            };
            self.act(|table, context| table.connect(&moment, process, context));
            self.subflow(socket, upper, false);
        }

        fn subflow(&mut self, socket: u64, upper: SocketId, further: bool) {
            let subflow = event::Subflow {
                socket: SocketId(socket),
                upper,
                endpoints: endpoints(socket),
                further,
                inbound: false,
            };
            self.act(|table, context| table.subflow(&subflow, context));
        }

        fn close(&mut self, socket: u64, sent: Option<u64>) {
            let close = Close {
                socket: SocketId(socket),
                endpoints: endpoints(socket),
                old_state: TcpState::LastAck,
                errno: None,
                fin_received: true,
                held: false,
                further: socket > 1,
                totals: sent.map(|sent| Totals {
                    sent,
                    ..Totals::default()
                }),
            };
            self.act(|table, context| table.close(&close, context));
        }

        fn is_empty(&self) -> bool {
            let multipath = &self.table.multipath;
            multipath.uppers.is_empty() && multipath.connections.is_empty()
        }
    }

    fn endpoints(socket: u64) -> Endpoints {
        let port = 1_000 + u16::try_from(socket).unwrap();
        Endpoints {
            netns: 1,
            local: ([10, 0, 0, 1], port).into(),
            remote: ([10, 0, 0, 2], 80).into(),
            ipv6_socket: false,
        }
    }

    #[test]
    fn nothing_is_left_of_a_connection_that_ended() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
            let mut bench = Bench::new(4);
            bench.open(1, UPPER);
            bench.subflow(2, UPPER, true);
            bench.subflow(3, UPPER, true);
            for socket in order {
                assert!(bench.closes.0.is_empty() && !bench.table.is_empty());
                bench.close(socket, Some(socket * 10));
            }
            let sum = Totals {
                sent: 60,
                ..Totals::default()
            };
            assert_eq!(bench.closes.0, [(Some(sum), 2)]);
            assert!(bench.is_empty() && bench.table.is_empty());
        }
    }

    #[test]
    fn nothing_is_left_of_a_connection_that_made_room() {
        let mut bench = Bench::new(1);
        bench.open(1, UPPER);
        bench.subflow(2, UPPER, true);
        bench.open(3, SocketId(1_001));
        assert_eq!(bench.table.counters().evictions, 1);
        bench.close(2, Some(1));
        bench.close(3, Some(1));
        assert!(bench.is_empty() && bench.table.is_empty());
    }

    #[test]
    fn an_upper_socket_that_begins_anew_ends_what_it_had() {
        let mut bench = Bench::new(4);
        bench.open(1, UPPER);
        bench.subflow(2, UPPER, true);
        bench.open(3, UPPER);
        assert_eq!(bench.table.counters().lost_closes, 1);
        assert_eq!(bench.table.len(), 1);
        bench.close(3, Some(7));
        assert_eq!(bench.closes.0.len(), 1);
        assert!(bench.is_empty());
    }

    #[test]
    fn a_further_subflow_whose_close_was_lost_gives_way() {
        let mut bench = Bench::new(4);
        bench.open(1, UPPER);
        bench.subflow(2, UPPER, true);
        bench.open(2, SocketId(1_001));
        bench.close(1, Some(7));
        assert_eq!(bench.closes.0.len(), 1);
        assert_eq!(bench.table.len(), 1);
    }

    #[test]
    fn totals_that_lack_a_part_are_unknown() {
        let mut bench = Bench::new(4);
        bench.open(1, UPPER);
        bench.subflow(2, UPPER, true);
        bench.close(2, None);
        bench.close(1, Some(7));
        assert_eq!(bench.closes.0, [(None, 1)]);
    }

    #[test]
    fn a_path_that_comes_and_goes_is_listed_so_often_and_counted_always() {
        let mut bench = Bench::new(4);
        bench.open(1, UPPER);
        let rounds = SUBFLOWS_MAX as u64 + 10;
        for _ in 0..rounds {
            bench.subflow(2, UPPER, true);
            bench.close(2, Some(1));
        }
        bench.close(1, Some(0));
        let sum = Totals {
            sent: rounds,
            ..Totals::default()
        };
        assert_eq!(bench.closes.0, [(Some(sum), SUBFLOWS_MAX)]);
        assert!(bench.is_empty());
    }
}
