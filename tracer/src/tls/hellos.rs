//! The handshakes that were seen: each connection's is told once, and gives its destination a name.
//!
//! In: what was sent first on a connection, which may come before its beginning is known, as with Fast Open.
//! Out: what it says, when the connection is known or has had the time to become so.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{ClientHello, message};
use crate::dns::names::{Domain, KnownFrom};
use crate::event::{BootTime, HelloPayload, SocketId};
use crate::observation::ConnectionId;

/// How many connections are remembered. One that outlives so many others loses the name that it has by this.
const TOLD_MAX: usize = 16_384;

/// How long a connection may take to be known: what sends with the SYN tells of it before it connects.
const WAIT_NS: u64 = 50_000_000;
/// How many can wait at a time; who has waited longest when there are more is told without a connection.
const WAITING_MAX: usize = 1_024;

/// What is counted of handshakes, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloCounters {
    /// What began like a ClientHello and could not be read.
    pub malformed: u64,
}

/// One that waits for its connection.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// When it was sent.
    pub(crate) time: BootTime,
    /// Through which socket.
    pub(crate) socket: SocketId,
    /// What it says.
    pub(crate) hello: ClientHello,
}

/// All handshakes.
#[derive(Debug, Default)]
pub(crate) struct Hellos {
    names: HashMap<ConnectionId, Option<Arc<str>>, foldhash::fast::RandomState>,
    /// The connections among them, as they came.
    order: VecDeque<ConnectionId>,
    waiting: VecDeque<Waiting>,
    counters: HelloCounters,
}

impl Hellos {
    /// Reads what was sent; `None`, and counted, if that cannot be done.
    pub(crate) fn read(&mut self, payload: &HelloPayload<'_>) -> Option<ClientHello> {
        let Ok(said) = message::read(payload.bytes) else {
            self.counters.malformed += 1;
            return None;
        };
        Some(ClientHello {
            endpoints: payload.endpoints,
            server_name: said.server_name,
            protocols: said.protocols,
            omitted: said.omitted,
            encrypted_client_hello: said.encrypted_client_hello,
            truncated: said.truncated,
        })
    }

    /// What is counted.
    pub(crate) fn counters(&self) -> HelloCounters {
        self.counters
    }

    /// Whether nothing has been told of the connection: what could not be sent at once is offered again.
    pub(crate) fn is_first_of(&self, connection: ConnectionId) -> bool {
        !self.names.contains_key(&connection)
    }

    /// It is told of the connection.
    pub(crate) fn remember(&mut self, connection: ConnectionId, hello: &ClientHello) {
        if self.order.len() == TOLD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        self.names.insert(connection, hello.server_name.clone());
        self.order.push_back(connection);
    }

    /// What its client calls a connection's destination.
    #[inline]
    pub(crate) fn domain(&self, connection: ConnectionId) -> Option<Domain> {
        if self.order.is_empty() {
            return None; // As without `--tls`.
        }
        self.known_domain(connection)
    }

    #[inline(never)]
    fn known_domain(&self, connection: ConnectionId) -> Option<Domain> {
        let name = Arc::clone(self.names.get(&connection)?.as_ref()?);
        Some(Domain {
            name,
            known_from: KnownFrom::ClientHello,
        })
    }

    /// Whether one waits.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Has one wait. Out: the one that has to make room for it.
    pub(crate) fn hold(&mut self, waiting: Waiting) -> Option<Waiting> {
        let is_full = self.waiting.len() == WAITING_MAX;
        let oldest = if is_full {
            self.waiting.pop_front()
        } else {
            None
        };
        self.waiting.push_back(waiting);
        oldest
    }

    /// A connection of this socket is known: what waited for that.
    pub(crate) fn take(&mut self, socket: SocketId) -> Option<Waiting> {
        let mut waiting = self.waiting.iter();
        let place = waiting.position(|waiting| waiting.socket == socket)?;
        self.waiting.remove(place)
    }

    /// One that has waited long enough.
    pub(crate) fn take_due(&mut self, now: BootTime) -> Option<Waiting> {
        self.waiting
            .pop_front_if(|waiting| now.since(waiting.time) >= WAIT_NS)
    }

    /// When one will have waited long enough.
    #[inline]
    pub(crate) fn due(&self) -> Option<BootTime> {
        let first = self.waiting.front()?;
        Some(BootTime(first.time.0 + WAIT_NS))
    }
}

#[cfg(test)]
mod tests;
