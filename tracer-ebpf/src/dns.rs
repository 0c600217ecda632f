//! What is sent to port 53, and comes from there.
//!
//! The hooks on datagrams and on streams hand it on; it is understood in user space.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use tracer_common::record::{
    DNS_MAX, DNS_STREAM, Dns, Endpoints, FLOW_NO_TASK, FLOW_RECEIVED, kind,
};

use crate::{
    datagram::Owner,
    kernel::{path::bounded, task},
    ring,
};

/// The port of name servers.
pub(crate) const PORT: u16 = 53;

/// Room for most messages.
const USUAL: usize = 512;

/// A record with its payload.
#[repr(C)]
struct Message<const SIZE: usize> {
    dns: Dns,
    payload: [u8; SIZE],
}

/// Something that was sent.
pub(crate) trait Payload {
    /// Its length in bytes.
    fn length(&self) -> u32;
    /// How much of its beginning can be copied.
    fn available(&self) -> u32;
    /// Copies so many bytes.
    fn copy(&self, to: *mut u8, length: u32) -> bool;
}

/// In the kernel's memory.
pub(crate) struct InMemory {
    pub(crate) address: *const u8,
    pub(crate) length: u32,
    pub(crate) available: u32,
}

impl Payload for InMemory {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn available(&self) -> u32 {
        self.available
    }

    #[inline(always)]
    fn copy(&self, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller has room for it; the helper checks the source.
        unsafe { bpf_probe_read_kernel(to.cast(), length, self.address.cast()) == 0 }
    }
}

/// In the memory of the current process.
#[derive(Clone, Copy)]
pub(crate) struct InProcess {
    pub(crate) address: u64,
    pub(crate) length: u32,
}

impl Payload for InProcess {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn available(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn copy(&self, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller has room for it; the helper checks the source.
        unsafe { bpf_probe_read_user(to.cast(), length, self.address as *const _) == 0 }
    }
}

/// In a packet, behind so many bytes of headers.
pub(crate) struct InPacket<'a> {
    pub(crate) ctx: &'a SkBuffContext,
    pub(crate) headers: u32,
}

impl Payload for InPacket<'_> {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.ctx.len().saturating_sub(self.headers)
    }

    #[inline(always)]
    fn available(&self) -> u32 {
        self.length()
    }

    #[inline(always)]
    fn copy(&self, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller has room for it; the helper checks the source.
        unsafe { bpf_skb_load_bytes(self.ctx.skb.skb.cast(), self.headers, to.cast(), length) == 0 }
    }
}

/// Tells of a datagram that was sent or received through `socket`. Of nothing, nothing is told.
#[inline(always)]
pub(crate) fn tell(
    socket: u64,
    received: bool,
    owner: Owner,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    let flags = flags(received, owner);
    choose(
        Through {
            socket,
            flags,
            sequence: 0,
        },
        payload,
        fill,
    );
}

/// The same of a part of a stream, whose first byte has this number; 0 if that is not known.
#[inline(always)]
pub(crate) fn tell_part(
    socket: u64,
    received: bool,
    owner: Owner,
    sequence: u32,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    let flags = flags(received, owner) | DNS_STREAM;
    choose(
        Through {
            socket,
            flags,
            sequence,
        },
        payload,
        fill,
    );
}

/// What a record says beside the ends and the payload.
#[derive(Clone, Copy)]
struct Through {
    socket: u64,
    flags: u16,
    sequence: u32,
}

#[inline(always)]
fn flags(received: bool, owner: Owner) -> u16 {
    let received = if received { FLOW_RECEIVED } else { 0 };
    match owner {
        Owner::Current => received,
        _ => received | FLOW_NO_TASK,
    }
}

/// Takes a record that has the room.
#[inline(always)]
fn choose(
    through: Through,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    if payload.length() == 0 {
        return;
    }
    if payload.available() <= USUAL as u32 {
        output::<USUAL, { USUAL as i32 - 1 }>(through, payload, fill);
    } else {
        output::<DNS_MAX, { DNS_MAX as i32 - 1 }>(through, payload, fill);
    }
}

/// `MASK` is `SIZE`, a power of two, less one: what the verifier has to see.
#[inline(always)]
fn output<const SIZE: usize, const MASK: i32>(
    through: Through,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    let flags = through.flags;
    ring::submit(kind::DNS, flags, |record: *mut Message<SIZE>| {
        // SAFETY: a reserved record.
        unsafe {
            let dns = &raw mut (*record).dns;
            (*dns).socket = through.socket;
            if flags & FLOW_NO_TASK == 0 {
                task::fill_current(&raw mut (*dns).task)?;
            } else {
                (&raw mut (*dns).task).cast::<[u64; 7]>().write([0; 7]);
            }
            fill(&raw mut (*dns).endpoints)?;
            let length = (payload.available() as usize).min(SIZE);
            if length == 0 {
                return None; // Nothing that can be copied.
            }
            (*dns).length = length as u32;
            (*dns).sent_length = payload.length();
            (*dns).sequence = through.sequence;
            (*dns).padding = 0;
            let to = (&raw mut (*record).payload).cast();
            // Neither nothing nor too much, even to who has forgotten all comparisons.
            let copied = bounded::<MASK>(length - 1) + 1;
            payload.copy(to, copied as u32).then_some(())
        }
    });
}
