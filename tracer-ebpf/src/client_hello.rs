//! The first bytes sent on a connection begin a TLS handshake (`--tls` alone).
//!
//! `int tcp_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)`, net/ipv4/tcp.c: in the sender's
//! context, before anything is taken from its memory. In tracepoint mode `BPF_CGROUP_INET_EGRESS`, run by
//! `ip_finish_output` before segmentation and fragmentation: there it is the first packet.
//!
//! Six bytes are looked at. Only if they are a handshake record that begins with a ClientHello, that record is
//! copied, as far as it was sent at once and fits; of anything else nothing is told.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock,
    macros::{cgroup_skb, fentry, kprobe},
    programs::{FEntryContext, ProbeContext, SkBuffContext},
};
use tracer_common::record::{CLIENT_HELLO_MAX, ClientHello, Endpoints, kind};

use crate::{
    dns::{InPacket, InProcess, Payload},
    kernel::{
        Direct, Remote, Source,
        iter::Iter,
        layout::{layout, setting},
        number,
        path::bounded,
        skb::{Ends, Packet},
        sock::{self, IPPROTO_TCP},
    },
    packet::{ALLOW, socket_of},
    ring,
};

/// RFC 8446, section 5.1: the content type of a record with handshake messages, and the major version of all.
const HANDSHAKE: u8 = 0x16;
const MAJOR: u8 = 3;
/// Ibid., section 4: the type of the message.
const CLIENT_HELLO: u8 = 1;

/// Length of a record's header.
const HEADER: u32 = 5;
/// Header and type of message.
const BEGINNING: u32 = HEADER + 1;

/// Room for most.
const USUAL: usize = 512;

/// Where a TCP header has its length, in words of 32 bits, in the upper half of a byte.
const TCP_LENGTH: u32 = 12;

/// A record with the beginning of what was sent.
#[repr(C)]
struct Hello<const SIZE: usize> {
    hello: ClientHello,
    bytes: [u8; SIZE],
}

#[fentry(function = "tcp_sendmsg_locked")]
fn client_hello_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    // SAFETY: a socket that the verifier knows; the helper returns null unless it is one of TCP.
    let tcp: *const u8 = unsafe { bpf_skc_to_tcp_sock(socket.cast_mut().cast()) }.cast();
    if !tcp.is_null() && Direct(tcp).load(layout!(tcp_bytes_sent)) == Some(0_u64) {
        let size: u64 = ctx.arg(2);
        sent(Direct(socket), number(socket), ctx.arg(1), size);
    }
    0
}

#[kprobe(function = "tcp_sendmsg_locked")]
fn client_hello_kprobe(ctx: ProbeContext) -> u32 {
    let arguments = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let (Some(socket), Some(message), Some(size)) = arguments else {
        return 0;
    };
    let socket: *const u8 = socket;
    if Remote(socket).load(layout!(tcp_bytes_sent)) == Some(0_u64) {
        sent(Remote(socket), socket as u64, message, size);
    }
    0
}

#[cgroup_skb(egress)]
fn client_hello_egress(ctx: SkBuffContext) -> i32 {
    if let Some(socket) = socket_of(&ctx)
        // SAFETY: a socket of the verifier's.
        && unsafe { (*socket).protocol } == u32::from(IPPROTO_TCP)
    {
        packet(&ctx, number(socket.cast_const().cast()));
    }
    ALLOW
}

/// Nothing has been sent through `socket` yet, and this is about to be. What is no process's memory, as with
/// `splice`, is left out.
#[inline(always)]
fn sent(socket: impl Source, address: u64, message: *const u8, size: u64) {
    if size < u64::from(BEGINNING) {
        return;
    }
    if setting!(iter.kind_mask) == 0 {
        return ring::lost(kind::CLIENT_HELLO); // Where the bytes are is not known.
    }
    let first = Iter::of(message).and_then(|iter| iter.ahead(0));
    let Some(first) = first else {
        return;
    };
    let payload = InProcess {
        length: u64::from(first.length).min(size) as u32,
        ..first
    };
    let fill = |to| sock::fill_endpoints(socket, to);
    if tell(address, &payload, fill).is_none() {
        ring::lost(kind::CLIENT_HELLO);
    }
}

/// A packet leaves. It is the first with a payload if all that was ever sent is its own: the kernel has counted
/// it by now.
#[inline(always)]
fn packet(ctx: &SkBuffContext, address: u64) {
    let socket = Remote(address as *const u8);
    let Some(sent) = socket.load::<u64>(layout!(tcp_bytes_sent)) else {
        return;
    };
    if sent < u64::from(BEGINNING) || sent > u64::from(ctx.len()) {
        return; // Nearly all.
    }
    let Some(ends) = Ends::of::<IPPROTO_TCP>(ctx) else {
        return ring::lost(kind::CLIENT_HELLO);
    };
    let Some(length) = Packet::load::<u8>(ctx, ends.headers + TCP_LENGTH) else {
        return;
    };
    let headers = ends.headers + u32::from(length >> 4) * 4;
    let payload = InPacket { ctx, headers };
    if u64::from(payload.length()) != sent {
        return;
    }
    let fill = |to| ends.fill(socket, false, to);
    if tell(address, &payload, fill).is_none() {
        ring::lost(kind::CLIENT_HELLO);
    }
}

/// Tells of it if it is one; `None` if that cannot be read.
#[inline(always)]
fn tell(
    socket: u64,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) -> Option<()> {
    if payload.available() < BEGINNING {
        return Some(());
    }
    let mut beginning = [0_u8; 8];
    if !payload.copy(beginning.as_mut_ptr(), BEGINNING) {
        return None;
    }
    let [kind, major, _, upper, lower, message, ..] = beginning;
    if (kind, major, message) != (HANDSHAKE, MAJOR, CLIENT_HELLO) {
        return Some(());
    }
    let record = HEADER + u32::from(upper) * 256 + u32::from(lower);
    let wanted = record.min(payload.available());
    if wanted <= USUAL as u32 {
        output::<USUAL, { USUAL as i32 - 1 }>(socket, payload, wanted, fill);
    } else {
        output::<CLIENT_HELLO_MAX, { CLIENT_HELLO_MAX as i32 - 1 }>(socket, payload, wanted, fill);
    }
    Some(())
}

/// `MASK` is `SIZE`, a power of two, less one: what the verifier has to see.
#[inline(always)]
fn output<const SIZE: usize, const MASK: i32>(
    socket: u64,
    payload: &impl Payload,
    wanted: u32,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    ring::submit(kind::CLIENT_HELLO, 0, |record: *mut Hello<SIZE>| {
        // SAFETY: a reserved record.
        unsafe {
            let hello = &raw mut (*record).hello;
            (*hello).socket = socket;
            fill(&raw mut (*hello).endpoints)?;
            let length = (wanted as usize).min(SIZE);
            (*hello).length = length as u32;
            (*hello).padding = 0;
            // Neither nothing nor too much, even to who has forgotten all comparisons.
            let copied = bounded::<MASK>(length - 1) + 1;
            let to = (&raw mut (*record).bytes).cast();
            payload.copy(to, copied as u32).then_some(())
        }
    });
}
