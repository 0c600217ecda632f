//! TLS handshakes that connections begin with: which server and which protocols the client asks for.
//!
//! In: the first bytes that are sent, if they begin a handshake. Out: a [`ClientHello`], once for each connection;
//! and the server's name for what is told of that connection later. Like the tables, this does no I/O and reads
//! no clock.

pub(crate) mod hellos;
mod message;
mod text;

use std::sync::Arc;

use crate::event::Endpoints;

pub use message::{NAME_MAX, PROTOCOLS_MAX};

/// What a client says before anything is encrypted. It is the client's word: it may name any server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Of the socket that sent it.
    pub endpoints: Endpoints,
    /// The server that is asked for (SNI): printable ASCII, other bytes as `\DDD`.
    pub server_name: Option<Arc<str>>,
    /// The protocols that are offered (ALPN), in the order of preference, at most [`PROTOCOLS_MAX`] of them;
    /// written as the name is.
    pub protocols: Vec<Box<str>>,
    /// How many more there were.
    pub omitted: u32,
    /// The extension is there by which the true name would be encrypted (ECH). Clients send it without meaning
    /// anything by it, too.
    pub encrypted_client_hello: bool,
    /// It is longer than what was seen of it: what is missing may have been said behind that.
    pub truncated: bool,
}
