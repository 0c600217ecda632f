//! Records about datagrams, DNS, and the sockets that see them.
//!
//! In: one record. Out: an [`Event`], which borrows a message of DNS from the record.

use super::*;
use crate::event::{
    DatagramSocketId, DnsPayload, Flow, FlowKey, RawFamily, RawSocket, RawType, Transport,
};

/// The number and the name of a protocol without ports is not checked: the kernel knows more of them.
#[inline(never)]
pub(super) fn flow(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Flow>()] = exact("flow", bytes)?;
    let flags = field!(bytes, record::Flow, header.flags);
    let ends = &part(bytes, offset_of!(record::Flow, endpoints));
    let kind = EventKind::Flow(Flow {
        key: key(&part(bytes, offset_of!(record::Flow, key))),
        task: known(flags, &part(bytes, offset_of!(record::Flow, task))),
        endpoints: endpoints(ends, family(ends)?),
        received: flags & record::FLOW_RECEIVED != 0,
    });
    Ok(Event { time, kind })
}

fn known(flags: u16, bytes: &[u8; size_of::<record::Task>()]) -> Option<Task> {
    (flags & record::FLOW_NO_TASK == 0).then(|| task(bytes))
}

fn key(bytes: &[u8; size_of::<record::FlowKey>()]) -> FlowKey {
    FlowKey {
        socket: DatagramSocketId {
            socket: SocketId(field!(bytes, record::FlowKey, socket)),
            generation: field!(bytes, record::FlowKey, generation),
        },
        peer: field!(bytes, record::FlowKey, peer),
        peer_port: field!(bytes, record::FlowKey, peer_port),
        protocol: field!(bytes, record::FlowKey, protocol),
    }
}

#[inline(never)]
pub(super) fn owner(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &DatagramSocketBytes = exact("datagram_owner", bytes)?;
    let kind = EventKind::DatagramOwner {
        socket: socket_id(bytes),
        task: task(&part(bytes, offset_of!(record::DatagramSocket, task))),
    };
    Ok(Event { time, kind })
}

#[inline(never)]
pub(super) fn close(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &DatagramSocketBytes = exact("datagram_close", bytes)?;
    let kind = EventKind::DatagramClose(socket_id(bytes));
    Ok(Event { time, kind })
}

type DatagramSocketBytes = [u8; size_of::<record::DatagramSocket>()];

fn socket_id(bytes: &DatagramSocketBytes) -> DatagramSocketId {
    DatagramSocketId {
        socket: SocketId(field!(bytes, record::DatagramSocket, socket)),
        generation: field!(bytes, record::DatagramSocket, generation),
    }
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
        endpoints: endpoints(ends, family(ends)?),
        transport: if flags & record::DNS_STREAM == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        },
        received: flags & record::FLOW_RECEIVED != 0,
        bytes: payload,
        truncated: field!(fixed, record::Dns, sent_length) > length,
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
