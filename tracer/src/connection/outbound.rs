//! Connections that begin here: attempts, their failures, their success.

use super::entry::{Echo, Phase};
use super::outcome::{self, EINPROGRESS};
use super::table::{ConnectionTable, Context, owned_by};
use crate::arena::Handle;
use crate::event::{BootTime, Endpoints, Errno, SocketId, SocketMoment};
use crate::observation::{Connection, ConnectionId, Direction, Fact, Opening};
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
        let attempt = self.find(moment.socket).and_then(|handle| {
            let entry = &self.entries[handle];
            let attempted = matches!(entry.phase, Phase::Attempted { .. });
            attempted.then_some((handle, entry.connection.id))
        });
        match attempt {
            Some((handle, _)) => self.remove(handle, context.processes),
            None => self.vacate(moment.socket, context),
        }
        let id = attempt.map(|(_, id)| id);
        self.outbound(moment, process, Opening::Connect, id, context);
    }

    /// The handshake of an outbound connection is complete.
    pub(crate) fn established_outbound(
        &mut self,
        socket: SocketId,
        endpoints: &Endpoints,
        context: &mut Context<'_>,
    ) {
        match self.pending(socket, endpoints) {
            Some(handle) => self.open(handle, endpoints, context),
            None => self.open_unknown(socket, endpoints, context),
        }
    }

    /// A pending attempt on this socket, unless its ends are others.
    pub(super) fn pending(&self, socket: SocketId, endpoints: &Endpoints) -> Option<Handle> {
        self.find(socket).filter(|&handle| {
            let entry = &self.entries[handle];
            matches!(
                entry.phase,
                Phase::Attempted { .. } | Phase::Connecting { .. }
            ) && entry.connection.endpoints.agree_with(endpoints)
        })
    }

    pub(super) fn open(
        &mut self,
        handle: Handle,
        endpoints: &Endpoints,
        context: &mut Context<'_>,
    ) {
        self.set_phase(handle, Phase::Open, context.time);
        let connection = &mut self.entries[handle].connection;
        if !connection.endpoints.are_complete() {
            connection.endpoints = endpoints.completed_by(&connection.endpoints);
            self.meet_peer(handle);
        }
        let entry = &self.entries[handle];
        let connection = &entry.connection;
        context.observe(Fact::ConnectionOpened {
            connection,
            process: entry.process_at_open(),
            connect_duration_ns: connection.opened_at.map(|begin| context.time.since(begin)),
        });
    }

    /// Opened, but nobody saw who connected: perhaps before the tracer started.
    fn open_unknown(&mut self, socket: SocketId, endpoints: &Endpoints, context: &mut Context<'_>) {
        self.vacate(socket, context);
        let connection = Connection {
            direction: Direction::Egress,
            ..self.unknown(socket, *endpoints, context.time)
        };
        self.counters.unattributed += 1;
        let handle = self.insert(connection, None, Phase::Open, context);
        context.observe(Fact::ConnectionOpened {
            connection: &self.entries[handle].connection,
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
        if errno == EINPROGRESS || self.is_echo(moment, errno) {
            return;
        }
        let handle = self.failing(moment).unwrap_or_else(|| {
            self.vacate(moment.socket, context);
            self.outbound(moment, process, Opening::ConnectError, None, context)
        });
        let entry = &mut self.entries[handle];
        let connection = &mut entry.connection;
        connection.endpoints = connection.endpoints.completed_by(&moment.endpoints);
        if entry.owner.is_none() {
            (entry.owner, connection.owner) = owned_by(context.processes, process);
            connection.owner_provenance = Provenance::Kernel;
            connection.opening = Opening::ConnectError;
        }
        let left = u8::from(connection.endpoints.are_mapped());
        let echo = Echo {
            thread: Some(moment.task.tid),
            errno: Some(errno),
            left,
        };
        self.fail(handle, Some(errno), context.time, echo, context);
    }

    /// Whether this failure has been reported.
    fn is_echo(&mut self, moment: &SocketMoment, error: Errno) -> bool {
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
            && entry.connection.endpoints.agree_with(&moment.endpoints);
        *left -= u8::from(is_echo);
        is_echo
    }

    /// The attempt that fails with this error, if it was seen.
    fn failing(&self, moment: &SocketMoment) -> Option<Handle> {
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
            same_thread && entry.connection.endpoints.agree_with(&moment.endpoints)
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
        let fact = Fact::ConnectionFailed {
            connection: &entry.connection,
            process: entry.process_at_open(),
            errno,
            state: outcome::failed(errno),
        };
        context.observe_at(time, fact);
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
        let (owner, key) = owned_by(context.processes, process);
        let unknown = self.unknown(moment.socket, moment.endpoints, context.time);
        let connection = Connection {
            id: id.unwrap_or(unknown.id),
            direction: Direction::Egress,
            owner: key,
            owner_provenance: Provenance::Kernel,
            opening,
            opened_at: (opening == Opening::Connect).then_some(context.time),
            ..unknown
        };
        let phase = Phase::Connecting {
            thread: moment.task.tid,
        };
        self.insert(connection, owner, phase, context)
    }
}
