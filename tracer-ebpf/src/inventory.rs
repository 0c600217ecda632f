//! What was there before: a walk over all tasks, of all namespaces, started by user space.
//!
//! `iter/task`, kernel/bpf/task_iter.c, since 5.8. Reading the iterator's file runs this program
//! once for each task and yields what it writes.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write};
use tracer_common::inventory::{ExistingTask, TASK_IS_INIT, TASK_IS_READER, TASK_IS_SUBREAPER};

use crate::kernel::{
    Direct, Source,
    layout::{layout, setting},
    source::read_remote,
    task,
};

/// `SIGNAL_UNKILLABLE`, include/linux/sched/signal.h: the init of a PID namespace.
const SIGNAL_UNKILLABLE: u32 = 0x40;

/// `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const u8,
}

/// The beginning of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn existing_tasks(ctx: *const Context) -> i32 {
    // SAFETY: the verifier knows the context's type.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if !task.is_null() {
        // SAFETY: as above.
        let _ = tell(unsafe { (*meta).seq }, Direct(task));
    }
    0
}

#[inline(always)]
fn tell(seq: *mut c_void, task: Direct) -> Option<()> {
    let tgid: u32 = task.load(layout!(task_tgid))?;
    if task.load::<u32>(layout!(task_pid))? != tgid {
        return None; // Not a process but one of its further threads.
    }
    let parent = task.follow(layout!(task_real_parent))?;
    let parent_leader = parent.follow(layout!(task_group_leader))?;
    let signal = task.follow(layout!(task_signal))?;
    let mut record = MaybeUninit::<ExistingTask>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: `to` points to a record on the stack, filled in completely; `seq` is the iterator's.
    unsafe {
        task::fill(task, &raw mut (*to).task)?;
        (*to).parent_start_ns = parent_leader.load(layout!(task_start_boottime))?;
        (*to).parent_tgid = parent.load(layout!(task_tgid))?;
        let mut flags = 0;
        if signal.load::<u32>(layout!(signal_flags))? & SIGNAL_UNKILLABLE != 0 {
            flags |= TASK_IS_INIT;
        }
        let byte = signal.0.wrapping_add(setting!(subreaper_byte) as usize);
        if u32::from(read_remote::<u8>(byte)?) & setting!(subreaper_mask) != 0 {
            flags |= TASK_IS_SUBREAPER;
        }
        if (bpf_get_current_pid_tgid() >> 32) as u32 == tgid {
            flags |= TASK_IS_READER;
        }
        (*to).flags = flags;
        bpf_seq_write(seq.cast(), to.cast(), size_of::<ExistingTask>() as u32);
    }
    Some(())
}
