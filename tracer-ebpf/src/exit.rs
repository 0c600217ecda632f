//! A process ends: the last of its threads does.
//!
//! `TRACE_EVENT(sched_process_exit, TP_PROTO(struct task_struct *p, …))`,
//! include/trace/events/sched.h. It fires for every thread. `do_exit` has by then decremented
//! `signal->live`, so zero means that no other thread is left; two threads that exit at the same
//! time may both see zero, and user space takes the first. Backups as at a fork.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    layout::backed_up,
    record::{Exit, kind},
};

use crate::{
    backup,
    kernel::{Direct, Source, layout::layout, task},
    ring,
};

macro_rules! entries {
    ($($name:ident = $rank:literal),*) => {$(
        #[btf_tracepoint(function = "sched_process_exit")]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            exited::<$rank>(&ctx)
        }
    )*};
}
entries! { sched_process_exit = 0, sched_process_exit_2 = 1, sched_process_exit_3 = 2 }

#[inline(always)]
fn exited<const RANK: u32>(ctx: &BtfTracePointContext) -> i32 {
    if !backup::is_mine_among_tasks::<RANK, { backed_up::EXIT }>(ctx.arg(0)) {
        return 0;
    }
    let task = Direct(ctx.arg(0));
    let Some(signal) = task.follow(layout!(task_signal)) else {
        return 0;
    };
    if signal.load::<u32>(layout!(signal_live)) != Some(0) {
        return 0;
    }
    ring::submit(kind::EXIT, 0, |record: *mut Exit| {
        let leader = task.follow(layout!(task_group_leader))?;
        let group_status: u32 = signal.load(layout!(signal_group_exit_code))?;
        let leader_status: u32 = leader.load(layout!(task_exit_code))?;
        // SAFETY: a reserved record.
        unsafe {
            task::fill(task, &raw mut (*record).task)?;
            // As wait(2) decides, except that a group's code of zero falls through: then the
            // leader's is zero as well.
            (*record).status = if group_status != 0 {
                group_status
            } else {
                leader_status
            };
            (*record).padding = 0;
        }
        Some(())
    });
    0
}
