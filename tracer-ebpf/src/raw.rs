//! A ping socket or a raw one sends, or a packet is taken from it (fentry and kprobe mode).
//!
//! `int ip_push_pending_frames(struct sock *sk, struct flowi4 *fl4)`, net/ipv4/ip_output.c, and
//! `int ip6_push_pending_frames(struct sock *sk)`, net/ipv6/ip6_output.c: in the sender's context, when the whole
//! packet has gathered. UDP does not come here. What the kernel sends by itself, e.g. an answer to a ping, does,
//! and is left out.
//!
//! `int raw_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)`, net/ipv4/raw.c, and `rawv6_sendmsg`,
//! net/ipv6/raw.c, at their return: if the process writes IP headers itself (`IP_HDRINCL`), the kernel has no
//! function of its own for the packet; so it is read where the process has it, from which it was copied a
//! moment ago.
//!
//! `void skb_free_datagram(struct sock *sk, struct sk_buff *skb)`, net/core/datagram.c, called at the end of
//! `ping_recvmsg`, `raw_recvmsg` and `rawv6_recvmsg` in the receiver's context, and by other families of sockets, which
//! are left out.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::{fentry, fexit, kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::record::kind;

use crate::{
    datagram::{self, Datagram, Owner},
    kernel::{
        Direct, Remote, Source,
        iter::Iter,
        layout::{layout, setting},
        number,
        skb::{self, Ends, InMemory, Packet},
        sock,
    },
    ring,
};

#[fentry(function = "ip_push_pending_frames")]
fn ip_push_pending_frames_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    pushed(socket, Direct(socket), || {
        Ends::of_flow4(Direct(ctx.arg(1)))
    });
    0
}

#[fentry(function = "ip6_push_pending_frames")]
fn ip6_push_pending_frames_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    let inet = Remote(number(socket) as *const u8);
    pushed(socket, Direct(socket), || Ends::of_corked6(inet));
    0
}

#[kprobe(function = "ip_push_pending_frames")]
fn ip_push_pending_frames_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(flow)) = (ctx.arg(0), ctx.arg(1)) {
        pushed(socket, Remote(socket), || Ends::of_flow4(Remote(flow)));
    }
    0
}

#[kprobe(function = "ip6_push_pending_frames")]
fn ip6_push_pending_frames_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(socket) = ctx.arg(0) {
        pushed(socket, Remote(socket), || Ends::of_corked6(Remote(socket)));
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
fn freed(address: *const u8, socket: impl Source, skb: impl Source) {
    if sock::has_flows(socket)
        && !skb::is_queued(skb)
        && tell_freed(number(address), socket, skb).is_none()
    {
        ring::lost(kind::FLOW);
    }
}

/// What follows the IP header counts, wherever the socket's own view of the packet begins.
#[inline(always)]
fn tell_freed(address: u64, socket: impl Source, skb: impl Source) -> Option<()> {
    let packet = InMemory::of(skb)?;
    let is_ipv4 = skb.load(layout!(skb_protocol)) == Some(skb::ETH_P_IP);
    let ends = Ends::without_ports(&packet, is_ipv4)?;
    let bytes = packet.from_network_header()?.saturating_sub(ends.headers);
    let protocol = socket.load(layout!(sock_protocol))?;
    let datagram = Datagram::new(address, protocol, true, &ends, bytes.into());
    let fill = |to| ends.fill(socket, true, to);
    datagram::count(&datagram, Owner::Current, fill);
    Some(())
}

#[inline(always)]
fn pushed(address: *const u8, socket: impl Source, ends: impl FnOnce() -> Option<Ends>) {
    if sock::has_flows(socket)
        && sock::has_file(socket)
        && tell_pushed(number(address), socket, ends).is_none()
    {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn tell_pushed(
    address: u64,
    socket: impl Source,
    ends: impl FnOnce() -> Option<Ends>,
) -> Option<()> {
    let inet = Remote(address as *const u8);
    let bytes = inet.load::<u32>(layout!(inet_cork_length))?;
    tell(address, socket, &ends()?, bytes, false)
}

/// Tells of what follows the IP header.
#[inline(always)]
fn tell(
    address: u64,
    socket: impl Source,
    ends: &Ends,
    bytes: u32,
    own_header: bool,
) -> Option<()> {
    let protocol = socket.load(layout!(sock_protocol))?;
    let datagram = Datagram {
        own_header,
        ..Datagram::new(address, protocol, false, ends, bytes.into())
    };
    let fill = |to| ends.fill(socket, false, to);
    datagram::count(&datagram, Owner::Current, fill);
    Some(())
}

/// Slot of the return value: after three arguments.
const RETURN_VALUE: usize = 3;

#[fexit(function = "raw_sendmsg")]
fn raw_sendmsg_fexit(ctx: FExitContext) -> i32 {
    returned::<true>(&ctx)
}

#[fexit(function = "rawv6_sendmsg")]
fn rawv6_sendmsg_fexit(ctx: FExitContext) -> i32 {
    returned::<false>(&ctx)
}

#[inline(always)]
fn returned<const IPV4: bool>(ctx: &FExitContext) -> i32 {
    let socket = number(ctx.arg(0));
    if writes_headers(socket) {
        sent::<IPV4>(socket, number(ctx.arg(1)), ctx.arg(RETURN_VALUE));
    }
    0
}

/// A kretprobe does not see the arguments, so the kprobe leaves them here, by thread. The entry goes
/// with the return; if that was missed, with the thread's next packet or with age.
#[map]
static SENDING: LruHashMap<u64, Arguments> = LruHashMap::with_max_entries(1024, 0);

/// Arguments of a send that has not returned.
#[derive(Clone, Copy)]
#[repr(C)]
struct Arguments {
    socket: u64,
    message: u64,
}

#[kprobe(function = "raw_sendmsg")]
fn raw_sendmsg_kprobe(ctx: ProbeContext) -> u32 {
    remember(&ctx);
    0
}

#[kprobe(function = "rawv6_sendmsg")]
fn rawv6_sendmsg_kprobe(ctx: ProbeContext) -> u32 {
    remember(&ctx);
    0
}

#[kretprobe(function = "raw_sendmsg")]
fn raw_sendmsg_kretprobe(ctx: RetProbeContext) -> u32 {
    recall::<true>(&ctx);
    0
}

#[kretprobe(function = "rawv6_sendmsg")]
fn rawv6_sendmsg_kretprobe(ctx: RetProbeContext) -> u32 {
    recall::<false>(&ctx);
    0
}

#[inline(always)]
fn remember(ctx: &ProbeContext) {
    if let (Some(socket), Some(message)) = (ctx.arg(0), ctx.arg(1))
        && writes_headers(socket)
        && SENDING
            .insert(
                &bpf_get_current_pid_tgid(),
                &Arguments { socket, message },
                0,
            )
            .is_err()
    {
        ring::lost(kind::FLOW);
    }
}

#[inline(always)]
fn recall<const IPV4: bool>(ctx: &RetProbeContext) {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once, and only this thread writes under this key.
    let Some(Arguments { socket, message }) = (unsafe { SENDING.get(&thread) }).copied() else {
        return;
    };
    // A failure to remove means that it is gone already.
    let _ = SENDING.remove(&thread);
    sent::<IPV4>(socket, message, ctx.ret());
}

#[inline(always)]
fn writes_headers(socket: u64) -> bool {
    let byte: Option<u8> = Remote(socket as *const u8).load(setting!(own_header_byte));
    byte.is_some_and(|byte| u32::from(byte) & setting!(own_header_mask) != 0)
}

/// `result` is a length or a negative errno.
#[inline(always)]
fn sent<const IPV4: bool>(socket: u64, message: u64, result: i32) {
    if result > 0 && tell_written::<IPV4>(socket, message, result as u32).is_none() {
        ring::lost(kind::FLOW);
    }
}

/// `None` also if the packet does not lie in one piece.
#[inline(always)]
fn tell_written<const IPV4: bool>(socket: u64, message: u64, length: u32) -> Option<()> {
    let packet = Iter::of(message as *const u8)?.behind(length)?;
    let ends = Ends::without_ports(&Written(packet.address), IPV4)?;
    let bytes = length.saturating_sub(ends.headers);
    tell(socket, Remote(socket as *const u8), &ends, bytes, true)
}

/// A packet in the memory of the current process, by its address.
struct Written(u64);

impl Packet for Written {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        let from = self.0.wrapping_add(offset.into());
        // SAFETY: the destination has the size given; the helper checks the source, and writes all of it.
        unsafe {
            let (to, size) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
            let result = bpf_probe_read_user(to, size, from as *const _);
            (result == 0).then(|| value.assume_init())
        }
    }

    /// Extension headers are left out: nothing here says where they end.
    #[inline(always)]
    fn transport(&self) -> Option<u32> {
        None
    }
}
