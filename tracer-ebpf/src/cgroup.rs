//! Cgroups are made and removed, processes are moved between them.
//!
//! `cgroup_mkdir(struct cgroup *cgrp, const char *path)`, `cgroup_rmdir` likewise, and
//! `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task,
//! bool threadgroup)`, include/trace/events/cgroup.h, since 4.13. A cgroup is told before anyone can enter
//! it, and a move after it has been made, so that in the ring a path precedes whoever is there. The path
//! begins at the root of the hierarchy, whatever the cgroup namespaces are.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tracer_common::record::{
    CGROUP_PATH_MAX, CgroupAttach, CgroupId, CgroupMkdir, CgroupRmdir, kind,
};

use crate::{
    kernel::{
        Direct, Source,
        layout::{layout, setting},
        membership,
        source::read_remote,
    },
    ring,
};

#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let Some(cgroup) = counting(Direct(ctx.arg(0))) else {
        return 0;
    };
    ring::submit(kind::CGROUP_MKDIR, 0, |record: *mut CgroupMkdir| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).cgroup = cgroup;
            write_path(&ctx, (&raw mut (*record).path).cast())
        }
    });
    0
}

#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    let Some(cgroup) = counting(Direct(ctx.arg(0))) else {
        return 0;
    };
    ring::submit(kind::CGROUP_RMDIR, 0, |record: *mut CgroupRmdir| {
        // SAFETY: a reserved record.
        unsafe { (*record).cgroup = cgroup };
        Some(())
    });
    0
}

#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    let Some(entered) = counting(Direct(ctx.arg(0))) else {
        return 0;
    };
    let task = Direct(ctx.arg(2));
    let tgid: Option<u32> = task.load(layout!(task_tgid));
    // A thread that is moved alone does not take its process along.
    if tgid != task.load(layout!(task_pid)) {
        return 0;
    }
    ring::submit(kind::CGROUP_ATTACH, 0, |record: *mut CgroupAttach| {
        let current = membership::cgroup_id(task)?;
        // SAFETY: a reserved record.
        unsafe {
            (*record).cgroup = current;
            (*record).start_ns = task.load(layout!(task_start_boottime))?;
            (*record).tgid = tgid?;
            (*record).padding = 0;
            let path = (&raw mut (*record).path).cast::<u8>();
            if current.node == entered.node && current.hierarchy == entered.hierarchy {
                write_path(&ctx, path)
            } else {
                path.write(0);
                Some(())
            }
        }
    });
    0
}

/// Which cgroup it is, if it is in a hierarchy that counts.
#[inline(always)]
fn counting(cgroup: Direct) -> Option<CgroupId> {
    let id = membership::id(cgroup)?;
    (id.hierarchy == 0 || id.hierarchy == setting!(cgroup_v1_hierarchy)).then_some(id)
}

/// Writes the path, the second argument. It is read from the context as memory, since 5.10 refuses
/// arguments that point to no structure.
///
/// # Safety
/// `to` must be writable for a path.
#[inline(always)]
unsafe fn write_path(ctx: &BtfTracePointContext, to: *mut u8) -> Option<()> {
    let argument = ctx.as_ptr().cast::<u8>().wrapping_add(size_of::<u64>());
    let path: *const u8 = read_remote(argument)?;
    // SAFETY: by the caller's promise; the helper checks the source.
    let length =
        unsafe { bpf_probe_read_kernel_str(to.cast(), CGROUP_PATH_MAX as u32, path.cast()) };
    (length > 0).then_some(())
}
