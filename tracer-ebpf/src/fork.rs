//! A process begins.
//!
//! `TRACE_EVENT(sched_process_fork, TP_PROTO(struct task_struct *parent, struct task_struct *child))`,
//! include/trace/events/sched.h. It fires in the parent, before the child runs for the first time,
//! so that in the ring a process precedes whatever it does. Threads pass here too. `cgroup_post_fork` has
//! by then put the child where it belongs, also with `CLONE_INTO_CGROUP`. From 7.0 on another task's fork can
//! preempt this, and is then seen by a backup.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    layout::backed_up,
    record::{Fork, kind},
};

use crate::{
    backup,
    kernel::{Direct, Source, layout::layout, membership, task},
    ring,
};

macro_rules! entries {
    ($($name:ident = $rank:literal),*) => {$(
        #[btf_tracepoint(function = "sched_process_fork")]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            forked::<$rank>(&ctx)
        }
    )*};
}
entries! { sched_process_fork = 0, sched_process_fork_2 = 1, sched_process_fork_3 = 2 }

#[inline(always)]
fn forked<const RANK: u32>(ctx: &BtfTracePointContext) -> i32 {
    // Also of threads: a skip that a backup has seen lost nothing.
    if !backup::is_mine_among_tasks::<RANK, { backed_up::FORK }>(ctx.arg(1)) {
        return 0;
    }
    let parent = Direct(ctx.arg(0));
    let child = Direct(ctx.arg(1));
    let tgid: Option<u32> = child.load(layout!(task_tgid));
    if tgid != child.load(layout!(task_pid)) {
        return 0;
    }
    ring::submit(kind::FORK, 0, |record: *mut Fork| {
        // SAFETY: a reserved record.
        unsafe {
            task::fill(parent, &raw mut (*record).parent)?;
            (*record).child_tgid = tgid?;
            (*record).padding = 0;
            (*record).child_start_ns = child.load(layout!(task_start_boottime))?;
            membership::fill(child, &raw mut (*record).membership);
        }
        Some(())
    });
    0
}
