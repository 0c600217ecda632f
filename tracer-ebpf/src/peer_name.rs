//! `accept` asks for the peer's address of a connection on behalf of its caller (tracepoint mode).
//!
//! `BPF_CGROUP_INET4_GETPEERNAME`, `BPF_CGROUP_INET6_GETPEERNAME`, run by `inet_getname` and
//! `inet6_getname` since 5.8: in `accept` and io_uring's accept when the address is asked for, and in
//! `getpeername`. The latter proves nothing, since who asks may have got the connection from whoever
//! accepted it. So threads are marked from `sys_enter_getpeername` to `sys_exit_getpeername`
//! (kernel/trace/trace_syscalls.c), and what they ask is left out. User space believes the rest only of a
//! socket that has just been established and has no owner yet. The programs watch only: they always allow.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::bpf_get_current_pid_tgid,
    macros::{cgroup_sock_addr, map, tracepoint},
    maps::HashMap,
    programs::{SockAddrContext, TracePointContext},
};
use tracer_common::record::{ACCEPT_BY_PEER_NAME, Socket, kind};

use crate::{
    kernel::{sock, task},
    ring,
};

const ALLOW: i32 = 1;

/// Threads that are in `getpeername` at a time: it takes a microsecond, unless somebody else has the socket.
const ASKING_MAX: u32 = 16_384;

/// Those threads, by PID and thread ID.
#[map]
static ASKING: HashMap<u64, u8> = HashMap::with_max_entries(ASKING_MAX, 0);

#[tracepoint]
fn sys_enter_getpeername(_: TracePointContext) -> u32 {
    // What does not fit is taken for an accept.
    let _ = ASKING.insert(bpf_get_current_pid_tgid(), 0, 0);
    0
}

#[tracepoint]
fn sys_exit_getpeername(_: TracePointContext) -> u32 {
    // It was not there if the hook at the entry came later.
    let _ = ASKING.remove(bpf_get_current_pid_tgid());
    0
}

#[cgroup_sock_addr(getpeername4)]
fn cgroup_getpeername4(ctx: SockAddrContext) -> i32 {
    peer_name::<{ sock::AF_INET }>(&ctx);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
fn cgroup_getpeername6(ctx: SockAddrContext) -> i32 {
    peer_name::<{ sock::AF_INET6 }>(&ctx);
    ALLOW
}

/// The family is a constant, since the verifier refuses reads of the other family's address.
#[inline(always)]
fn peer_name<const FAMILY: u16>(ctx: &SockAddrContext) {
    let address: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is live; the verifier checks each access.
    unsafe {
        if (*address).protocol != u32::from(sock::IPPROTO_TCP)
            || ASKING.get(bpf_get_current_pid_tgid()).is_some()
        {
            return;
        }
        ring::submit(kind::ACCEPT, ACCEPT_BY_PEER_NAME, |record: *mut Socket| {
            let socket = (*address).__bindgen_anon_1.sk;
            (*record).socket = socket as u64;
            task::fill_current_in_cgroup(&raw mut (*record).task)?;
            // The socket's address alone does not say which connection this is: it is used again, and the
            // record of the close may have been lost.
            let endpoints = &raw mut (*record).endpoints;
            (*endpoints).family = FAMILY;
            (*endpoints).local_port = (*socket).src_port as u16;
            (*endpoints).remote_port = u16::from_be((*address).user_port as u16);
            (*endpoints).state = (*socket).state as u8;
            (*endpoints).padding = 0;
            (*endpoints).netns = 0;
            (*endpoints).padding2 = 0;
            let (local, remote) = (&raw mut (*endpoints).local, &raw mut (*endpoints).remote);
            let (local, remote) = (local.cast::<u32>(), remote.cast::<u32>());
            if FAMILY == sock::AF_INET {
                copy::<1>(&raw const (*socket).src_ip4, local);
                copy::<1>(&raw const (*address).user_ip4, remote);
            } else {
                copy::<4>((&raw const (*socket).src_ip6).cast(), local);
                copy::<4>((&raw const (*address).user_ip6).cast(), remote);
            }
            (*record).errno = 0;
            (*record).padding = 0;
            Some(())
        });
    }
}

/// Copies an address of so many words, one by one as the verifier wants it, and zeroes the rest.
///
/// # Safety
/// `from` must point to `WORDS` words, `to` to four writable ones.
#[inline(always)]
unsafe fn copy<const WORDS: usize>(from: *const u32, to: *mut u32) {
    // SAFETY: by the caller's promise.
    unsafe {
        to.write(from.read_volatile());
        to.add(1).write(if WORDS > 1 {
            from.add(1).read_volatile()
        } else {
            0
        });
        to.add(2).write(if WORDS > 2 {
            from.add(2).read_volatile()
        } else {
            0
        });
        to.add(3).write(if WORDS > 3 {
            from.add(3).read_volatile()
        } else {
            0
        });
    }
}
