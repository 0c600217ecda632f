//! Packets to and from a name server over TCP (kprobe and tracepoint mode).
//!
//! Where datagrams are seen as packets, too, [`packet`](crate::packet) hands them on; else there are programs of
//! their own. With numbers: what is sent again, or comes out of order, is sorted out in user space.

use aya_ebpf::{bindings::bpf_sock, macros::cgroup_skb, programs::SkBuffContext};
use tracer_common::record::kind;

use crate::{
    datagram::Owner,
    dns,
    kernel::{
        Remote, number,
        skb::{Ends, Packet},
        sock::IPPROTO_TCP,
    },
    packet::{ALLOW, socket_of},
    ring,
};

/// SYN, which takes a number before the first byte.
const SYN: u8 = 2;

/// A TCP header behind the ports, without options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    sequence: u32,
    acknowledged: u32,
    /// In words of 32 bits, in the upper half.
    length: u8,
    flags: u8,
    rest: [u8; 2],
}

/// Where it begins: behind both ports.
const PORTS: u32 = 4;

#[cgroup_skb(egress)]
fn dns_stream_egress(ctx: SkBuffContext) -> i32 {
    if let Some(socket) = socket_of(&ctx) {
        packet::<false>(&ctx, socket);
    }
    ALLOW
}

#[cgroup_skb(ingress)]
fn dns_stream_ingress(ctx: SkBuffContext) -> i32 {
    if let Some(socket) = socket_of(&ctx) {
        packet::<true>(&ctx, socket);
    }
    ALLOW
}

/// Tells of it if it is one.
#[inline(always)]
pub(crate) fn packet<const RECEIVED: bool>(ctx: &SkBuffContext, socket: *mut bpf_sock) {
    if is_to_server(socket) && tell::<RECEIVED>(ctx, number(socket.cast_const().cast())).is_none() {
        ring::lost(kind::DNS);
    }
}

#[inline(always)]
fn is_to_server(socket: *mut bpf_sock) -> bool {
    // SAFETY: a socket of the verifier's. Before 5.18 the port was a word, and can be read as such only.
    unsafe {
        (&raw const (*socket).dst_port)
            .cast::<u32>()
            .read_volatile()
            == u32::from(dns::PORT.to_be())
            && (*socket).protocol == u32::from(IPPROTO_TCP)
    }
}

#[inline(always)]
fn tell<const RECEIVED: bool>(ctx: &SkBuffContext, address: u64) -> Option<()> {
    let ends = Ends::of::<IPPROTO_TCP>(ctx)?;
    let header: Tcp = Packet::load(ctx, ends.headers + PORTS)?;
    let headers = ends.headers + u32::from(header.length >> 4) * 4;
    let first = u32::from(header.flags & SYN != 0);
    let sequence = u32::from_be(header.sequence).wrapping_add(first);
    let socket = Remote(address as *const u8);
    let fill = |to| ends.fill(socket, RECEIVED, to);
    let payload = dns::InPacket { ctx, headers };
    dns::tell_part(address, RECEIVED, Owner::Unknown, sequence, &payload, fill);
    Some(())
}
