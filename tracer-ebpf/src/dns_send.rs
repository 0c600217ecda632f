//! A process sends to a name server over TCP.
//!
//! `int tcp_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)`, net/ipv4/tcp.c: in the sender's
//! context, before anything is taken from its memory. What is not taken is offered again, under the same number.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use tracer_common::record::kind;

use crate::{
    datagram::Owner,
    dns::{self, InProcess},
    kernel::{Direct, Remote, Source, iter::Iter, layout::layout, number, sock},
    ring,
};

/// How many parts of a call are followed: resolvers send a length and a message.
const PARTS_MAX: u32 = 4;

/// `TCP_CLOSE`, include/net/tcp_states.h.
const CLOSE: u8 = 7;

#[fentry(function = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked_fentry(ctx: FEntryContext) -> i32 {
    let socket = Direct(ctx.arg(0));
    if socket.load(layout!(sock_dport)) == Some(dns::PORT.to_be()) {
        let size: u64 = ctx.arg(2);
        if sent(socket, ctx.arg(1), size as u32).is_none() {
            ring::lost(kind::DNS);
        }
    }
    0
}

#[inline(always)]
fn sent(socket: Direct, message: *const u8, size: u32) -> Option<()> {
    let address = number(socket.0);
    let iter = Iter::of(message)?;
    let mut sequence = sequence(socket, address)?;
    let mut left = size;
    for index in 0..PARTS_MAX {
        if left == 0 {
            break;
        }
        let part = iter.ahead(index)?;
        let part = InProcess {
            length: part.length.min(left),
            ..part
        };
        let fill = |to| sock::fill_endpoints(socket, to);
        dns::tell_part(address, false, Owner::Current, sequence, &part, fill);
        left -= part.length;
        if sequence != 0 {
            sequence = sequence.wrapping_add(part.length);
        }
    }
    (left == 0).then_some(())
}

/// The number of the first byte; 0 with Fast Open, where there are no numbers yet.
#[inline(always)]
fn sequence(socket: Direct, address: u64) -> Option<u32> {
    match socket.load(layout!(sock_state)) {
        Some(CLOSE) => Some(0),
        _ => Remote(address as *const u8).load(layout!(tcp_write_seq)),
    }
}
