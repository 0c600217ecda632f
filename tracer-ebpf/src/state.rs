//! A TCP socket changes its state: outcome of a connect, listen, close.
//!
//! `TRACE_EVENT(inet_sock_set_state, TP_PROTO(const struct sock *sk, const int oldstate,
//! const int newstate))`, include/trace/events/sock.h, since 4.16. It fires mostly in softirq, where
//! the current task is a stranger; only CLOSE → SYN_SENT and → LISTEN run in the context of the
//! process that does it, and only there is it read.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use tracer_common::record::{
    CLOSE_FIN_RECEIVED, CLOSE_NO_TOTALS, Close, ESTABLISHED_INBOUND, Established, kind,
};

use crate::{
    connect::{connect, socket_moment},
    kernel::{Direct, Source, layout::layout, sock},
    ring,
};

// include/net/tcp_states.h
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;
const LISTEN: i32 = 10;

/// `SOCK_DONE` of `enum sock_flags`, include/net/sock.h: the peer's FIN was received.
const SOCK_DONE: u64 = 1 << 1;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    changed::<false, false>(&ctx)
}

/// Stands in for the hook on outbound connections.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_c(ctx: BtfTracePointContext) -> i32 {
    changed::<true, false>(&ctx)
}

/// Backs the stand-ins for the hook on accepted connections.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_a(ctx: BtfTracePointContext) -> i32 {
    changed::<false, true>(&ctx)
}

/// Both.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_ca(ctx: BtfTracePointContext) -> i32 {
    changed::<true, true>(&ctx)
}

#[inline(always)]
fn changed<const CONNECT: bool, const ACCEPT: bool>(ctx: &BtfTracePointContext) -> i32 {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    let of_interest = match new {
        ESTABLISHED => old == SYN_SENT || (ACCEPT && old == SYN_RECV),
        CLOSE => old != CLOSE,
        SYN_SENT => CONNECT,
        LISTEN => true,
        _ => false,
    };
    let socket: *const u8 = ctx.arg(0);
    if !of_interest || !sock::is_tcp(Direct(socket)) {
        return 0;
    }
    match new {
        ESTABLISHED => established(socket, old),
        CLOSE => close(socket, old),
        SYN_SENT => connect(socket, Direct(socket)),
        _ => socket_moment(kind::LISTEN, 0, socket, Direct(socket), 0),
    }
    0
}

#[inline(always)]
fn established(socket: *const u8, old: i32) {
    let flags = if old == SYN_RECV {
        ESTABLISHED_INBOUND
    } else {
        0
    };
    ring::submit(kind::ESTABLISHED, flags, |record: *mut Established| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = socket as u64;
            sock::fill_endpoints(Direct(socket), &raw mut (*record).endpoints)
        }
    });
}

#[inline(always)]
fn close(socket: *const u8, old: i32) {
    let sock = Direct(socket);
    ring::submit(kind::CLOSE, 0, |record: *mut Close| {
        // SAFETY: a reserved record; the helper checks that the socket is a TCP one.
        unsafe {
            (*record).socket = socket as u64;
            sock::fill_endpoints(sock, &raw mut (*record).endpoints)?;
            (*record).errno = sock.load(layout!(sock_err))?;
            (*record).old_state = old as u8;
            (*record).padding = 0;
            let done = sock.load::<u64>(layout!(sock_flags))? & SOCK_DONE != 0;
            let fin = if done { CLOSE_FIN_RECEIVED } else { 0 };
            let tcp: *const u8 = bpf_skc_to_tcp_sock(socket.cast_mut().cast()).cast();
            if tcp.is_null() {
                (*record).flags = fin | CLOSE_NO_TOTALS;
                (*record).bytes_sent = 0;
                (*record).bytes_retransmitted = 0;
                (*record).bytes_received = 0;
                (*record).srtt_eighth_us = 0;
                (*record).retransmits = 0;
            } else {
                let tcp = Direct(tcp);
                (*record).flags = fin;
                // The port has been given back by now, unless it was bound.
                (*record).endpoints.local_port = u16::from_be(tcp.load(layout!(inet_sport))?);
                (*record).bytes_sent = tcp.load(layout!(tcp_bytes_sent))?;
                (*record).bytes_retransmitted = tcp.load(layout!(tcp_bytes_retrans))?;
                (*record).bytes_received = tcp.load(layout!(tcp_bytes_received))?;
                (*record).srtt_eighth_us = tcp.load(layout!(tcp_srtt_us))?;
                (*record).retransmits = tcp.load(layout!(tcp_total_retrans))?;
            }
        }
        Some(())
    });
}
