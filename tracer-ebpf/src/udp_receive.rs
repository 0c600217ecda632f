//! A process takes a UDP datagram from a socket.
//!
//! `void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`, net/ipv4/udp.c, called at the end of
//! `udp_recvmsg` and `udpv6_recvmsg` in the receiver's context. `len` is what was copied, negative for
//! `MSG_PEEK`, which takes nothing. The socket's own headers are pulled: what is left is the payload.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::record::{FlowKey, kind};

use crate::{
    datagram::{Datagram, Owner, count, current_generation},
    dns,
    kernel::{
        Direct, Remote, Source,
        layout::layout,
        number,
        skb::{self, Ends, InMemory},
        sock::IPPROTO_UDP,
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

#[inline(always)]
fn received(address: *const u8, socket: impl Source, skb: impl Source, copied: i32) {
    // UDP-Lite comes here too. Of nothing that was copied, the sign does not tell: who only peeks leaves
    // the datagram in the queue, which then refers to it as well.
    let is_peeked = copied < 0 || copied == 0 && skb.load::<u32>(layout!(skb_users)) != Some(1);
    if is_peeked || socket.load::<u16>(layout!(sock_protocol)) != Some(IPPROTO_UDP) {
        return;
    }
    if tell(number(address), socket, skb).is_none() {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn tell(address: u64, socket: impl Source, skb: impl Source) -> Option<()> {
    let packet = InMemory::of(skb)?;
    let ends = Ends::of_udp(&packet)?;
    let datagram = Datagram {
        key: FlowKey {
            socket: address,
            peer: ends.source,
            peer_port: ends.source_port,
            protocol: IPPROTO_UDP,
            generation: current_generation(address),
        },
        received: true,
        bytes: skb.load::<u32>(layout!(skb_len))?.into(),
        segment: skb::segment(skb)?,
    };
    let fill = |to| ends.fill(socket, true, to);
    count(&datagram, Owner::Current, fill);
    if datagram.key.peer_port == dns::PORT {
        let payload = packet.payload(&ends, datagram.bytes)?;
        dns::tell(address, true, Owner::Current, &payload, fill);
    }
    Some(())
}
