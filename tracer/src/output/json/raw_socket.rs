//! A raw or packet socket, as members of a line.
//!
//! In: what a process opened. Out: `network`, for a socket over IP, and `tracer.socket`.

use super::object::{Object, key};
use crate::event::{RawFamily, RawSocket};
use crate::output::{names, protocol};

/// Writes `network`. What a packet socket sees has no one family.
pub(super) fn write_network(socket: &RawSocket, line: &mut Object<'_>) {
    let family = match socket.family {
        RawFamily::Ipv4 => "ipv4",
        RawFamily::Ipv6 => "ipv6",
        RawFamily::Packet => return,
    };
    line.object(key!("network"), |network| {
        if let Some(transport) = protocol::transport(socket) {
            network.word(key!("transport"), transport);
        }
        network.word(key!("type"), family);
        if let Some(number) = protocol::iana_number(socket) {
            let mut digits = itoa::Buffer::new();
            network.word(key!("iana_number"), digits.format(number));
        }
    });
}

/// Writes `socket`.
pub(super) fn write_socket(socket: &RawSocket, tracer: &mut Object<'_>) {
    tracer.object(key!("socket"), |object| {
        object.word(key!("family"), names::raw_family(socket.family));
        object.word(key!("type"), names::raw_type(socket.socket_type));
        object.number(key!("protocol"), socket.protocol);
        if let Some(name) = protocol::ether_type(socket) {
            object.word(key!("protocol_name"), name);
        }
    });
}
