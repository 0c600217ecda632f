//! This host sends a reset.
//!
//! `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb[, reason])`,
//! include/trace/events/tcp.h, since 4.15. Where data arrives after a close, the reset is sent just
//! after the socket has reached CLOSE, so that nothing else tells it from an orderly end. Received
//! resets need no hook: the socket's error at CLOSE tells them. Since 6.10 the socket may be null.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::record::{Reset, kind};

use crate::{
    kernel::{Direct, Source, layout::layout, sock},
    ring,
};

/// include/net/tcp_states.h; these are not full sockets.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;
const LISTEN: u8 = 10;

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    // Newer kernels want to see this check; older ones, where the verifier holds the socket for never
    // null and drops it, read a family of 0 through null.
    if socket.is_null() {
        return 0;
    }
    let sock = Direct(socket);
    let (Some(family), Some(state)) = (
        sock.load::<u16>(layout!(sock_family)),
        sock.load::<u8>(layout!(sock_state)),
    ) else {
        return 0;
    };
    if !matches!(family, sock::AF_INET | sock::AF_INET6)
        || matches!(state, TIME_WAIT | NEW_SYN_RECV | LISTEN)
    {
        return 0;
    }
    ring::submit(kind::RESET_SENT, 0, |record: *mut Reset| {
        // SAFETY: a reserved record.
        unsafe { (*record).socket = socket as u64 };
        Some(())
    });
    0
}
