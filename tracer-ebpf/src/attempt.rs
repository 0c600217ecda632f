//! A process asks for a connection (tracepoint mode).
//!
//! `BPF_CGROUP_INET4_CONNECT`, `BPF_CGROUP_INET6_CONNECT`, run by `tcp_v4_pre_connect` and
//! `tcp_v6_pre_connect` in the caller's context, before the route is looked up. If SYN_SENT does not
//! follow, the attempt has failed. The programs watch only: they always allow.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_skc_to_tcp_sock,
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use tracer_common::record::{Socket, kind};

use crate::{
    kernel::{Direct, layout::setting, mptcp, sock, task},
    ring,
};

const ALLOW: i32 = 1;

#[cgroup_sock_addr(connect4)]
fn cgroup_connect4(ctx: SockAddrContext) -> i32 {
    attempt::<{ sock::AF_INET }>(&ctx);
    ALLOW
}

#[cgroup_sock_addr(connect6)]
fn cgroup_connect6(ctx: SockAddrContext) -> i32 {
    attempt::<{ sock::AF_INET6 }>(&ctx);
    ALLOW
}

/// The family is a constant, since the verifier refuses reads of the other family's address.
#[inline(always)]
fn attempt<const FAMILY: u16>(ctx: &SockAddrContext) {
    let address: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is live; the verifier checks each access.
    unsafe {
        if (*address).protocol != u32::from(sock::IPPROTO_TCP)
            || is_further((*address).__bindgen_anon_1.sk)
        {
            return;
        }
        ring::submit(kind::ATTEMPT, 0, |record: *mut Socket| {
            let socket = (*address).__bindgen_anon_1.sk;
            (*record).socket = socket as u64;
            task::fill_current_in_cgroup(&raw mut (*record).task)?;
            let endpoints = &raw mut (*record).endpoints;
            (*endpoints).family = FAMILY;
            (*endpoints).local_port = 0;
            (*endpoints).remote_port = u16::from_be((*address).user_port as u16);
            (*endpoints).state = 7;
            (*endpoints).padding = 0;
            (*endpoints).netns = 0;
            (*endpoints).padding2 = 0;
            (*endpoints).local = [0; 16];
            let remote = (&raw mut (*endpoints).remote).cast::<u32>();
            if FAMILY == sock::AF_INET {
                remote.write((*address).user_ip4);
                remote.add(1).write(0);
                remote.add(2).write(0);
                remote.add(3).write(0);
            } else {
                remote.write((*address).user_ip6[0]);
                remote.add(1).write((*address).user_ip6[1]);
                remote.add(2).write((*address).user_ip6[2]);
                remote.add(3).write((*address).user_ip6[3]);
            }
            (*record).errno = 0;
            (*record).padding = 0;
            Some(())
        });
    }
}

/// Whether a Multipath TCP connection gets a further path: that is no attempt of its own.
#[inline(always)]
fn is_further(socket: *mut bpf_sock) -> bool {
    if setting!(mptcp.subflow_mask) == 0 {
        return false;
    }
    // SAFETY: the helper checks that the socket is a TCP one.
    let tcp: *const u8 = unsafe { bpf_skc_to_tcp_sock(socket.cast()) }.cast();
    !tcp.is_null() && mptcp::is_further(Direct(tcp))
}
