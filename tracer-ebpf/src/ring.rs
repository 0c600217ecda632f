//! The way out: one ring buffer for every program, and a count of what did not fit.
//!
//! One ring, since the order of reservation is then a total order over all CPUs. A record that
//! cannot be reserved or filled is counted at once, by kind.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use tracer_common::record::{Header, kind};

/// Size by default; the loader may choose another.
const RING_BYTES: u32 = 32 << 20;

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

#[map]
static LOST: PerCpuArray<[u64; kind::COUNT]> = PerCpuArray::with_max_entries(1, 0);

/// Reserves a record, lets `fill` write what follows the header, and submits it.
#[inline(always)]
pub(crate) fn submit<T: 'static>(kind: u16, flags: u16, fill: impl FnOnce(*mut T) -> Option<()>) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return lost(kind);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: every record begins with a header.
    unsafe { write_header(record.cast(), kind, flags) };
    match fill(record) {
        Some(()) => entry.submit(0),
        None => {
            entry.discard(0);
            lost(kind);
        }
    }
}

/// Writes the header of a record.
///
/// # Safety
/// `to` must point to writable memory for a header.
#[inline(always)]
pub(crate) unsafe fn write_header(to: *mut Header, kind: u16, flags: u16) {
    // SAFETY: by the caller's promise; the helper has no preconditions.
    unsafe {
        (*to).kind = kind;
        (*to).flags = flags;
        (*to).padding = 0;
        (*to).time_ns = bpf_ktime_get_boot_ns();
    }
}

/// Counts a record that was lost.
#[inline(always)]
pub(crate) fn lost(kind: u16) {
    if let Some(counters) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's own counter of a kind below `COUNT`. Atomic, since a program in softirq
        // may interrupt this one; not fetching, which 5.10 does not know.
        unsafe {
            let counter = &raw mut (*counters)[kind as usize];
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64);
        }
    }
}
