//! The kernel's own sockets, of every network namespace: who holds which, and what is left of those that
//! nobody holds.
//!
//! In: the loaded object. Out: what its walks over open files and tasks find, decoded. A record that does
//! not decode is left out, as a socket that nobody holds is.

use std::{
    fs::File,
    io::{self, Read as _},
};

use aya::{Ebpf, maps::Array};
use tracer_common::inventory::{self, EXAMINED_MAX};

use super::iterator;
use crate::{
    clock,
    decode::inventory::{examined_socket, held_socket},
    event::{ExaminedSocket, HeldSocket, SocketId, Transport},
    state::Snapshot,
};

/// The walk over the open files of all tasks.
const HELD: &str = "held_sockets";
/// The same for UDP.
const HELD_UDP: &str = "held_udp_sockets";
/// The walk that answers for sockets by their address.
const EXAMINED: &str = "examined_sockets";

/// How many sockets can be examined at a time.
pub const EXAMINED_LIMIT: usize = EXAMINED_MAX as usize;

/// Loads what the walks need, so that they can be [taken](held) again and again. The error is the
/// kernel's refusal.
pub fn load(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<(), String> {
    load_held(ebpf, btf)?;
    iterator::load(ebpf, btf, EXAMINED, "task").map(drop)
}

/// Loads the walks over what processes have [open](held) alone.
pub fn load_held(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<(), String> {
    iterator::load(ebpf, btf, HELD, "task_file")?;
    iterator::load(ebpf, btf, HELD_UDP, "task_file").map(drop)
}

/// Every socket of `transport` that a process has open, once for each holder and descriptor.
pub fn held(ebpf: &mut Ebpf, transport: Transport) -> io::Result<Vec<HeldSocket>> {
    let iterator = iterator::open(ebpf, walk(transport)).map_err(io::Error::other)?;
    Ok(decoded(&read(iterator)?))
}

fn walk(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => HELD,
        Transport::Udp => HELD_UDP,
    }
}

fn decoded(bytes: &[u8]) -> Vec<HeldSocket> {
    let records = bytes.chunks_exact(size_of::<inventory::HeldSocket>());
    records
        .filter_map(|record| held_socket(record).ok())
        .collect()
}

/// The same, with the times between which it was found.
pub fn snapshot(ebpf: &mut Ebpf) -> io::Result<Snapshot> {
    let begun_at = clock::boot_time();
    let held = held(ebpf, Transport::Tcp)?;
    Ok(Snapshot {
        begun_at,
        held,
        examined: Vec::new(),
        complete_at: clock::boot_time(),
    })
}

/// Looks what lies at the addresses of at most [`EXAMINED_LIMIT`] sockets. Those for which the walk was
/// too short are not in the answer.
pub fn examine(ebpf: &mut Ebpf, sockets: &[SocketId]) -> io::Result<Vec<ExaminedSocket>> {
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    ask(ebpf, sockets)?;
    let bytes = read(iterator::open(ebpf, EXAMINED).map_err(io::Error::other)?)?;
    let records = bytes.chunks_exact(size_of::<inventory::ExaminedSocket>());
    Ok(records
        .filter_map(|record| examined_socket(record).ok())
        .collect())
}

fn ask(ebpf: &mut Ebpf, sockets: &[SocketId]) -> io::Result<()> {
    let map = ebpf
        .map_mut("EXAMINED")
        .ok_or_else(|| io::Error::other("the object has no map EXAMINED"))?;
    let mut asked: Array<_, u64> = Array::try_from(map).map_err(io::Error::other)?;
    let end = std::iter::once(0);
    let addresses = sockets.iter().map(|socket| socket.0).chain(end);
    for (index, address) in (0..EXAMINED_MAX).zip(addresses) {
        asked.set(index, address, 0).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Small reads would make the kernel begin a new walk for each record.
fn read(mut iterator: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 << 16);
    iterator.read_to_end(&mut bytes)?;
    Ok(bytes)
}
