//! How connections, attempts and listeners end.

use super::endpoints::Ends;
use super::entry::{Echo, End, Owner, Phase};
use super::outcome::{self, ECANCELED};
use super::table::{ConnectionTable, Context};
use crate::arena::Handle;
use crate::event::{BootTime, Close, Endpoints, SocketId, TcpState};
use crate::observation::{Direction, Fact, Observation};
use crate::process::image::Provenance;
use crate::process::table::ProcessTable;

/// How many connections that ended before they were accepted are remembered for a late accept.
const NEVER_ACCEPTED_MAX: usize = 1_024;

impl ConnectionTable {
    /// A socket reaches CLOSE.
    pub(crate) fn close(&mut self, close: &Close, context: &mut Context<'_>) {
        if close.old_state == TcpState::Close {
            return;
        }
        if close.further || self.multipath.has(close.socket) {
            self.end_subflow(close, context);
        } else {
            self.close_connection(close, context);
        }
    }

    /// The only socket of a connection, or of its last subflow, reaches CLOSE.
    pub(super) fn close_connection(&mut self, close: &Close, context: &mut Context<'_>) {
        let ends = Ends::from(&close.endpoints);
        let Some(handle) = self.closing(close, &ends, context) else {
            return self.close_unknown(close, ends, context);
        };
        self.complete(handle, &ends);
        match (self.entries[handle].phase, close.old_state) {
            (Phase::Listening, _) => self.unlisten(handle, context),
            (
                Phase::Attempted { thread } | Phase::Connecting { thread },
                TcpState::SynSent | TcpState::SynReceived,
            ) => self.end_attempt(handle, Some(thread), close, context),
            (Phase::Unaccepted, _) => self.end_unaccepted(handle, close, context),
            _ => self.end(handle, close, context),
        }
    }

    /// This host sent a reset for a connection, before or just after its close.
    pub(crate) fn reset_sent(&mut self, socket: SocketId, context: &mut Context<'_>) {
        let Some(handle) = self.find(socket) else {
            return;
        };
        let entry = &mut self.entries[handle];
        match entry.phase {
            Phase::Open | Phase::Unaccepted => entry.reset_sent = true,
            Phase::Ending(_) => {
                entry.reset_sent = true;
                self.release(handle, context);
            }
            // A listener, or an attempt, answers a stray segment.
            _ => {}
        }
    }

    /// Reports an entry whose wait is over as what it is, and takes it out.
    pub(super) fn release(&mut self, handle: Handle, context: &mut Context<'_>) {
        let entry = &self.entries[handle];
        let (since, no_echo) = (
            entry.since,
            Echo {
                thread: None,
                errno: None,
                left: 0,
            },
        );
        match entry.phase {
            Phase::Attempted { .. } => self.fail(handle, None, since, no_echo, context),
            Phase::Cancelled { thread: Some(_) } => {
                // Without a local port it was not given up: it never got so far.
                let begun = entry.ends.local.port != 0;
                self.fail(handle, begun.then_some(ECANCELED), since, no_echo, context);
            }
            Phase::Ending(end) => self.report_closed(handle, &end, since, context),
            _ => self.remove(handle, context.processes),
        }
    }

    /// The entry that this close is about. An entry that contradicts it is of an earlier socket.
    fn closing(&mut self, close: &Close, ends: &Ends, context: &mut Context<'_>) -> Option<Handle> {
        let handle = self.find(close.socket)?;
        let entry = &self.entries[handle];
        if entry.phase.can_leave(close.old_state) && entry.ends.agree_with(ends) {
            return Some(handle);
        }
        self.vacate(close.socket, context);
        None
    }

    /// A close of which the beginning was not seen.
    fn close_unknown(&mut self, close: &Close, ends: Ends, context: &mut Context<'_>) {
        let mut entry = self.unknown(close.socket, ends, Phase::Unaccepted, context.time);
        match close.old_state {
            TcpState::Listen => {
                entry.direction = Direction::Ingress;
                context.observe(Fact::ListenClosed {
                    connection: &entry.connection(),
                    process: None,
                });
            }
            TcpState::SynSent => {
                entry.direction = Direction::Egress;
                entry.phase = Phase::Cancelled { thread: None };
                let handle = self.insert(entry, context);
                self.end_attempt(handle, None, close, context);
            }
            // Two processors that complete the same handshake make two sockets, of which one is dropped
            // before it is anyone's connection.
            TcpState::SynReceived => {}
            _ => {
                let handle = self.insert(entry, context);
                self.end_unaccepted(handle, close, context);
            }
        }
    }

    /// An attempt is over. Without an error on the socket it was given up, or the system call that
    /// made it fails and tells why.
    fn end_attempt(
        &mut self,
        handle: Handle,
        thread: Option<u32>,
        close: &Close,
        context: &mut Context<'_>,
    ) {
        if close.errno.is_none() {
            return self.set_phase(handle, Phase::Cancelled { thread }, context.time);
        }
        let left = 1 + u8::from(self.entries[handle].ends.are_mapped());
        let echo = Echo {
            thread,
            errno: None,
            left,
        };
        self.fail(handle, close.errno, context.time, echo, context);
    }

    /// A connection is over. If this host had shut it down, a reset may still be sent for it.
    fn end(&mut self, handle: Handle, close: &Close, context: &mut Context<'_>) {
        self.end_serving(handle, context.processes);
        let end = End::from(close);
        if outcome::reset_may_follow(&end) && !self.entries[handle].reset_sent {
            self.set_phase(handle, Phase::Ending(end), context.time);
        } else {
            self.report_closed(handle, &end, context.time, context);
        }
    }

    fn report_closed(
        &mut self,
        handle: Handle,
        end: &End,
        time: BootTime,
        context: &mut Context<'_>,
    ) {
        let entry = &self.entries[handle];
        let connection = context.named(entry);
        let process = entry.process_now(context.processes);
        context.sink.observe(&Observation {
            time,
            fact: Fact::ConnectionClosed {
                connection: &connection,
                process,
                totals: end.totals,
                subflows: self.multipath.ended(entry.socket),
                duration_ns: entry.opened_at().map(|begin| time.since(begin)),
                state: outcome::closed(entry.direction, end, entry.reset_sent),
                errno: end.errno,
            },
        });
        // It shares the cause, whose memory is used again.
        drop(connection);
        self.remove(handle, context.processes);
    }

    /// A listener is gone. It is still found for a while: the kernel closes what was in its queue
    /// only now.
    fn unlisten(&mut self, handle: Handle, context: &mut Context<'_>) {
        let entry = &self.entries[handle];
        let fact = Fact::ListenClosed {
            connection: &entry.connection(),
            process: entry.process_now(context.processes),
        };
        let time = context.time;
        context.sink.observe(&Observation { time, fact });
        self.set_phase(handle, Phase::Unlistened, context.time);
    }

    /// A connection is over that nobody accepted, or whose beginning was not seen.
    fn end_unaccepted(&mut self, handle: Handle, close: &Close, context: &mut Context<'_>) {
        // What was never accepted has no one who could have closed it in order, and no descriptor: whoever
        // has one accepted it unseen.
        let unclosed = matches!(close.old_state, TcpState::Established | TcpState::CloseWait);
        if unclosed && !close.held {
            self.infer_owner(handle, context.processes);
        }
        let entry = &self.entries[handle];
        self.counters.unattributed += u64::from(entry.owner.is_none());
        if entry.direction == Direction::Ingress {
            if self.never_accepted.len() == NEVER_ACCEPTED_MAX {
                self.never_accepted.pop_front();
            }
            self.never_accepted.push_back(entry.connection());
        }
        self.end(handle, close, context);
    }

    /// Concludes from its local end who would have accepted a connection.
    fn infer_owner(&mut self, handle: Handle, processes: &mut ProcessTable) {
        let endpoints = Endpoints::from(&self.entries[handle].ends);
        let Some(listener) = self.listener_owner(&endpoints) else {
            return;
        };
        let owner = listener.map(|owner| owner.share(processes));
        let entry = &mut self.entries[handle];
        entry.direction = Direction::Ingress;
        if owner.is_some() {
            entry.owner_provenance = Provenance::Inferred;
            entry.owner = owner;
        }
    }

    /// The owner of what listens at a local end; `Some(None)` if processes share it, so that any of
    /// them could be the one.
    fn listener_owner(&self, endpoints: &Endpoints) -> Option<Option<&Owner>> {
        let process = |owner: Option<&Owner>| owner.map(|owner| owner.process);
        let mut owners = self
            .listeners
            .find(endpoints)
            .map(|handle| self.entries[handle].owner.as_ref());
        let first = owners.next()?;
        Some(first.filter(|_| owners.all(|other| process(other) == process(first))))
    }
}
