//! A process asks for the peer's address of a connection, as `accept` does for its caller
//! (tracepoint mode).
//!
//! `BPF_CGROUP_INET4_GETPEERNAME`, `BPF_CGROUP_INET6_GETPEERNAME`, run by `inet_getname` and
//! `inet6_getname` since 5.8: in `getpeername`, and in `accept` and io_uring's accept when the
//! address is asked for. User space believes it only of a socket that has just been established and
//! has no owner yet. The programs watch only: they always allow.

use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};
use tracer_common::record::{ACCEPT_BY_PEER_NAME, Socket, kind};

use crate::{
    kernel::{sock, task},
    ring,
};

const ALLOW: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
fn cgroup_getpeername4(ctx: SockAddrContext) -> i32 {
    peer_name(&ctx);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
fn cgroup_getpeername6(ctx: SockAddrContext) -> i32 {
    peer_name(&ctx);
    ALLOW
}

#[inline(always)]
fn peer_name(ctx: &SockAddrContext) {
    let address: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is live; the verifier checks each access.
    unsafe {
        if (*address).protocol != u32::from(sock::IPPROTO_TCP) {
            return;
        }
        ring::submit(kind::ACCEPT, ACCEPT_BY_PEER_NAME, |record: *mut Socket| {
            let socket = (*address).__bindgen_anon_1.sk;
            (*record).socket = socket as u64;
            task::fill_current_in_cgroup(&raw mut (*record).task)?;
            // Both ends are known from the moment at which the connection was established.
            let endpoints = &raw mut (*record).endpoints;
            (*endpoints).family = (*address).family as u16;
            (*endpoints).local_port = 0;
            (*endpoints).remote_port = 0;
            (*endpoints).state = (*socket).state as u8;
            (*endpoints).padding = 0;
            (*endpoints).netns = 0;
            (*endpoints).padding2 = 0;
            (*endpoints).local = [0; 16];
            (*endpoints).remote = [0; 16];
            (*record).errno = 0;
            (*record).padding = 0;
            Some(())
        });
    }
}
