//! A process sends or receives with a datagram socket (tracepoint mode).
//!
//! Tracepoints `sock_send_length` and `sock_recv_length`, net/socket.c, since 6.3: in the caller's context, for
//! every kind of socket, when the send or receive is over. Told once for each socket.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use tracer_common::record::{DatagramOwner, kind};

use crate::{
    datagram::current_generation,
    kernel::{Direct, number, sock, task},
    ring,
};

/// Sockets whose owner was told; who is forgotten is told again.
const OWNED_MAX: u32 = 16_384;

/// By address and generation.
#[map]
static OWNED: LruHashMap<[u64; 2], u8> = LruHashMap::with_max_entries(OWNED_MAX, 0);

#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    used(ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    used(ctx.arg(0), ctx.arg(1));
    0
}

/// `result` is a length or a negative errno.
#[inline(always)]
fn used(socket: *const u8, result: i32) {
    if result >= 0 && sock::is_of::<{ sock::IPPROTO_UDP }>(Direct(socket)) {
        tell(socket);
    }
}

#[inline(always)]
fn tell(socket: *const u8) {
    let address = number(socket);
    let key = [address, current_generation(address).into()];
    if OWNED.get_ptr(&key).is_some() {
        return;
    }
    let mut told = false;
    ring::submit(kind::DATAGRAM_OWNER, 0, |record: *mut DatagramOwner| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = address;
            task::fill_current(&raw mut (*record).task)?;
        }
        told = true;
        Some(())
    });
    if told {
        let _ = OWNED.insert(key, 0, 0);
    }
}
