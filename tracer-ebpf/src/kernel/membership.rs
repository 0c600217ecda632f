//! What a process belongs to: cgroup, login, terminal, namespaces.

use tracer_common::record::{CgroupId, MEMBERSHIP_USER_NAMESPACE, Membership, UNSET};

use super::{
    layout::{layout, setting},
    path::bounded,
    source::{Direct, Source, read_remote},
};

/// Size of `struct upid`, include/linux/pid.h.
const UPID: usize = 16;
/// Not below `MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h.
const LEVEL_MASK: i32 = 0x3f;

const NO_CGROUP: CgroupId = CgroupId {
    node: 0,
    hierarchy: 0,
    padding: 0,
};

/// Fills in what `task`, the leader of its thread group, belongs to.
///
/// # Safety
/// `to` must point to writable memory for it.
#[inline(always)]
pub(crate) unsafe fn fill(task: Direct, to: *mut Membership) {
    let flags = match user_namespace_level(task) {
        Some(0) => 0,
        _ => MEMBERSHIP_USER_NAMESPACE,
    };
    // SAFETY: by the caller's promise.
    unsafe {
        (*to).cgroup = cgroup_id(task).unwrap_or(NO_CGROUP);
        (*to).root = root(task).unwrap_or(0);
        (*to).login_uid = audit(task, setting!(task_loginuid));
        (*to).session_id = audit(task, setting!(task_sessionid));
        (*to).tty = tty(task).unwrap_or(0);
        (*to).namespace_pid = namespace_pid(task).unwrap_or(0);
        (*to).flags = flags;
        (*to).padding = 0;
    }
}

/// The cgroup of a task in the hierarchy that counts for it.
#[inline(always)]
pub(crate) fn cgroup_id(task: Direct) -> Option<CgroupId> {
    let set = task.follow(layout!(task_cgroups))?;
    let state = setting!(cgroup_v1_css);
    if state != 0 {
        let cgroup = set.follow(state)?.follow(layout!(css_cgroup))?;
        if cgroup.load::<u32>(layout!(cgroup_level))? != 0 {
            return id(cgroup);
        }
    }
    id(set.follow(layout!(css_set_dfl_cgrp))?)
}

/// Which cgroup it is.
#[inline(always)]
pub(crate) fn id(cgroup: Direct) -> Option<CgroupId> {
    let node = cgroup.follow(layout!(cgroup_kn))?;
    let root = cgroup.follow(layout!(cgroup_root))?;
    Some(CgroupId {
        node: node.load(layout!(kernfs_node_id))?,
        hierarchy: root.load(layout!(cgroup_root_hierarchy_id))?,
        padding: 0,
    })
}

#[inline(always)]
fn user_namespace_level(task: Direct) -> Option<u32> {
    task.follow(layout!(task_cred))?
        .follow(layout!(cred_user_ns))?
        .load(layout!(user_namespace_level))
}

/// Kernel threads and processes that are about to end have none.
#[inline(always)]
fn root(task: Direct) -> Option<u64> {
    task.follow(layout!(task_fs))?.load(layout!(fs_root_dentry))
}

/// A member that kernels without audit lack.
#[inline(always)]
fn audit(task: Direct, offset: u32) -> u32 {
    if offset == 0 {
        return UNSET;
    }
    task.load(offset).unwrap_or(UNSET)
}

/// `tty_devnum`, include/linux/tty.h.
#[inline(always)]
fn tty(task: Direct) -> Option<u32> {
    let tty = task
        .follow(layout!(task_signal))?
        .follow(layout!(signal_tty))?;
    let driver = tty.follow(layout!(tty_driver))?;
    let major: u32 = driver.load(layout!(tty_driver_major))?;
    let first: u32 = driver.load(layout!(tty_driver_minor_start))?;
    let index: u32 = tty.load(layout!(tty_index))?;
    Some(major << 20 | first.wrapping_add(index))
}

/// PID in the task's own PID namespace, unless that is the initial one.
#[inline(always)]
fn namespace_pid(task: Direct) -> Option<u32> {
    let pid = task.follow(layout!(task_thread_pid))?;
    let level: u32 = pid.load(layout!(pid_level))?;
    if level == 0 {
        return None;
    }
    let number = bounded::<LEVEL_MASK>(level as usize) * UPID;
    read_remote(
        pid.0
            .wrapping_add(layout!(pid_numbers) as usize)
            .wrapping_add(number),
    )
}
