//! A process sends or receives with a datagram socket (tracepoint mode).
//!
//! Tracepoints `sock_send_length` and `sock_recv_length`, net/socket.c, since 6.3: in the caller's context, for
//! every kind of socket, when the send or receive is over. Before 6.3 cgroup programs, which see less: who sends to
//! an address (`BPF_CGROUP_UDP4_SENDMSG`), asks for the address of a datagram's sender (`BPF_CGROUP_UDP4_RECVMSG`),
//! or connects (`BPF_CGROUP_INET4_CONNECT`), likewise for IPv6; of sockets for pings only who connects, where the
//! kernel asks, and of raw ones nobody. Told once for each socket. All of them watch only.

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_sock_addr, map},
    maps::LruHashMap,
    programs::{BtfTracePointContext, SockAddrContext},
};
use tracer_common::record::{DatagramOwner, OWNER_BY_CONNECT, kind};

use crate::{
    datagram::current_generation,
    kernel::{Direct, number, sock, task},
    ring,
};

const ALLOW: i32 = 1;

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
    if result >= 0 && sock::has_flows(Direct(socket)) {
        tell::<false>(socket, 0);
    }
}

macro_rules! entries {
    ($($name:ident = $point:ident $(with $flags:ident)?,)*) => {$(
        #[cgroup_sock_addr($point)]
        fn $name(ctx: SockAddrContext) -> i32 {
            named(&ctx, 0 $(| $flags)?)
        }
    )*};
}
entries! {
    cgroup_sendmsg4 = sendmsg4,
    cgroup_sendmsg6 = sendmsg6,
    cgroup_recvmsg4 = recvmsg4,
    cgroup_recvmsg6 = recvmsg6,
    cgroup_connect4_udp = connect4 with OWNER_BY_CONNECT,
    cgroup_connect6_udp = connect6 with OWNER_BY_CONNECT,
}

#[inline(always)]
fn named(ctx: &SockAddrContext, flags: u16) -> i32 {
    // SAFETY: the context is live; the verifier checks each access.
    let (protocol, socket) = unsafe {
        let address = ctx.sock_addr;
        ((*address).protocol, (*address).__bindgen_anon_1.sk)
    };
    if sock::is_counted(protocol as u16) {
        tell::<true>(socket.cast_const().cast(), flags);
    }
    ALLOW
}

#[inline(always)]
fn tell<const IN_CGROUP: bool>(socket: *const u8, flags: u16) {
    let address = number(socket);
    let key = [address, current_generation(address).into()];
    if OWNED.get_ptr(&key).is_some() {
        return;
    }
    let mut told = false;
    ring::submit(kind::DATAGRAM_OWNER, flags, |record: *mut DatagramOwner| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = address;
            let task = &raw mut (*record).task;
            if IN_CGROUP {
                task::fill_current_in_cgroup(task)?;
            } else {
                task::fill_current(task)?;
            }
        }
        told = true;
        Some(())
    });
    if told {
        let _ = OWNED.insert(key, 0, 0);
    }
}
