//! The connection that a TLS handshake begins.
//!
//! In: the socket through which it is sent, and between which ends. Out: which connection that is, and whose.

use super::entry::Phase;
use super::table::{ConnectionTable, Context};
use crate::event::{Endpoints, SocketId};
use crate::observation::{ConnectionId, Fact, Observation};
use crate::tls::ClientHello;

impl ConnectionTable {
    /// The connection of a socket that sends, if it is known.
    pub(crate) fn sending(&self, socket: SocketId, ends: &Endpoints) -> Option<ConnectionId> {
        let entry = &self.entries[self.find(socket)?];
        let may_send = matches!(
            entry.phase,
            Phase::Attempted { .. } | Phase::Connecting { .. } | Phase::Unaccepted | Phase::Open
        );
        (may_send && entry.ends.agree_with(&ends.into())).then_some(entry.id)
    }

    /// The connection of this socket begins with a TLS handshake. Whoever owns it is told as he is now.
    pub(crate) fn tell_hello(
        &self,
        socket: SocketId,
        hello: &ClientHello,
        context: &mut Context<'_>,
    ) {
        let Some(handle) = self.find(socket) else {
            return;
        };
        let entry = &self.entries[handle];
        let connection = context.named(entry);
        let process = entry.process_now(context.processes);
        let (time, connection) = (context.time, Some(&connection));
        let fact = Fact::ClientHello {
            hello,
            connection,
            process,
        };
        context.sink.observe(&Observation { time, fact });
    }
}
