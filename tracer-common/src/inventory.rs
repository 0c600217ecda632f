//! The inventory: what the kernel's iterators write when the daemon reads them.

use crate::record::Task;

/// [`ExistingTask::flags`]: the init process of a PID namespace.
pub const TASK_IS_INIT: u32 = 1;
/// [`ExistingTask::flags`]: a subreaper, to whom the kernel gives orphans.
pub const TASK_IS_SUBREAPER: u32 = 2;

/// [`ExistingTask::flags`]: the process that reads the iterator.
pub const TASK_IS_READER: u32 = 4;

/// A process that is there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExistingTask {
    /// The leader of its thread group.
    pub task: Task,
    /// `start_boottime` of its present parent, in nanoseconds.
    pub parent_start_ns: u64,
    /// PID of its present parent; 0 for the idle task.
    pub parent_tgid: u32,
    /// [`TASK_IS_INIT`], [`TASK_IS_SUBREAPER`], [`TASK_IS_READER`].
    pub flags: u32,
}

const _: () = assert!(size_of::<ExistingTask>() == 56);
