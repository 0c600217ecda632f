//! What is sent to port 53, and comes from there.
//!
//! The hooks on datagrams hand it on; it is understood in user space.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use tracer_common::record::{DNS_MAX, Dns, Endpoints, FLOW_NO_TASK, FLOW_RECEIVED, kind};

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

/// Tells what was sent or received through `socket`. Of nothing, nothing is told.
#[inline(always)]
pub(crate) fn tell(
    socket: u64,
    received: bool,
    owner: Owner,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    let flags = if received { FLOW_RECEIVED } else { 0 }
        | if owner == Owner::Current {
            0
        } else {
            FLOW_NO_TASK
        };
    if payload.length() == 0 {
        return;
    }
    if payload.available() <= USUAL as u32 {
        output::<USUAL, { USUAL as i32 - 1 }>(socket, flags, payload, fill);
    } else {
        output::<DNS_MAX, { DNS_MAX as i32 - 1 }>(socket, flags, payload, fill);
    }
}

/// `MASK` is `SIZE`, a power of two, less one: what the verifier has to see.
#[inline(always)]
fn output<const SIZE: usize, const MASK: i32>(
    socket: u64,
    flags: u16,
    payload: &impl Payload,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    ring::submit(kind::DNS, flags, |record: *mut Message<SIZE>| {
        // SAFETY: a reserved record.
        unsafe {
            let dns = &raw mut (*record).dns;
            (*dns).socket = socket;
            if flags & FLOW_NO_TASK == 0 {
                task::fill_current(&raw mut (*dns).task)?;
            } else {
                (&raw mut (*dns).task).cast::<[u64; 7]>().write([0; 7]);
            }
            fill(&raw mut (*dns).endpoints)?;
            let available = (payload.available() as usize).min(SIZE);
            if available == 0 {
                return None;
            }
            // Before 6.3 the verifier learns nothing from a comparison with 0.
            let length = bounded::<MASK>(available - 1) + 1;
            (*dns).length = length as u32;
            (*dns).sent_length = payload.length();
            let to = (&raw mut (*record).payload).cast();
            payload.copy(to, length as u32).then_some(())
        }
    });
}
