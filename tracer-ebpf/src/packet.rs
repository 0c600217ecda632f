//! A datagram leaves this host or reaches a socket (tracepoint mode).
//!
//! `BPF_CGROUP_INET_EGRESS`, run by `ip_finish_output` before fragmentation, and `BPF_CGROUP_INET_INGRESS`, run by
//! `sk_filter` for each socket that gets the packet. Both see it from the IP header on, and are run for TCP, too,
//! which is left out at once. Whoever is current may be a stranger. The programs watch only: they always allow.

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_sk_fullsock, macros::cgroup_skb,
    programs::SkBuffContext,
};
use tracer_common::record::{FlowKey, kind};

use crate::{
    datagram::{Datagram, Owner, count, current_generation},
    dns,
    kernel::{
        Remote, number,
        skb::{Ends, Packet, UDP_HEADER},
        sock::IPPROTO_UDP,
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

#[inline(always)]
fn packet<const RECEIVED: bool>(ctx: &SkBuffContext) {
    // SAFETY: the context is live; the verifier checks each access.
    let socket = unsafe {
        let socket = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        bpf_sk_fullsock(socket)
    };
    // SAFETY: as above.
    if !socket.is_null()
        && unsafe { (*socket).protocol } == u32::from(IPPROTO_UDP)
        && tell::<RECEIVED>(ctx, socket).is_none()
    {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn tell<const RECEIVED: bool>(ctx: &SkBuffContext, socket: *mut bpf_sock) -> Option<()> {
    let ends = Ends::of_udp(ctx)?;
    let (peer, peer_port) = if RECEIVED {
        (ends.source, ends.source_port)
    } else {
        (ends.destination, ends.destination_port)
    };
    let address = number(socket.cast_const().cast());
    let datagram = Datagram {
        key: FlowKey {
            socket: address,
            peer,
            peer_port,
            protocol: IPPROTO_UDP,
            generation: current_generation(address),
        },
        received: RECEIVED,
        bytes: ctx.len().wrapping_sub(ends.headers + UDP_HEADER).into(),
        // SAFETY: the context is live.
        segment: unsafe { (*ctx.skb.skb).gso_size } as u16,
    };
    let socket = Remote(address as *const u8);
    let fill = |to| ends.fill(socket, RECEIVED, to);
    count(&datagram, Owner::Unknown, fill);
    if peer_port == dns::PORT {
        let headers = ends.headers + UDP_HEADER;
        let payload = dns::InPacket { ctx, headers };
        dns::tell(address, RECEIVED, Owner::Unknown, &payload, fill);
    }
    Some(())
}
