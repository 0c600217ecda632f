//! Connections that begin elsewhere: listeners, and what is accepted from them.

use super::endpoints::Ends;
use super::entry::{Entry, Owner, Phase};
use super::table::{ConnectionTable, Context};
use crate::arena::Handle;
use crate::event::{AcceptSeen, Endpoints, SocketId, SocketMoment, TcpState};
use crate::observation::{Connection, Direction, Fact, Opening};
use crate::process::image::Provenance;
use crate::process::table::ProcessId;

impl ConnectionTable {
    /// A socket begins to listen.
    pub(crate) fn listen(
        &mut self,
        moment: &SocketMoment,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        self.vacate(moment.socket, context);
        let ends = Ends::from(&moment.endpoints);
        let unknown = self.unknown(moment.socket, ends, Phase::Listening, context.time);
        let entry = Entry {
            direction: Direction::Ingress,
            owner: Owner::take(context.processes, process),
            owner_provenance: Provenance::Kernel,
            ..unknown.opened(context.time)
        };
        let handle = self.insert(entry, context);
        self.listeners.add(handle, &moment.endpoints);
        let entry = &self.entries[handle];
        context.observe(Fact::ListenOpened {
            connection: &entry.connection(),
            process: entry.process_at_open(),
            holders: &[],
        });
    }

    /// The handshake of an inbound connection is complete; it waits to be accepted.
    pub(crate) fn established_inbound(
        &mut self,
        socket: SocketId,
        endpoints: &Endpoints,
        context: &mut Context<'_>,
    ) {
        let ends = Ends::from(endpoints);
        // Both ends connected to one another at the same time.
        if let Some(handle) = self.pending(socket, &ends) {
            return self.open(handle, &ends, context);
        }
        if self.is_accepted(socket, &ends) {
            return;
        }
        self.vacate(socket, context);
        let entry = self.inbound(socket, ends, context);
        self.insert(entry, context);
    }

    /// A process has a connection from a listener's queue. Only the kernel's own accept proves that
    /// it took it just now; the other ways are believed if nobody else took it.
    pub(crate) fn accept(
        &mut self,
        moment: &SocketMoment,
        seen: AcceptSeen,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        let ends = Ends::from(&moment.endpoints);
        let found = self.find(moment.socket);
        let waiting = found.filter(|&handle| self.is_unaccepted(handle, &ends));
        if let (Some(stale), None, AcceptSeen::AtAccept) = (found, waiting, seen) {
            self.drop_stale(stale, context);
        }
        if moment.state == TcpState::Close {
            return self.accept_closed(waiting, moment.socket, &ends, seen, process, context);
        }
        // With Fast Open a connection can be taken before its handshake ends; nothing else that a process
        // gets hold of is in this state without having connected.
        let early = moment.state == TcpState::SynReceived && self.find(moment.socket).is_none();
        let handle = match (waiting, seen) {
            (Some(handle), _) => handle,
            (None, AcceptSeen::ByDescriptor | AcceptSeen::ByPeerName) if !early => return,
            (None, _) => {
                let entry = self.inbound(moment.socket, ends, context);
                self.insert(entry, context)
            }
        };
        self.set_phase(handle, Phase::Open, context.time);
        let entry = &mut self.entries[handle];
        entry.owner = Owner::take(context.processes, process);
        entry.owner_provenance = Provenance::Kernel;
        entry.opening = opening(seen);
        entry.set_opened_at(context.time);
        self.begin_serving(handle, context.processes);
        let entry = &self.entries[handle];
        context.observe(Fact::ConnectionAccepted {
            connection: &entry.connection(),
            process: entry.process_at_open(),
        });
    }

    /// An entry for a connection that begins elsewhere.
    fn inbound(&mut self, socket: SocketId, ends: Ends, context: &Context<'_>) -> Entry {
        Entry {
            direction: Direction::Ingress,
            ..self.unknown(socket, ends, Phase::Unaccepted, context.time)
        }
    }

    /// Whether this connection was handed to a process before its handshake ended.
    fn is_accepted(&self, socket: SocketId, ends: &Ends) -> bool {
        let entry = self.find(socket).map(|handle| &self.entries[handle]);
        entry.is_some_and(|entry| {
            matches!(entry.phase, Phase::Open)
                && entry.direction == Direction::Ingress
                && entry.ends.agree_with(ends)
        })
    }

    /// Whether an entry is a connection between these ends that waits to be accepted.
    fn is_unaccepted(&self, handle: Handle, ends: &Ends) -> bool {
        let entry = &self.entries[handle];
        matches!(entry.phase, Phase::Unaccepted) && entry.ends.agree_with(ends)
    }

    /// The peer reset the connection before it was accepted: its close has been reported.
    fn accept_closed(
        &mut self,
        waiting: Option<Handle>,
        socket: SocketId,
        ends: &Ends,
        seen: AcceptSeen,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        let mut connection = match waiting {
            // Its close was lost.
            Some(handle) => {
                let connection = self.entries[handle].connection();
                self.vacate(socket, context);
                connection
            }
            None => match self.closed_before_accept(socket, ends) {
                Some(connection) => connection,
                None if seen == AcceptSeen::AtAccept => {
                    self.inbound(socket, *ends, context).connection()
                }
                None => return,
            },
        };
        let image = context.processes.image(process).cloned();
        connection.owner = image.as_ref().map(|image| image.key);
        connection.owner_provenance = Provenance::Kernel;
        connection.opening = opening(seen);
        connection.opened_at = Some(context.time);
        context.observe(Fact::ConnectionAccepted {
            connection: &connection,
            process: image.as_ref(),
        });
    }

    /// The connection that had this socket and was reported as closed without having been accepted.
    fn closed_before_accept(&mut self, socket: SocketId, ends: &Ends) -> Option<Connection> {
        let latest = self.never_accepted.iter().rposition(|connection| {
            connection.socket == socket && Ends::from(&connection.endpoints).agree_with(ends)
        })?;
        self.never_accepted.remove(latest)
    }
}

/// How the owner was seen.
fn opening(seen: AcceptSeen) -> Opening {
    match seen {
        AcceptSeen::AtAccept => Opening::Accept,
        AcceptSeen::ByDescriptor => Opening::AcceptExit,
        AcceptSeen::ByPeerName => Opening::PeerName,
    }
}
