//! A process takes a datagram from a socket: UDP's, one for pings, or a raw one.
//!
//! `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`, net/ipv4/udp.c, called at the end of
//! `udp_recvmsg` and `udpv6_recvmsg` in the receiver's context. `len` is what was copied, negative for
//! `MSG_PEEK`, which takes nothing. The socket's own headers are pulled: what is left is the payload.
//!
//! `void skb_free_datagram(struct sock *sk, struct sk_buff *skb)`, net/core/datagram.c, called likewise by
//! `ping_recvmsg`, `raw_recvmsg` and `rawv6_recvmsg`, and by other families of sockets, which are left out.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::record::kind;

use crate::{
    datagram::{self, Datagram, Owner},
    dns,
    kernel::{
        Direct, Remote, Source,
        layout::layout,
        number,
        skb::{self, Ends, InMemory},
        sock::{self, IPPROTO_UDP},
    },
    ring,
};

#[fentry(function = "skb_consume_udp")]
fn skb_consume_udp_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    received(socket, Direct(socket), Direct(ctx.arg(1)), ctx.arg(2));
    0
}

#[kprobe(function = "skb_consume_udp")]
fn skb_consume_udp_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(skb), Some(copied)) = (ctx.arg(0), ctx.arg(1), ctx.arg::<i32>(2)) {
        received(socket, Remote(socket), Remote(skb), copied);
    }
    0
}

#[fentry(function = "skb_free_datagram")]
fn skb_free_datagram_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    freed(socket, Direct(socket), Direct(ctx.arg(1)));
    0
}

#[kprobe(function = "skb_free_datagram")]
fn skb_free_datagram_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        freed(socket, Remote(socket), Remote(skb));
    }
    0
}

#[inline(always)]
fn received(address: *const u8, socket: impl Source, skb: impl Source, copied: i32) {
    // UDP-Lite comes here too. Of nothing that was copied, the sign does not tell.
    let is_peeked = copied < 0 || copied == 0 && is_queued(skb);
    if is_peeked || socket.load::<u16>(layout!(sock_protocol)) != Some(IPPROTO_UDP) {
        return;
    }
    if tell(number(address), socket, skb).is_none() {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn freed(address: *const u8, socket: impl Source, skb: impl Source) {
    if sock::has_flows(socket)
        && !is_queued(skb)
        && tell_without_ports(number(address), socket, skb).is_none()
    {
        ring::lost(kind::FLOW);
    }
}

/// Who only peeks leaves the datagram in the queue, which then refers to it as well.
#[inline(always)]
fn is_queued(skb: impl Source) -> bool {
    skb.load::<u32>(layout!(skb_users)) != Some(1)
}

#[inline(always)]
fn tell(address: u64, socket: impl Source, skb: impl Source) -> Option<()> {
    let packet = InMemory::of(skb)?;
    let ends = Ends::of_udp(&packet)?;
    let bytes = skb.load::<u32>(layout!(skb_len))?.into();
    let datagram = Datagram {
        segment: skb::segment(skb)?,
        ..Datagram::new(address, IPPROTO_UDP, true, &ends, bytes)
    };
    let fill = |to| ends.fill(socket, true, to);
    datagram::count(&datagram, Owner::Current, fill);
    if ends.source_port == dns::PORT {
        let payload = packet.payload(&ends, bytes)?;
        dns::tell(address, true, Owner::Current, &payload, fill);
    }
    Some(())
}

/// What follows the IP header counts, wherever the socket's own view of the packet begins.
#[inline(always)]
fn tell_without_ports(address: u64, socket: impl Source, skb: impl Source) -> Option<()> {
    let packet = InMemory::of(skb)?;
    let is_ipv4 = skb.load(layout!(skb_protocol)) == Some(skb::ETH_P_IP);
    let ends = Ends::without_ports(&packet, is_ipv4)?;
    let bytes = packet.from_network_header()?.saturating_sub(ends.headers);
    let protocol = socket.load(layout!(sock_protocol))?;
    let datagram = Datagram::new(address, protocol, true, &ends, bytes.into());
    datagram::count(&datagram, Owner::Current, |to| ends.fill(socket, true, to));
    Some(())
}
