//! A process takes a connection from a listener's queue.
//!
//! `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)` until 6.9,
//! `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)` since 6.10,
//! net/ipv4/inet_connection_sock.c. It returns in the context of the acceptor, below both the
//! system calls and io_uring, with the new socket or null. The return value's slot follows the
//! arguments, so there are two entries with constant slots; the loader takes the matching one.

use core::mem::MaybeUninit;

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};
use tracer_common::record::kind;

use crate::{
    connect::socket_moment,
    kernel::{Direct, Source, Window},
    ring,
};

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
    if socket.is_null() {
        return 0;
    }
    let mut buffer = MaybeUninit::uninit();
    match Window::read(socket, &mut buffer) {
        Some(window) => accept(socket, 0, window),
        None => ring::lost(kind::ACCEPT),
    }
    0
}

#[inline(always)]
fn accept_direct(socket: *const u8) {
    if !socket.is_null() {
        accept(socket, 0, Direct(socket));
    }
}

/// Tells that the current task accepted `socket`.
#[inline(always)]
pub(crate) fn accept(socket: *const u8, flags: u16, source: impl Source) {
    socket_moment(kind::ACCEPT, flags, socket, source, 0);
}
