//! The inventory: what the kernel's iterators write when the daemon reads them.

use crate::record::{Close, Endpoints, Membership, Task};

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
    /// [`TASK_IS_INIT`], [`TASK_IS_SUBREAPER`], [`TASK_IS_READER`].
    pub flags: u32,
    /// Always zero.
    pub padding: u32,
    /// What it belongs to.
    pub membership: Membership,
}

/// A TCP or UDP socket that a process has open. One that is open several times is told several times, and
/// a Multipath TCP one once for each of its subflows, of which all but one have
/// [`CLOSE_FURTHER`](crate::record::CLOSE_FURTHER).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeldSocket {
    /// What its close would tell now; `old_state` is the state that it is in. UDP has no totals. Its time is that of the
    /// look, after all of it was read.
    pub close: Close,
    /// Who has it open.
    pub holder: Task,
    /// Under which number.
    pub descriptor: u32,
    /// Always zero.
    pub padding: u32,
    /// Inode number of the socket's file, by which /proc names it.
    pub inode: u64,
    /// For a Multipath TCP subflow the address of the upper socket, whose file it is; otherwise 0.
    pub upper: u64,
}

/// How many sockets can be examined in one walk.
pub const EXAMINED_MAX: u32 = 4096;

/// What lies where a socket was that the daemon asked about.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExaminedSocket {
    /// Address of the `struct sock`, as asked for.
    pub socket: u64,
    /// Both ends of the TCP socket that is there; all zeros if there is none or it is closed.
    pub endpoints: Endpoints,
}

const _: () = {
    assert!(size_of::<ExistingTask>() == 112);
    assert!(size_of::<HeldSocket>() == 192);
    assert!(size_of::<ExaminedSocket>() == 56);
};
