//! A process takes a connection from a listener's queue.
//!
//! `void security_sock_graft(struct sock *sk, struct socket *parent)`, security/security.c, since
//! 2.6.16, if the kernel has CONFIG_SECURITY_NETWORK. `sock_graft` (include/net/sock.h) calls it in the
//! context of the acceptor, below both the system calls and io_uring, when the wait is over: an accept
//! that was already waiting when the hook was attached is seen, too. Other protocols accept this way as well.
//!
//! Without it, the return of `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool
//! kern)` until 6.9, `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)` since
//! 6.10, net/ipv4/inet_connection_sock.c, with the new socket or null. The return value's slot follows
//! the arguments, so there are two entries with constant slots; the loader takes the matching one.

use core::mem::MaybeUninit;

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::record::kind;

use crate::{
    connect::socket_moment,
    kernel::{
        Direct, Remote, Source, Window,
        layout::{layout, setting},
        sock,
    },
    ring,
};

#[fentry(function = "security_sock_graft")]
fn security_sock_graft_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    grafted(socket, Direct(socket), Direct(socket));
    0
}

#[kprobe(function = "security_sock_graft")]
fn security_sock_graft_kprobe(ctx: ProbeContext) -> u32 {
    let Some(socket) = ctx.arg::<*const u8>(0) else {
        return 0;
    };
    let mut buffer = MaybeUninit::uninit();
    match Window::read(socket, &mut buffer) {
        Some(window) => grafted(socket, window, Remote(socket)),
        None => ring::lost(kind::ACCEPT),
    }
    0
}

#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept_fexit_4(ctx: FExitContext) -> i32 {
    accept_direct(ctx.arg(4));
    0
}

#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept_fexit_2(ctx: FExitContext) -> i32 {
    accept_direct(ctx.arg(2));
    0
}

#[kretprobe(function = "inet_csk_accept")]
fn inet_csk_accept_kretprobe(ctx: RetProbeContext) -> u32 {
    let socket: *const u8 = ctx.ret();
    if !socket.is_null() {
        accept_remote(socket);
    }
    0
}

#[inline(always)]
fn accept_direct(socket: *const u8) {
    if !socket.is_null() {
        accept(socket, 0, Direct(socket));
    }
}

#[inline(always)]
fn accept_remote(socket: *const u8) {
    let mut buffer = MaybeUninit::uninit();
    match Window::read(socket, &mut buffer) {
        Some(window) => accept(socket, 0, window),
        None => ring::lost(kind::ACCEPT),
    }
}

/// A socket of any protocol was accepted; `beginning` shows its first members, `whole` all of them.
#[inline(always)]
fn grafted(socket: *const u8, beginning: impl Source, whole: impl Source) {
    if !sock::is_ip(beginning) {
        return;
    }
    match whole.load::<u16>(layout!(sock_protocol)) {
        Some(sock::IPPROTO_TCP) => accept(socket, 0, beginning),
        Some(sock::IPPROTO_MPTCP) => accept_mptcp(socket),
        _ => {}
    }
}

/// An MPTCP connection is accepted as a whole; what the records speak of is its first subflow.
#[inline(always)]
fn accept_mptcp(socket: *const u8) {
    let first = setting!(mptcp.first);
    if first == 0 {
        return;
    }
    match Remote(socket).load::<*const u8>(first) {
        Some(subflow) if !subflow.is_null() => accept_remote(subflow),
        _ => ring::lost(kind::ACCEPT),
    }
}

/// Tells that the current task accepted `socket`.
#[inline(always)]
pub(crate) fn accept(socket: *const u8, flags: u16, source: impl Source) {
    socket_moment(kind::ACCEPT, flags, socket, source, 0);
}
