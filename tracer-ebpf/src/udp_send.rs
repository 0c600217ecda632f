//! A UDP datagram is sent.
//!
//! `int ip_send_skb(struct net *net, struct sk_buff *skb)`, net/ipv4/ip_output.c, and
//! `int ip6_send_skb(struct sk_buff *skb)`, net/ipv6/ip6_output.c: in the sender's context, with all headers
//! written, before netfilter may drop it, and before segmentation and fragmentation cut it. Other protocols
//! come here too where the compiler has kept that call, and are left out.

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
        skb::{self, Ends, InMemory, UDP_HEADER},
        sock::{IPPROTO_UDP, SOCK_DGRAM},
    },
    ring,
};

#[fentry(function = "ip_send_skb")]
fn ip_send_skb_fentry(ctx: FEntryContext) -> i32 {
    sent(Direct(ctx.arg(1)));
    0
}

#[fentry(function = "ip6_send_skb")]
fn ip6_send_skb_fentry(ctx: FEntryContext) -> i32 {
    sent(Direct(ctx.arg(0)));
    0
}

#[kprobe(function = "ip_send_skb")]
fn ip_send_skb_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(skb) = ctx.arg(1) {
        sent(Remote(skb));
    }
    0
}

#[kprobe(function = "ip6_send_skb")]
fn ip6_send_skb_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(skb) = ctx.arg(0) {
        sent(Remote(skb));
    }
    0
}

#[inline(always)]
fn sent(skb: impl Source) {
    let Some(socket) = skb.follow(layout!(skb_sk)) else {
        return;
    };
    if socket.load(layout!(sock_protocol)) != Some(IPPROTO_UDP)
        || socket.load(layout!(sock_type)) != Some(SOCK_DGRAM)
    {
        return;
    }
    if tell(skb, socket).is_none() {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn tell(skb: impl Source, socket: impl Source) -> Option<()> {
    let address = number(skb.load(layout!(skb_sk))?);
    let packet = InMemory::of(skb)?;
    let ends = Ends::of_udp(&packet)?;
    let length: u32 = skb.load(layout!(skb_len))?;
    let bytes = length.wrapping_sub(ends.headers + UDP_HEADER).into();
    let datagram = Datagram {
        segment: skb::segment(skb)?,
        ..Datagram::new(address, IPPROTO_UDP, false, &ends, bytes)
    };
    let fill = |to| ends.fill(socket, false, to);
    datagram::count(&datagram, Owner::Current, fill);
    if ends.destination_port == dns::PORT {
        let payload = packet.payload(&ends, bytes)?;
        dns::tell(address, false, Owner::Current, &payload, fill);
    }
    Some(())
}
