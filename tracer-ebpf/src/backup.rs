//! Backups: copies of a program at the same hook, each of which acts when those before it were skipped.
//!
//! The kernel skips a program that is entered while the same program is under way on the same CPU
//! (`bpf_prog_get_recursion_context`, include/linux/bpf.h): a softirq interrupts it, or another task
//! preempts it. The next program at the hook is run all the same.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};

use tracer_common::layout::{BACKUPS_IF_PREEMPTED, backed_up};

use crate::kernel::layout::setting;

const SLOTS: u32 = 1 << 14;

/// What has been seen to and not yet been passed by every backup, by a hash of the object. Two
/// objects that share a slot within the nanoseconds from one rank to the next would be told twice.
#[map]
static SEEN_TO: Array<u64> = Array::with_max_entries(SLOTS, 0);

/// How many times a backup acted, by hook: that many skips lost nothing.
#[map]
static BACKED_UP: PerCpuArray<u64> = PerCpuArray::with_max_entries(backed_up::HOOKS, 0);

/// The same at a hook that only tasks enter, where there are backups only if one can preempt another.
#[inline(always)]
pub(crate) fn is_mine_among_tasks<const RANK: u32, const HOOK: u32>(task: *const u8) -> bool {
    setting!(backups) < BACKUPS_IF_PREEMPTED || is_mine::<RANK, HOOK>(task, HOOK as u8)
}

/// Whether the program of this `RANK` (0 is the program itself, 1 its first backup) is the one to act on
/// `change` (one byte) of the kernel's `object`. Every rank at a `HOOK` has to ask, each time that it runs.
#[inline(always)]
pub(crate) fn is_mine<const RANK: u32, const HOOK: u32>(object: *const u8, change: u8) -> bool {
    let distance = distance(object);
    let slot = ((distance >> 6) ^ (distance >> 20)) as u32 & (SLOTS - 1);
    let Some(seen_to) = SEEN_TO.get_ptr_mut(slot) else {
        return true;
    };
    // No two kernel addresses differ in their highest byte alone.
    let mark = (distance << 8) | u64::from(change);
    // SAFETY: an aligned word of the map; whoever else writes it, too, does so with one store.
    let marked = unsafe { seen_to.read_volatile() } == mark;
    let is_mine = RANK == 0 || !marked;
    let next = if RANK == setting!(backups) { 0 } else { mark };
    if is_mine
        && RANK != 0
        && let Some(count) = BACKED_UP.get_ptr_mut(HOOK)
    {
        // SAFETY: this CPU's own counter; atomic, since a softirq may interrupt.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) 1_u64);
        }
    }
    // SAFETY: as above.
    unsafe { seen_to.write_volatile(next) };
    is_mine
}

/// Where the object lies, as a number: the verifier allows no other arithmetic of pointers than the
/// distance of one from another.
#[inline(always)]
fn distance(object: *const u8) -> u64 {
    let mut distance = object as u64;
    // SAFETY: a subtraction.
    unsafe {
        core::arch::asm!("{0} -= {1}", inout(reg) distance, in(reg) &raw const SEEN_TO);
    }
    distance
}
