//! An attempt to connect fails before a SYN leaves: no route, no port, bad address.
//!
//! `int tcp_v4_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`, net/ipv4/tcp_ipv4.c,
//! and `tcp_v6_connect`, net/ipv6/tcp_ipv6.c, likewise. A non-zero return is the only sign; the
//! peer's address is then only in `uaddr`. For an IPv4-mapped address `tcp_v6_connect` calls
//! `tcp_v4_connect`, so each entry minds sockets of its own family.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{fexit, kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::record::{Socket, kind};

use crate::{
    kernel::{
        Direct, Remote, Source, Window, layout::layout, mptcp, sock, source::read_remote, task,
    },
    ring,
};

/// Slot of the return value: after three arguments.
const RETURN_VALUE: usize = 3;

#[fexit(function = "tcp_v4_connect")]
fn tcp_v4_connect_fexit(ctx: FExitContext) -> i32 {
    on_return(&ctx, sock::AF_INET);
    0
}

#[fexit(function = "tcp_v6_connect")]
fn tcp_v6_connect_fexit(ctx: FExitContext) -> i32 {
    on_return(&ctx, sock::AF_INET6);
    0
}

#[inline(always)]
fn on_return(ctx: &FExitContext, family: u16) {
    let result: i32 = ctx.arg(RETURN_VALUE);
    let socket: *const u8 = ctx.arg(0);
    if result != 0 && Direct(socket).load(layout!(sock_family)) == Some(family) {
        failed(socket, Direct(socket), ctx.arg(1), family, result);
    }
}

/// A kretprobe does not see the arguments, so the kprobe leaves them here, by thread. The entry goes
/// with the return; if that was missed, with the thread's next attempt or with age.
#[map]
static CONNECTING: LruHashMap<u64, Arguments> = LruHashMap::with_max_entries(4096, 0);

/// Arguments of a connect that has not returned.
#[derive(Clone, Copy)]
#[repr(C)]
struct Arguments {
    socket: u64,
    address: u64,
}

#[kprobe(function = "tcp_v4_connect")]
fn tcp_v4_connect_kprobe(ctx: ProbeContext) -> u32 {
    remember(&ctx);
    0
}

#[kprobe(function = "tcp_v6_connect")]
fn tcp_v6_connect_kprobe(ctx: ProbeContext) -> u32 {
    remember(&ctx);
    0
}

#[kretprobe(function = "tcp_v4_connect")]
fn tcp_v4_connect_kretprobe(ctx: RetProbeContext) -> u32 {
    recall(&ctx, sock::AF_INET);
    0
}

#[kretprobe(function = "tcp_v6_connect")]
fn tcp_v6_connect_kretprobe(ctx: RetProbeContext) -> u32 {
    recall(&ctx, sock::AF_INET6);
    0
}

#[inline(always)]
fn remember(ctx: &ProbeContext) {
    if let (Some(socket), Some(address)) = (ctx.arg(0), ctx.arg(1)) {
        let arguments = Arguments { socket, address };
        if CONNECTING
            .insert(&bpf_get_current_pid_tgid(), &arguments, 0)
            .is_err()
        {
            ring::lost(kind::CONNECT_ERROR);
        }
    }
}

#[inline(always)]
fn recall(ctx: &RetProbeContext, family: u16) {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once, and only this thread writes under this key.
    let Some(Arguments { socket, address }) = (unsafe { CONNECTING.get(&thread) }).copied() else {
        return;
    };
    let (socket, address) = (socket as *const u8, address as *const u8);
    let result: i32 = ctx.ret();
    if Remote(socket).load(layout!(sock_family)) != Some(family) {
        return; // tcp_v4_connect within tcp_v6_connect, which will return too.
    }
    // A failure to remove means that it is gone already.
    let _ = CONNECTING.remove(&thread);
    if result != 0 {
        let mut buffer = MaybeUninit::uninit();
        match Window::read(socket, &mut buffer) {
            Some(window) => failed(socket, window, address, family, result),
            None => ring::lost(kind::CONNECT_ERROR),
        }
    }
}

/// Tells that the current task's connect of `socket` to `address` returned `result`. A further path of a
/// Multipath TCP connection is no attempt of its own.
#[inline(always)]
fn failed(socket: *const u8, source: impl Source, address: *const u8, family: u16, result: i32) {
    if mptcp::is_further(Remote(socket)) {
        return;
    }
    ring::submit(kind::CONNECT_ERROR, 0, |record: *mut Socket| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = socket as u64;
            task::fill_current(&raw mut (*record).task)?;
            let endpoints = &raw mut (*record).endpoints;
            sock::fill_endpoints(source, endpoints)?;
            // The kernel has cleared the socket's own idea of its peer. `struct sockaddr_in` has
            // port and address at 2 and 4, `struct sockaddr_in6` at 2 and 8.
            (*endpoints).remote_port = u16::from_be(read_remote(address.wrapping_add(2))?);
            let remote = (&raw mut (*endpoints).remote).cast::<u64>();
            if family == sock::AF_INET {
                let ip: u32 = read_remote(address.wrapping_add(4))?;
                remote.write(u64::from(ip.to_le()));
                remote.add(1).write(0);
            } else {
                remote.write(read_remote(address.wrapping_add(8))?);
                remote.add(1).write(read_remote(address.wrapping_add(16))?);
            }
            (*record).errno = result.unsigned_abs();
            (*record).padding = 0;
        }
        Some(())
    });
}
