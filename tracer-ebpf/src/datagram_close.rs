//! A datagram or raw socket is closed.
//!
//! fentry and kprobe mode: `void sk_common_release(struct sock *sk)`, net/core/sock.c, which UDP, raw and ping
//! sockets come through, TCP ones not. Tracepoint mode: `BPF_CGROUP_INET_SOCK_RELEASE`, run by
//! `inet_release` for every socket over IP since 5.9. Both before its address can be used again. In tracepoint
//! mode packets can still reach the socket for a moment; so a new socket closes whatever was at its address, too
//! (`BPF_CGROUP_INET_SOCK_CREATE`, run by `inet_create` and `inet6_create`).

use aya_ebpf::{
    macros::{cgroup_sock, fentry, kprobe},
    programs::{FEntryContext, ProbeContext, SockContext},
};

use crate::{
    datagram::closed,
    kernel::{Direct, Remote, Source, layout::layout, sock},
};

const ALLOW: i32 = 1;

#[fentry(function = "sk_common_release")]
fn sk_common_release_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    released(socket, Direct(socket));
    0
}

#[kprobe(function = "sk_common_release")]
fn sk_common_release_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(socket) = ctx.arg(0) {
        released(socket, Remote(socket));
    }
    0
}

/// Without a port, or for a raw socket a protocol, nothing was ever sent or received.
#[inline(always)]
fn released(socket: *const u8, source: impl Source) {
    if sock::is_ip(source) && source.load::<u16>(layout!(sock_num)) != Some(0) {
        closed(socket);
    }
}

#[cgroup_sock(sock_release)]
fn cgroup_sock_release(ctx: SockContext) -> i32 {
    begins_or_ends(&ctx)
}

#[cgroup_sock(sock_create)]
fn cgroup_sock_create(ctx: SockContext) -> i32 {
    begins_or_ends(&ctx)
}

#[inline(always)]
fn begins_or_ends(ctx: &SockContext) -> i32 {
    let socket = ctx.sock;
    // SAFETY: the context is live; the verifier checks the access.
    let protocol = unsafe { (*socket).protocol };
    if protocol != u32::from(sock::IPPROTO_TCP) {
        closed(socket.cast());
    }
    ALLOW
}
