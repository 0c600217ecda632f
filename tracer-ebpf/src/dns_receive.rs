//! A process receives from a name server over TCP.
//!
//! `int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, ..., int flags, int *addr_len)`,
//! net/ipv4/tcp.c, at its return, when the bytes are in the receiver's memory. Before 5.19 `nonblock` stands
//! before the flags; from 7.2 on there is no `addr_len`.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use tracer_common::record::kind;

use crate::{
    datagram::Owner,
    dns,
    kernel::{Direct, Source, iter::Iter, layout::layout, number, sock},
    ring,
};

/// `MSG_OOB`, `MSG_PEEK` and `MSG_ERRQUEUE`, include/linux/socket.h: nothing is taken out of the stream.
const NOT_TAKEN: u32 = 0x1 | 0x2 | 0x2000;
/// `MSG_TRUNC`, ibid.: it is taken, but not copied.
const NOT_COPIED: u32 = 0x20;

#[fexit(function = "tcp_recvmsg")]
fn tcp_recvmsg_fexit_4(ctx: FExitContext) -> i32 {
    returned::<3, 4>(&ctx)
}

#[fexit(function = "tcp_recvmsg")]
fn tcp_recvmsg_fexit_5(ctx: FExitContext) -> i32 {
    returned::<3, 5>(&ctx)
}

#[fexit(function = "tcp_recvmsg")]
fn tcp_recvmsg_fexit_6(ctx: FExitContext) -> i32 {
    returned::<4, 6>(&ctx)
}

/// With the slots of the flags and of what was returned.
#[inline(always)]
fn returned<const FLAGS: usize, const RESULT: usize>(ctx: &FExitContext) -> i32 {
    let socket = Direct(ctx.arg(0));
    if socket.load(layout!(sock_dport)) == Some(dns::PORT.to_be()) {
        let (flags, result): (u32, i32) = (ctx.arg(FLAGS), ctx.arg(RESULT));
        if result > 0
            && flags & NOT_TAKEN == 0
            && received(socket, ctx.arg(1), flags, result as u32).is_none()
        {
            ring::lost(kind::DNS);
        }
    }
    0
}

#[inline(always)]
fn received(socket: Direct, message: *const u8, flags: u32, length: u32) -> Option<()> {
    if flags & NOT_COPIED != 0 {
        return None;
    }
    let payload = Iter::of(message)?.behind(length)?;
    // The socket is not locked any more: others may have taken what follows.
    let sequence = 0;
    let fill = |to| sock::fill_endpoints(socket, to);
    let address = number(socket.0);
    dns::tell_part(address, true, Owner::Current, sequence, &payload, fill);
    Some(())
}
