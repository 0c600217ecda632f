//! Who is current, or who a hook speaks of.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};
use tracer_common::{
    layout::{CGROUP_TASK_BTF, CGROUP_TASK_POINTER},
    record::{TASK_IDS_ONLY, TASK_KERNEL_THREAD, Task},
};

use super::{
    layout::{layout, setting},
    source::{Direct, Remote, Source},
};

/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Fills in the current task from a tracing program.
#[inline(always)]
pub(crate) fn fill_current(to: *mut Task) -> Option<()> {
    // SAFETY: both helpers return the current task, which lives as long as this program runs.
    unsafe {
        if setting!(task_btf) == 1 {
            fill(Direct(bpf_get_current_task_btf().cast()), to)
        } else {
            fill(Remote(bpf_get_current_task() as *const u8), to)
        }
    }
}

/// Fills in the current task from a cgroup program, to which older kernels refuse the task.
#[inline(always)]
pub(crate) fn fill_current_in_cgroup(to: *mut Task) -> Option<()> {
    // SAFETY: as in `fill_current`; `to` is a reserved record.
    unsafe {
        match setting!(cgroup_task) {
            CGROUP_TASK_BTF => fill(Direct(bpf_get_current_task_btf().cast()), to),
            CGROUP_TASK_POINTER => fill(Remote(bpf_get_current_task() as *const u8), to),
            _ => {
                let ids = bpf_get_current_pid_tgid();
                (*to).tgid = (ids >> 32) as u32;
                (*to).tid = ids as u32;
                (*to).start_ns = 0;
                (*to).euid = 0;
                (*to).flags = TASK_IDS_ONLY;
                (*to).parent_start_ns = 0;
                (*to).parent_tgid = 0;
                (*to).padding = 0;
                (*to).comm = bpf_get_current_comm().ok()?;
                Some(())
            }
        }
    }
}

/// Fills in `task`; name and start time are those of its thread group's leader, as for its parent.
#[inline(always)]
pub(crate) fn fill(task: impl Source, to: *mut Task) -> Option<()> {
    let leader = task.follow(layout!(task_group_leader))?;
    let credentials = task.follow(layout!(task_cred))?;
    let flags: u32 = task.load(layout!(task_flags))?;
    // A thread, if that forked it.
    let parent = task.follow(layout!(task_real_parent))?;
    let parent_leader = parent.follow(layout!(task_group_leader))?;
    let comm = layout!(task_comm);
    // SAFETY: `to` points to a reserved record.
    unsafe {
        (*to).tgid = task.load(layout!(task_tgid))?;
        (*to).tid = task.load(layout!(task_pid))?;
        (*to).start_ns = leader.load(layout!(task_start_boottime))?;
        (*to).euid = credentials.load(layout!(cred_euid))?;
        (*to).flags = if flags & PF_KTHREAD != 0 {
            TASK_KERNEL_THREAD
        } else {
            0
        };
        let name = (&raw mut (*to).comm).cast::<u64>();
        name.write(leader.load(comm)?);
        name.add(1).write(leader.load(comm + 8)?);
        (*to).parent_start_ns = parent_leader.load(layout!(task_start_boottime))?;
        (*to).parent_tgid = parent.load(layout!(task_tgid))?;
        (*to).padding = 0;
    }
    Some(())
}
