//! What open connections have carried so far, of every network namespace.
//!
//! In: the iterator over open files, each of whose records is what the socket's close would say now.
//! Out: totals by socket.

use std::{
    fs::File,
    io::{self, Read as _},
};

use hashbrown::HashMap;
use tracer_common::record;

use crate::{
    decode::decode,
    event::{Close, EventKind, SocketId},
};

/// Reads the iterator to its end. A record that does not decode is left out: its connection is then
/// without a sample this time.
pub fn read(mut iterator: File) -> io::Result<HashMap<SocketId, Close>> {
    // Small reads would make the kernel begin a new walk for each record.
    let mut bytes = Vec::with_capacity(1 << 16);
    iterator.read_to_end(&mut bytes)?;
    let records = bytes.chunks_exact(size_of::<record::Close>());
    Ok(records
        .filter_map(|record| match decode(record).ok()?.kind {
            EventKind::Close(close) => Some((close.socket, close)),
            _ => None,
        })
        .collect())
}
