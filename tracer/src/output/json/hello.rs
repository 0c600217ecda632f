//! A TLS handshake: the member `tls`, by the names of the ECS, and what that lacks in `tracer.tls`.

use super::object::{Object, key, write_bytes, write_list};
use super::{Json, network, write_end};
use crate::event::Protocol;
use crate::observation::Direction;
use crate::output::record::Record;
use crate::tls::ClientHello;

impl Json {
    /// `network`, `source` and `destination` of a connection of which nothing is known but its ends.
    pub(super) fn unknown_connection(&mut self, record: &Record<'_>, line: &mut Object<'_>) {
        let ends = &record.ends();
        let begun = network(Protocol::TCP, Direction::Unknown, record.is_ipv4());
        let mut network = line.begun(&begun);
        if let Some(protocol) = record.protocol() {
            network.word(key!("protocol"), protocol);
        }
        if let Some(id) = self.community_id(Protocol::TCP, ends) {
            network.word(key!("community_id"), id);
        }
        network.end();
        write_end(key!("source"), &ends.source, line);
        write_end(key!("destination"), &ends.destination, line);
    }
}

/// The server that is asked for.
pub(super) fn write_name(hello: &ClientHello, line: &mut Object<'_>) {
    if let Some(name) = &hello.server_name {
        line.object(key!("tls"), |tls| {
            tls.object(key!("client"), |client| {
                client.text(key!("server_name"), name);
            });
        });
    }
}

/// What is offered, and what has to be known about it.
pub(super) fn write_offer(hello: &ClientHello, tracer: &mut Object<'_>) {
    tracer.object(key!("tls"), |tls| {
        if !hello.protocols.is_empty() {
            write_list(&hello.protocols, tls.key(key!("alpn")), |protocol, out| {
                write_bytes(protocol.as_bytes(), false, out);
            });
        }
        if hello.omitted > 0 {
            tls.number(key!("alpn_omitted"), hello.omitted);
        }
        tls.boolean(key!("encrypted_client_hello"), hello.encrypted_client_hello);
        tls.boolean(key!("truncated"), hello.truncated);
    });
}
