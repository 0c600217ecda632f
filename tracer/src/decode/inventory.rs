//! What the walks over the kernel's sockets write, understood as the ring's records are.
//!
//! In: one record of an iterator. Out: a socket that somebody holds, or what lies where one was.

use std::mem::{offset_of, size_of};

use tracer_common::inventory;

use super::{DecodeError, decode, endpoints, exact, family, part, read, task};
use crate::event::{Event, EventKind, ExaminedSocket, HeldSocket, SocketId};

/// A socket that a process has open.
pub fn held_socket(bytes: &[u8]) -> Result<HeldSocket, DecodeError> {
    let bytes: &[u8; size_of::<inventory::HeldSocket>()] = exact("held socket", bytes)?;
    let as_closed: [u8; size_of::<tracer_common::record::Close>()] =
        part(bytes, offset_of!(inventory::HeldSocket, close));
    let Event { time, kind } = decode(&as_closed)?;
    let EventKind::Close(close) = kind else {
        return Err(DecodeError::Value {
            field: "kind of a held socket",
            value: 0,
        });
    };
    let upper = read(
        bytes,
        offset_of!(inventory::HeldSocket, upper),
        |it: &inventory::HeldSocket| it.upper,
    );
    Ok(HeldSocket {
        time,
        close,
        holder: task(&part(bytes, offset_of!(inventory::HeldSocket, holder))),
        descriptor: read(
            bytes,
            offset_of!(inventory::HeldSocket, descriptor),
            |it: &inventory::HeldSocket| it.descriptor,
        ),
        inode: read(
            bytes,
            offset_of!(inventory::HeldSocket, inode),
            |it: &inventory::HeldSocket| it.inode,
        ),
        upper: (upper != 0).then_some(SocketId(upper)),
    })
}

/// What lies where a socket was.
pub fn examined_socket(bytes: &[u8]) -> Result<ExaminedSocket, DecodeError> {
    let bytes: &[u8; size_of::<inventory::ExaminedSocket>()] = exact("examined socket", bytes)?;
    let ends = &part(bytes, offset_of!(inventory::ExaminedSocket, endpoints));
    let socket = read(
        bytes,
        offset_of!(inventory::ExaminedSocket, socket),
        |it: &inventory::ExaminedSocket| it.socket,
    );
    Ok(ExaminedSocket {
        socket: SocketId(socket),
        // Zeros are no family.
        found: family(ends).ok().map(|family| endpoints(ends, family)),
    })
}
