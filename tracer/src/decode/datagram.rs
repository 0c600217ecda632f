//! Records about what is sent: datagrams, DNS and TLS, and the sockets that see all of it.
//!
//! In: one record. Out: an [`Event`], which borrows a message from the record.

use std::num::NonZeroU32;

use super::*;
use crate::event::{
    DnsPayload, Flow, FlowKey, HelloPayload, Protocol, RawFamily, RawSocket, RawType, Transport,
};

#[inline(never)]
pub(super) fn flow(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Flow>()] = exact("flow", bytes)?;
    let flags = field!(bytes, record::Flow, header.flags);
    let ends = &part(bytes, offset_of!(record::Flow, endpoints));
    let kind = EventKind::Flow(Flow {
        key: key(&part(bytes, offset_of!(record::Flow, key))),
        socket: SocketId(field!(bytes, record::Flow, key.socket)),
        protocol: protocol(field!(bytes, record::Flow, key.protocol))?,
        task: known(flags, &part(bytes, offset_of!(record::Flow, task))),
        endpoints: of_datagram(ends)?,
        received: flags & record::FLOW_RECEIVED != 0,
        own_header: flags & record::FLOW_OWN_HEADER != 0,
        bytes: field!(bytes, record::Flow, bytes),
        packets: field!(bytes, record::Flow, packets),
    });
    Ok(Event { time, kind })
}

fn protocol(number: u16) -> Result<Protocol, DecodeError> {
    let number = u8::try_from(number).map_err(|_| DecodeError::Value {
        field: "protocol of flow",
        value: number.into(),
    })?;
    Ok(Protocol(number))
}

/// The ends of a datagram: the family is that of its addresses, whatever the socket's is.
fn of_datagram(bytes: &[u8; size_of::<record::Endpoints>()]) -> Result<Endpoints, DecodeError> {
    let ends = endpoints(bytes, family(bytes)?);
    Ok(Endpoints {
        ipv6_socket: ends.remote.is_ipv6(),
        ..ends
    })
}

fn known(flags: u16, bytes: &[u8; size_of::<record::Task>()]) -> Option<Task> {
    (flags & record::FLOW_NO_TASK == 0).then(|| task(bytes))
}

fn key(bytes: &[u8; size_of::<record::FlowKey>()]) -> FlowKey {
    FlowKey([0, 8, 16, 24].map(|offset| u64::from_ne_bytes(part(bytes, offset))))
}

#[inline(never)]
pub(super) fn owner(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::DatagramOwner>()] = exact("datagram_owner", bytes)?;
    let kind = EventKind::DatagramOwner {
        socket: SocketId(field!(bytes, record::DatagramOwner, socket)),
        task: task(&part(bytes, offset_of!(record::DatagramOwner, task))),
        by_connect: field!(bytes, record::DatagramOwner, header.flags) & record::OWNER_BY_CONNECT
            != 0,
    };
    Ok(Event { time, kind })
}

#[inline(never)]
pub(super) fn close(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::DatagramClose>()] = exact("datagram_close", bytes)?;
    let kind = EventKind::DatagramClose(SocketId(field!(bytes, record::DatagramClose, socket)));
    Ok(Event { time, kind })
}

#[inline(never)]
pub(super) fn dns(bytes: &[u8], time: BootTime) -> Decoded<'_> {
    const SIZE: usize = size_of::<record::Dns>();
    let (fixed, rest) = bytes
        .split_first_chunk::<SIZE>()
        .ok_or(DecodeError::Length {
            kind: "dns",
            expected: SIZE,
            length: bytes.len(),
        })?;
    let length = field!(fixed, record::Dns, length);
    // The record may be longer than what it holds, as an exec's.
    let payload = rest.get(..length as usize).ok_or(DecodeError::Length {
        kind: "dns",
        expected: SIZE + length as usize,
        length: bytes.len(),
    })?;
    let flags = field!(fixed, record::Dns, header.flags);
    let ends = &part(fixed, offset_of!(record::Dns, endpoints));
    let kind = EventKind::Dns(DnsPayload {
        socket: SocketId(field!(fixed, record::Dns, socket)),
        task: known(flags, &part(fixed, offset_of!(record::Dns, task))),
        endpoints: of_datagram(ends)?,
        transport: if flags & record::DNS_STREAM == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        },
        received: flags & record::FLOW_RECEIVED != 0,
        bytes: payload,
        truncated: field!(fixed, record::Dns, sent_length) > length,
        sequence: NonZeroU32::new(field!(fixed, record::Dns, sequence)),
    });
    Ok(Event { time, kind })
}

#[inline(never)]
pub(super) fn client_hello(bytes: &[u8], time: BootTime) -> Decoded<'_> {
    const SIZE: usize = size_of::<record::ClientHello>();
    let (fixed, rest) = bytes
        .split_first_chunk::<SIZE>()
        .ok_or(DecodeError::Length {
            kind: "client_hello",
            expected: SIZE,
            length: bytes.len(),
        })?;
    let length = field!(fixed, record::ClientHello, length);
    let payload = rest.get(..length as usize).ok_or(DecodeError::Length {
        kind: "client_hello",
        expected: SIZE + length as usize,
        length: bytes.len(),
    })?;
    let ends = &part(fixed, offset_of!(record::ClientHello, endpoints));
    let kind = EventKind::ClientHello(HelloPayload {
        socket: SocketId(field!(fixed, record::ClientHello, socket)),
        endpoints: of_datagram(ends)?,
        bytes: payload,
    });
    Ok(Event { time, kind })
}

#[inline(never)]
pub(super) fn socket_created(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::SocketCreated>()] = exact("socket_created", bytes)?;
    let family = raw_family(field!(bytes, record::SocketCreated, family))?;
    let socket_type = field!(bytes, record::SocketCreated, socket_type);
    let socket = field!(bytes, record::SocketCreated, socket);
    let kind = EventKind::SocketCreated(RawSocket {
        socket: (socket != 0).then_some(SocketId(socket)),
        task: task(&part(bytes, offset_of!(record::SocketCreated, task))),
        netns: field!(bytes, record::SocketCreated, netns),
        family,
        socket_type: raw_type(family, socket_type)?,
        protocol: field!(bytes, record::SocketCreated, protocol),
    });
    Ok(Event { time, kind })
}

fn raw_family(family: u16) -> Result<RawFamily, DecodeError> {
    match family {
        2 => Ok(RawFamily::Ipv4),
        10 => Ok(RawFamily::Ipv6),
        17 => Ok(RawFamily::Packet),
        family => Err(DecodeError::Value {
            field: "family of socket_created",
            value: family.into(),
        }),
    }
}

fn raw_type(family: RawFamily, socket_type: u16) -> Result<RawType, DecodeError> {
    match (family, socket_type) {
        (_, 3) => Ok(RawType::Raw),
        (RawFamily::Packet, 2) => Ok(RawType::Datagram),
        (RawFamily::Packet, 10) => Ok(RawType::Packet),
        (_, socket_type) => Err(DecodeError::Value {
            field: "type of socket_created",
            value: socket_type.into(),
        }),
    }
}
