//! What the tracepoints at both ends of a system call say.
//!
//! In: the context of `sys_enter_*` (`struct syscall_trace_enter`) or `sys_exit_*` (`struct syscall_trace_exit`),
//! kernel/trace/trace.h. Out: an argument, or the return value. In both a common header of 8 bytes and the number of the
//! system call come first.

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};

const ARGUMENTS: usize = 16;
const RETURN_VALUE: usize = 16;

/// An argument, as its register had it.
#[inline(always)]
pub(crate) fn argument<const INDEX: usize>(ctx: &TracePointContext) -> u64 {
    read::<u64>(ctx, ARGUMENTS + INDEX * size_of::<u64>())
}

/// The return value: negative for an error.
#[inline(always)]
pub(crate) fn returned(ctx: &TracePointContext) -> i64 {
    read::<i64>(ctx, RETURN_VALUE)
}

#[inline(always)]
fn read<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: the verifier checks the access against the tracepoint's size.
    unsafe { ctx.as_ptr().cast::<u8>().add(offset).cast::<T>().read() }
}
