//! A TCP socket changes its state: outcome of a connect, listen, close.
//!
//! `TRACE_EVENT(inet_sock_set_state, TP_PROTO(const struct sock *sk, const int oldstate,
//! const int newstate))`, include/trace/events/sock.h, since 4.16. It fires mostly in softirq, where
//! the current task is a stranger; only CLOSE → SYN_SENT and → LISTEN run in the context of the
//! process that does it, and only there is it read.
//!
//! A subflow of Multipath TCP is told with its upper socket. Whether the peer of a first one speaks it, too,
//! is not known yet when that becomes established, but when the upper socket, which changes its state by
//! the same tracepoint, goes from SYN_SENT to ESTABLISHED.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use tracer_common::layout::backed_up;
use tracer_common::record::{
    CLOSE_FIN_RECEIVED, CLOSE_FURTHER, CLOSE_HELD, CLOSE_NO_TOTALS, Close, ESTABLISHED_INBOUND,
    Established, SUBFLOW_FURTHER, SUBFLOW_INBOUND, Subflow, kind,
};

use crate::{
    backup,
    connect::{connect, socket_moment},
    kernel::{
        Direct, Remote, Source,
        layout::{layout, setting},
        mptcp, sock,
    },
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

/// The programs of every rank, for one division of labour.
macro_rules! entries {
    ($connect:literal, $accept:literal: $($name:ident = $rank:literal),*) => {$(
        #[btf_tracepoint(function = "inet_sock_set_state")]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            changed::<$connect, $accept, $rank>(&ctx)
        }
    )*};
}
entries! { false, false: inet_sock_set_state = 0, inet_sock_set_state_2 = 1, inet_sock_set_state_3 = 2 }
// Stands in for the hook on outbound connections.
entries! { true, false: inet_sock_set_state_c = 0, inet_sock_set_state_c2 = 1, inet_sock_set_state_c3 = 2 }
// Backs the stand-ins for the hook on accepted connections.
entries! { false, true: inet_sock_set_state_a = 0, inet_sock_set_state_a2 = 1, inet_sock_set_state_a3 = 2 }
// Both.
entries! { true, true: inet_sock_set_state_ca = 0, inet_sock_set_state_ca2 = 1, inet_sock_set_state_ca3 = 2 }

#[inline(always)]
fn changed<const CONNECT: bool, const ACCEPT: bool, const RANK: u32>(
    ctx: &BtfTracePointContext,
) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    // Also of what is not told: a skip that a backup has seen lost nothing.
    if !backup::is_mine::<RANK, { backed_up::STATE }>(socket, (old << 4 | new) as u8) {
        return 0;
    }
    let of_interest = match new {
        ESTABLISHED => {
            old == SYN_SENT || old == SYN_RECV && (ACCEPT || mptcp::is_kernels(Direct(socket)))
        }
        CLOSE => old != CLOSE,
        SYN_SENT => CONNECT,
        LISTEN => true,
        _ => false,
    };
    debug!(ctx, "a socket goes from state {} to {}", old, new);
    if !of_interest {
        return 0;
    }
    if !sock::is_tcp(Direct(socket)) {
        if new == ESTABLISHED && sock::is_of::<{ sock::IPPROTO_MPTCP }>(Direct(socket)) {
            upper_established(socket, old);
        }
        return 0;
    }
    match new {
        ESTABLISHED => established::<ACCEPT>(socket, old),
        CLOSE => close(socket, old),
        SYN_SENT => connect(socket, Direct(socket)),
        _ => socket_moment(kind::LISTEN, 0, socket, Direct(socket), 0),
    }
    0
}

#[inline(always)]
fn established<const ACCEPT: bool>(socket: *const u8, old: i32) {
    let inbound = old == SYN_RECV;
    if mptcp::is_kernels(Direct(socket))
        && let Some(subflow) = tcp_sock(socket).and_then(mptcp::subflow)
    {
        if subflow.is_further {
            tell_subflow(socket, Direct(socket), subflow.upper, SUBFLOW_FURTHER);
        } else if inbound {
            tell_subflow(socket, Direct(socket), subflow.upper, SUBFLOW_INBOUND);
        }
    } else if !inbound {
        tell_established(socket, Direct(socket), 0);
    } else if ACCEPT {
        tell_established(socket, Direct(socket), ESTABLISHED_INBOUND);
    }
}

/// An outbound connection over Multipath TCP is established, or over plain TCP if the peer speaks nothing
/// else.
#[inline(always)]
fn upper_established(upper: *const u8, old: i32) {
    let first = setting!(mptcp.first);
    if old != SYN_SENT || first == 0 {
        return;
    }
    let Some(first) = Remote(upper).follow(first) else {
        return ring::lost(kind::SUBFLOW);
    };
    // The upper socket may learn of it when it is already over.
    if first.load::<u8>(layout!(sock_state)) == Some(CLOSE as u8) {
        return;
    }
    match mptcp::subflow(first) {
        Some(subflow) if subflow.is_capable => tell_subflow(first.0, first, subflow.upper, 0),
        _ => tell_established(first.0, first, 0),
    }
}

#[inline(always)]
fn tell_established(socket: *const u8, sock: impl Source, flags: u16) {
    ring::submit(kind::ESTABLISHED, flags, |record: *mut Established| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = socket as u64;
            sock::fill_endpoints(sock, &raw mut (*record).endpoints)
        }
    });
}

#[inline(always)]
fn tell_subflow(socket: *const u8, sock: impl Source, upper: u64, flags: u16) {
    ring::submit(kind::SUBFLOW, flags, |record: *mut Subflow| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = socket as u64;
            (*record).upper = upper;
            sock::fill_endpoints(sock, &raw mut (*record).endpoints)
        }
    });
}

/// The `struct tcp_sock` of a TCP socket.
#[inline(always)]
fn tcp_sock(socket: *const u8) -> Option<Direct> {
    // SAFETY: the helper checks that the socket is a TCP one.
    let tcp: *const u8 = unsafe { bpf_skc_to_tcp_sock(socket.cast_mut().cast()) }.cast();
    (!tcp.is_null()).then_some(Direct(tcp))
}

#[inline(always)]
fn close(socket: *const u8, old: i32) {
    ring::submit(kind::CLOSE, 0, |record: *mut Close| {
        // SAFETY: a reserved record.
        unsafe { fill_close(record, socket, Direct(socket), tcp_sock(socket), old as u8) }
    });
}

/// Fills in what follows the header: how `socket` stands as it leaves `state`.
///
/// # Safety
/// `to` must point to a writable record.
#[inline(always)]
pub(crate) unsafe fn fill_close(
    to: *mut Close,
    socket: *const u8,
    sock: impl Source,
    tcp: Option<impl Source>,
    state: u8,
) -> Option<()> {
    let done = sock.load::<u64>(layout!(sock_flags))? & SOCK_DONE != 0;
    let fin = if done { CLOSE_FIN_RECEIVED } else { 0 };
    let is_held = sock.load::<u64>(layout!(sock_socket))? != 0;
    let flags = fin | if is_held { CLOSE_HELD } else { 0 };
    // SAFETY: by the caller's promise.
    unsafe {
        (*to).socket = socket as u64;
        sock::fill_endpoints(sock, &raw mut (*to).endpoints)?;
        (*to).errno = sock.load(layout!(sock_err))?;
        (*to).old_state = state;
        (*to).padding = 0;
        if let Some(tcp) = tcp {
            let further = if mptcp::is_further(tcp) {
                CLOSE_FURTHER
            } else {
                0
            };
            (*to).flags = flags | further;
            // At CLOSE the port has been given back, unless it was bound; here it still stands.
            (*to).endpoints.local_port = u16::from_be(tcp.load(layout!(inet_sport))?);
            (*to).bytes_sent = tcp.load(layout!(tcp_bytes_sent))?;
            (*to).bytes_retransmitted = tcp.load(layout!(tcp_bytes_retrans))?;
            (*to).bytes_received = tcp.load(layout!(tcp_bytes_received))?;
            (*to).srtt_eighth_us = tcp.load(layout!(tcp_srtt_us))?;
            (*to).retransmits = tcp.load(layout!(tcp_total_retrans))?;
        } else {
            (*to).flags = flags | CLOSE_NO_TOTALS;
            (*to).bytes_sent = 0;
            (*to).bytes_retransmitted = 0;
            (*to).bytes_received = 0;
            (*to).srtt_eighth_us = 0;
            (*to).retransmits = 0;
        }
    }
    Some(())
}
