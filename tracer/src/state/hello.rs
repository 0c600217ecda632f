//! A TLS handshake finds its connection.
//!
//! In: what was sent first through a socket. Out: what it says, with the connection and its owner, once; alone if
//! nobody knows the connection in time.

use super::State;
use crate::event::{BootTime, HelloPayload, SocketId};
use crate::observation::{Fact, Observation, Sink};
use crate::tls::ClientHello;
use crate::tls::hellos::Waiting;

impl State {
    /// A connection begins with a TLS handshake. With Fast Open, that is seen before the connection.
    #[inline(never)]
    pub(super) fn client_hello(
        &mut self,
        time: BootTime,
        payload: &HelloPayload<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some(hello) = self.hellos.read(payload) else {
            return;
        };
        let socket = payload.socket;
        if self.tell_hello(time, socket, &hello, sink) {
            return;
        }
        let waiting = Waiting {
            time,
            socket,
            hello,
        };
        if let Some(oldest) = self.hellos.hold(waiting) {
            tell_unknown_hello(&oldest, sink);
        }
    }

    /// False if the connection is not known.
    fn tell_hello(
        &mut self,
        time: BootTime,
        socket: SocketId,
        hello: &ClientHello,
        sink: &mut dyn Sink,
    ) -> bool {
        let Some(connection) = self.connections.sending(socket, &hello.endpoints) else {
            return false;
        };
        if self.hellos.is_first_of(connection) {
            let (connections, mut context) = self.split(time, sink);
            connections.tell_hello(socket, hello, &mut context);
            self.hellos.remember(connection, hello);
        }
        true
    }

    /// The connection of a socket has become known.
    #[inline(never)]
    pub(super) fn tell_waiting_hello(&mut self, socket: SocketId, sink: &mut dyn Sink) {
        if let Some(waiting) = self.hellos.take(socket)
            && !self.tell_hello(waiting.time, socket, &waiting.hello, sink)
        {
            tell_unknown_hello(&waiting, sink);
        }
    }

    /// Whose connection has not become known in time.
    #[inline(never)]
    pub(super) fn tell_unknown_hellos(&mut self, now: BootTime, sink: &mut dyn Sink) {
        while let Some(waiting) = self.hellos.take_due(now) {
            tell_unknown_hello(&waiting, sink);
        }
    }
}

/// Of a connection that nobody knows.
fn tell_unknown_hello(waiting: &Waiting, sink: &mut dyn Sink) {
    let (time, hello) = (waiting.time, &waiting.hello);
    let fact = Fact::ClientHello {
        hello,
        connection: None,
        process: None,
    };
    sink.observe(&Observation { time, fact });
}
