//! Connections that begin here: attempts, their failures, their success.

use super::endpoints::Ends;
use super::entry::{Echo, Entry, Owner, Phase};
use super::outcome::{self, EINPROGRESS};
use super::table::{ConnectionTable, Context};
use crate::arena::Handle;
use crate::event::{BootTime, Endpoints, Errno, SocketId, SocketMoment};
use crate::observation::{ConnectionId, Direction, Fact, Opening};
use crate::process::image::Provenance;
use crate::process::table::ProcessId;

impl ConnectionTable {
    /// A process asks for a connection. Before the route is looked up, so that a connection which
    /// fails for want of one is seen at all; if it begins, [`connect`](Self::connect) follows.
    pub(crate) fn attempt(
        &mut self,
        moment: &SocketMoment,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        self.vacate(moment.socket, context);
        let handle = self.outbound(moment, process, Opening::Attempt, None, context);
        let thread = moment.task.tid;
        self.set_phase(handle, Phase::Attempted { thread }, context.time);
    }

    /// An outbound connection begins.
    pub(crate) fn connect(
        &mut self,
        moment: &SocketMoment,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        let mut id = None;
        if let Some(handle) = self.find(moment.socket) {
            let entry = &self.entries[handle];
            // A comparison finds an attempt as soon as its socket is in SYN_SENT, which is just before the hook.
            let was_found = entry.opening == Opening::Inventory
                && matches!(entry.phase, Phase::Connecting { .. });
            if was_found || matches!(entry.phase, Phase::Attempted { .. }) {
                id = Some(entry.id);
                self.remove(handle, context.processes);
            } else {
                self.drop_stale(handle, context);
            }
        }
        self.outbound(moment, process, Opening::Connect, id, context);
    }

    /// The handshake of an outbound connection is complete.
    pub(crate) fn established_outbound(
        &mut self,
        socket: SocketId,
        endpoints: &Endpoints,
        mptcp: bool,
        context: &mut Context<'_>,
    ) {
        let ends = Ends::from(endpoints);
        match self.pending(socket, &ends) {
            Some(handle) => {
                // Found as an attempt at Multipath TCP, but the peer does not speak it.
                if !mptcp && self.multipath.has(socket) {
                    self.multipath.remove(socket);
                }
                self.entries[handle].mptcp = mptcp;
                self.open(handle, &ends, context);
            }
            None if self.was_found(socket, &ends) => {}
            None => self.open_unknown(socket, ends, mptcp, context),
        }
    }

    /// A pending attempt on this socket, unless its ends are others.
    pub(super) fn pending(&self, socket: SocketId, ends: &Ends) -> Option<Handle> {
        self.find(socket).filter(|&handle| {
            let entry = &self.entries[handle];
            matches!(
                entry.phase,
                Phase::Attempted { .. } | Phase::Connecting { .. }
            ) && entry.ends.agree_with(ends)
        })
    }

    pub(super) fn open(&mut self, handle: Handle, ends: &Ends, context: &mut Context<'_>) {
        self.set_phase(handle, Phase::Open, context.time);
        let entry = &mut self.entries[handle];
        if !entry.ends.are_complete() {
            entry.ends = ends.completed_by(&entry.ends);
            self.meet_peer(handle);
        }
        let entry = &self.entries[handle];
        context.observe(Fact::ConnectionOpened {
            connection: &context.named(entry),
            process: entry.process_at_open(),
            connect_duration_ns: entry.opened_at().map(|begin| context.time.since(begin)),
        });
    }

    /// Opened, but nobody saw who connected: perhaps before the tracer started.
    fn open_unknown(
        &mut self,
        socket: SocketId,
        ends: Ends,
        mptcp: bool,
        context: &mut Context<'_>,
    ) {
        self.vacate(socket, context);
        let entry = Entry {
            direction: Direction::Egress,
            mptcp,
            ..self.unknown(socket, ends, Phase::Open, context.time)
        };
        self.counters.unattributed += 1;
        let handle = self.insert(entry, context);
        context.observe(Fact::ConnectionOpened {
            connection: &context.named(&self.entries[handle]),
            process: None,
            connect_duration_ns: None,
        });
    }

    /// The system call failed. Its hooks sit on several functions that call one another, and the
    /// socket may have told the failure already, so the same one can be seen up to three times.
    pub(crate) fn connect_error(
        &mut self,
        moment: &SocketMoment,
        errno: Errno,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        let ends = Ends::from(&moment.endpoints);
        if errno == EINPROGRESS || self.is_echo(moment, &ends, errno) {
            return;
        }
        let handle = self.failing(moment, &ends).unwrap_or_else(|| {
            self.vacate(moment.socket, context);
            self.outbound(moment, process, Opening::ConnectError, None, context)
        });
        self.complete(handle, &ends);
        let entry = &mut self.entries[handle];
        if entry.owner.is_none() {
            entry.owner = Owner::take(context.processes, process);
            entry.owner_provenance = Provenance::Kernel;
            entry.opening = Opening::ConnectError;
        }
        let left = u8::from(entry.ends.are_mapped());
        let echo = Echo {
            thread: Some(moment.task.tid),
            errno: Some(errno),
            left,
        };
        self.fail(handle, Some(errno), context.time, echo, context);
    }

    /// Whether this failure has been reported.
    fn is_echo(&mut self, moment: &SocketMoment, ends: &Ends, error: Errno) -> bool {
        let Some(handle) = self.find(moment.socket) else {
            return false;
        };
        let entry = &mut self.entries[handle];
        let Phase::Failed(Echo {
            thread,
            errno,
            left,
        }) = &mut entry.phase
        else {
            return false;
        };
        let is_echo = *left > 0
            && thread.is_none_or(|thread| thread == moment.task.tid)
            && errno.is_none_or(|errno| errno == error)
            && entry.ends.agree_with(ends);
        *left -= u8::from(is_echo);
        is_echo
    }

    /// The attempt that fails with this error, if it was seen.
    fn failing(&self, moment: &SocketMoment, ends: &Ends) -> Option<Handle> {
        self.find(moment.socket).filter(|&handle| {
            let entry = &self.entries[handle];
            let same_thread = match entry.phase {
                Phase::Attempted { thread } | Phase::Connecting { thread } => {
                    thread == moment.task.tid
                }
                Phase::Cancelled { thread } => {
                    thread.is_none_or(|thread| thread == moment.task.tid)
                }
                _ => false,
            };
            same_thread && entry.ends.agree_with(ends)
        })
    }

    /// Reports an attempt as failed, and keeps the entry only as long as echoes may come.
    pub(super) fn fail(
        &mut self,
        handle: Handle,
        errno: Option<Errno>,
        time: BootTime,
        echo: Echo,
        context: &mut Context<'_>,
    ) {
        let entry = &self.entries[handle];
        self.counters.unattributed += u64::from(entry.owner.is_none());
        context.observe_at(
            time,
            Fact::ConnectionFailed {
                connection: &context.named(entry),
                process: entry.process_at_open(),
                errno,
                state: outcome::failed(errno),
            },
        );
        if echo.left > 0 {
            self.set_phase(handle, Phase::Failed(echo), context.time);
        } else {
            self.remove(handle, context.processes);
        }
    }

    /// A new entry for an attempt, under the identity that it already has, if any.
    fn outbound(
        &mut self,
        moment: &SocketMoment,
        process: ProcessId,
        opening: Opening,
        id: Option<ConnectionId>,
        context: &mut Context<'_>,
    ) -> Handle {
        let ends = Ends::from(&moment.endpoints);
        let phase = Phase::Connecting {
            thread: moment.task.tid,
        };
        let mut unknown = self.unknown(moment.socket, ends, phase, context.time);
        if opening == Opening::Connect {
            unknown.set_opened_at(context.time);
        }
        let entry = Entry {
            id: id.unwrap_or(unknown.id),
            direction: Direction::Egress,
            owner: Owner::take(context.processes, process),
            owner_provenance: Provenance::Kernel,
            opening,
            cause: self.cause_of_act(process, context.processes),
            ..unknown
        };
        self.insert(entry, context)
    }
}
