//! Connections that begin elsewhere: listeners, and what is accepted from them.

use super::entry::Phase;
use super::table::{ConnectionTable, Context, owned_by};
use crate::arena::Handle;
use crate::event::{AcceptSeen, BootTime, Endpoints, ProcessKey, SocketId, SocketMoment, TcpState};
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
        let (owner, key) = owned_by(context.processes, process);
        let connection = Connection {
            direction: Direction::Ingress,
            owner: key,
            owner_provenance: Provenance::Kernel,
            opened_at: Some(context.time),
            ..self.unknown(moment.socket, moment.endpoints, context.time)
        };
        let handle = self.insert(connection, owner, Phase::Listening, context);
        let entry = &self.entries[handle];
        self.listeners.add(handle, &entry.connection.endpoints);
        context.observe(Fact::ListenOpened {
            connection: &entry.connection,
            process: entry.process_at_open(),
        });
    }

    /// The handshake of an inbound connection is complete; it waits to be accepted.
    pub(crate) fn established_inbound(
        &mut self,
        socket: SocketId,
        endpoints: &Endpoints,
        context: &mut Context<'_>,
    ) {
        // Both ends connected to one another at the same time.
        if let Some(handle) = self.pending(socket, endpoints) {
            return self.open(handle, endpoints, context);
        }
        self.vacate(socket, context);
        let connection = Connection {
            direction: Direction::Ingress,
            ..self.unknown(socket, *endpoints, context.time)
        };
        self.insert(connection, None, Phase::Unaccepted, context);
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
        let waiting = self.unaccepted(moment);
        if waiting.is_none() && seen == AcceptSeen::AtAccept {
            self.vacate(moment.socket, context);
        }
        if moment.state == TcpState::Close {
            return self.accept_closed(waiting, moment, seen, process, context);
        }
        let handle = match (waiting, seen) {
            (Some(handle), _) => handle,
            (None, AcceptSeen::AtAccept) => {
                let connection = Connection {
                    direction: Direction::Ingress,
                    ..self.unknown(moment.socket, moment.endpoints, context.time)
                };
                self.insert(connection, None, Phase::Unaccepted, context)
            }
            (None, AcceptSeen::ByDescriptor | AcceptSeen::ByPeerName) => return,
        };
        self.set_phase(handle, Phase::Open, context.time);
        let (owner, key) = owned_by(context.processes, process);
        let entry = &mut self.entries[handle];
        entry.owner = owner;
        give(&mut entry.connection, key, seen, context.time);
        context.observe(Fact::ConnectionAccepted {
            connection: &entry.connection,
            process: entry.process_at_open(),
        });
    }

    /// The connection of this moment, if it waits to be accepted.
    fn unaccepted(&self, moment: &SocketMoment) -> Option<Handle> {
        self.find(moment.socket).filter(|&handle| {
            let entry = &self.entries[handle];
            matches!(entry.phase, Phase::Unaccepted)
                && entry.connection.endpoints.agree_with(&moment.endpoints)
        })
    }

    /// The peer reset the connection before it was accepted: its close has been reported.
    fn accept_closed(
        &mut self,
        waiting: Option<Handle>,
        moment: &SocketMoment,
        seen: AcceptSeen,
        process: ProcessId,
        context: &mut Context<'_>,
    ) {
        let mut connection = match waiting {
            // Its close was lost.
            Some(handle) => {
                let connection = self.entries[handle].connection.clone();
                self.vacate(moment.socket, context);
                connection
            }
            None => match self.closed_before_accept(moment) {
                Some(connection) => connection,
                None if seen == AcceptSeen::AtAccept => Connection {
                    direction: Direction::Ingress,
                    ..self.unknown(moment.socket, moment.endpoints, context.time)
                },
                None => return,
            },
        };
        let image = context.processes.image(process).cloned();
        let key = image.as_ref().map(|image| image.key);
        give(&mut connection, key, seen, context.time);
        context.observe(Fact::ConnectionAccepted {
            connection: &connection,
            process: image.as_ref(),
        });
    }

    /// The connection that had this socket and was reported as closed without having been accepted.
    fn closed_before_accept(&mut self, moment: &SocketMoment) -> Option<Connection> {
        let latest = self.never_accepted.iter().rposition(|connection| {
            connection.socket == moment.socket && connection.endpoints.agree_with(&moment.endpoints)
        })?;
        self.never_accepted.remove(latest)
    }
}

/// Gives a connection its owner.
fn give(
    connection: &mut Connection,
    owner: Option<ProcessKey>,
    seen: AcceptSeen,
    accepted_at: BootTime,
) {
    connection.owner = owner;
    connection.owner_provenance = Provenance::Kernel;
    connection.opened_at = Some(accepted_at);
    connection.opening = match seen {
        AcceptSeen::AtAccept => Opening::Accept,
        AcceptSeen::ByDescriptor => Opening::AcceptExit,
        AcceptSeen::ByPeerName => Opening::PeerName,
    };
}
