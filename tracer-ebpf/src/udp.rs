//! A UDP datagram is sent, or taken from its socket (fentry and kprobe mode).
//!
//! `int ip_send_skb(struct net *net, struct sk_buff *skb)`, net/ipv4/ip_output.c, and
//! `int ip6_send_skb(struct sk_buff *skb)`, net/ipv6/ip6_output.c: in the sender's context, with all headers
//! written, before netfilter may drop it, and before segmentation and fragmentation cut it. Other protocols
//! come here too where the compiler has kept that call, and are left out.
//!
//! `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`, net/ipv4/udp.c, called at the end of
//! `udp_recvmsg` and `udpv6_recvmsg` in the receiver's context. `len` is what was copied, negative for
//! `MSG_PEEK`, which takes nothing. The socket's own headers are pulled: what is left is the payload.

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

#[fentry(function = "skb_consume_udp")]
fn skb_consume_udp_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    received(socket, Direct(socket), Direct(ctx.arg(1)), ctx.arg(2));
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

#[kprobe(function = "skb_consume_udp")]
fn skb_consume_udp_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(skb), Some(copied)) = (ctx.arg(0), ctx.arg(1), ctx.arg::<i32>(2)) {
        received(socket, Remote(socket), Remote(skb), copied);
    }
    0
}

#[inline(always)]
fn sent(skb: impl Source) {
    let (Some(address), Some(socket)) = (skb.load(layout!(skb_sk)), skb.follow(layout!(skb_sk)))
    else {
        return;
    };
    if socket.load(layout!(sock_protocol)) != Some(IPPROTO_UDP)
        || socket.load(layout!(sock_type)) != Some(SOCK_DGRAM)
    {
        return;
    }
    if tell::<false>(number(address), socket, skb).is_none() {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn received(address: *const u8, socket: impl Source, skb: impl Source, copied: i32) {
    // UDP-Lite comes here too. Of nothing that was copied, the sign does not tell.
    let is_peeked = copied < 0 || copied == 0 && skb::is_queued(skb);
    if is_peeked || socket.load::<u16>(layout!(sock_protocol)) != Some(IPPROTO_UDP) {
        return;
    }
    if tell::<true>(number(address), socket, skb).is_none() {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn tell<const RECEIVED: bool>(address: u64, socket: impl Source, skb: impl Source) -> Option<()> {
    let packet = InMemory::of(skb)?;
    let ends = Ends::of_udp(&packet)?;
    let length: u32 = skb.load(layout!(skb_len))?;
    let bytes = if RECEIVED {
        length
    } else {
        length.wrapping_sub(ends.headers + UDP_HEADER)
    };
    let datagram = Datagram {
        segment: skb::segment(skb)?,
        ..Datagram::new(address, IPPROTO_UDP, RECEIVED, &ends, bytes.into())
    };
    let fill = |to| ends.fill(socket, RECEIVED, to);
    datagram::count(&datagram, Owner::Current, fill);
    if datagram.key.peer_port == dns::PORT {
        let payload = packet.payload(&ends, bytes)?;
        dns::tell(address, RECEIVED, Owner::Current, &payload, fill);
    }
    Some(())
}
