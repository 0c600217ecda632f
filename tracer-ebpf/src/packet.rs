//! A packet leaves this host or reaches a socket: datagrams, and what name servers are asked over TCP
//! (tracepoint mode).
//!
//! `BPF_CGROUP_INET_EGRESS`, run by `ip_finish_output` before fragmentation, and `BPF_CGROUP_INET_INGRESS`, run by
//! `sk_filter` for each socket that gets the packet. Both see it from the IP header on, and are run for TCP, too,
//! which is left out at once but for port 53. A raw socket gets a copy of what it asked for, whoever else gets it,
//! too. Whoever is current may be a stranger. The programs watch only: they always allow.

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_sk_fullsock, macros::cgroup_skb,
    programs::SkBuffContext,
};
use tracer_common::record::kind;

use crate::{
    datagram::{self, Datagram, Owner},
    dns, dns_packet,
    kernel::{
        Remote, number,
        skb::{ETH_P_IP, Ends, Packet, UDP_HEADER},
        sock::{
            self, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW,
            SOCK_STREAM,
        },
    },
    ring,
};

/// What a program returns that only watches.
pub(crate) const ALLOW: i32 = 1;

#[cgroup_skb(egress)]
fn cgroup_skb_egress(ctx: SkBuffContext) -> i32 {
    packet::<false>(&ctx);
    ALLOW
}

#[cgroup_skb(ingress)]
fn cgroup_skb_ingress(ctx: SkBuffContext) -> i32 {
    packet::<true>(&ctx);
    ALLOW
}

impl Packet for SkBuffContext {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        self.load(offset as usize).ok()
    }

    /// Extension headers are left out: nothing here says where they end.
    #[inline(always)]
    fn transport(&self) -> Option<u32> {
        None
    }
}

/// The socket that sends or gets it, unless that is one of the kernel's for connections that begin or are over.
#[inline(always)]
pub(crate) fn socket_of(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is live; the verifier checks each access.
    unsafe {
        let socket = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        let socket = bpf_sk_fullsock(socket);
        (!socket.is_null()).then_some(socket)
    }
}

#[inline(always)]
fn packet<const RECEIVED: bool>(ctx: &SkBuffContext) {
    let Some(socket) = socket_of(ctx) else {
        return;
    };
    // SAFETY: the context is live.
    let (socket_type, protocol) = unsafe { ((*socket).type_ as u16, (*socket).protocol as u16) };
    let told = match (socket_type, protocol) {
        // Most of what comes here; a raw socket that hears TCP is left out, too.
        (SOCK_STREAM, IPPROTO_TCP) => return dns_packet::packet::<RECEIVED>(ctx, socket),
        (_, IPPROTO_TCP) => return,
        (SOCK_DGRAM, IPPROTO_UDP) => tell::<RECEIVED>(ctx, socket),
        (SOCK_DGRAM, IPPROTO_ICMP | IPPROTO_ICMPV6) | (SOCK_RAW, _) => {
            tell_without_ports::<RECEIVED>(ctx, socket, protocol)
        }
        _ => return,
    };
    if told.is_none() {
        ring::lost(kind::FLOW);
    }
}

/// Of a socket for pings, or a raw one: what follows the IP header counts.
#[inline(always)]
fn tell_without_ports<const RECEIVED: bool>(
    ctx: &SkBuffContext,
    socket: *mut bpf_sock,
    protocol: u16,
) -> Option<()> {
    let address = number(socket.cast_const().cast());
    let socket = Remote(address as *const u8);
    if !sock::has_file(socket) {
        return Some(());
    }
    // SAFETY: the context is live.
    let is_ipv4 = unsafe { (*ctx.skb.skb).protocol } == ETH_P_IP.into();
    let ends = Ends::without_ports(ctx, is_ipv4)?;
    let bytes = ctx.len().saturating_sub(ends.headers).into();
    let datagram = Datagram::new(address, protocol, RECEIVED, &ends, bytes);
    let fill = |to| ends.fill(socket, RECEIVED, to);
    datagram::count(&datagram, Owner::Unknown, fill);
    Some(())
}

#[inline(always)]
fn tell<const RECEIVED: bool>(ctx: &SkBuffContext, socket: *mut bpf_sock) -> Option<()> {
    let ends = Ends::of_udp(ctx)?;
    let address = number(socket.cast_const().cast());
    let bytes = ctx.len().wrapping_sub(ends.headers + UDP_HEADER).into();
    let datagram = Datagram {
        // SAFETY: the context is live.
        segment: unsafe { (*ctx.skb.skb).gso_size } as u16,
        ..Datagram::new(address, IPPROTO_UDP, RECEIVED, &ends, bytes)
    };
    let socket = Remote(address as *const u8);
    let fill = |to| ends.fill(socket, RECEIVED, to);
    datagram::count(&datagram, Owner::Unknown, fill);
    if datagram.key.peer_port == dns::PORT {
        let headers = ends.headers + UDP_HEADER;
        let payload = dns::InPacket { ctx, headers };
        dns::tell(address, RECEIVED, Owner::Unknown, &payload, fill);
    }
    Some(())
}
