//! Children without exec: what the standard library has no way for. The caller has one thread, or others that wait.

use std::ffi::CStr;
use std::io;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, wait};
use rustix::thread::set_name;

/// What clone3 is to do; nothing yet.
pub(super) fn arguments() -> libc::clone_args {
    // SAFETY: all its members are numbers.
    unsafe { std::mem::zeroed() }
}

/// Makes a child that is no thread and shares no memory. The child's PID, or `None` in the child.
pub(super) fn clone3(arguments: &libc::clone_args) -> io::Result<Option<u32>> {
    const SHARED: u64 = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
    assert_eq!(arguments.flags & SHARED, 0, "it would need its own stack");
    let arguments = &raw const *arguments;
    // SAFETY: without CLONE_VM it is a fork of this thread, and what it points to outlives the call.
    let child = unsafe { libc::syscall(libc::SYS_clone3, arguments, size_of_val(&*arguments)) };
    told(child)
}

/// Makes a child as fork(2) does. The child's PID, or `None` in the child.
pub(super) fn fork() -> io::Result<Option<u32>> {
    // SAFETY: no other thread of a workload holds a lock meanwhile.
    told(unsafe { libc::fork() }.into())
}

fn told(child: i64) -> io::Result<Option<u32>> {
    match u32::try_from(child) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(None),
        Ok(child) => Ok(Some(child)),
    }
}

/// Ends this process without anything that its parent's memory had in store for the end.
pub(super) fn leave(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

/// Ends a child that has done what it was made for.
pub(super) fn end(result: &Result<()>) -> ! {
    if let Err(error) = result {
        eprintln!("process {}: {error:#}", std::process::id());
    }
    leave(result.is_err().into())
}

/// Waits for a child to end, and tells how it did; `None` if there is none left.
pub(super) fn reap() -> io::Result<Option<WaitStatus>> {
    match wait(WaitOptions::empty()) {
        Ok(ended) => Ok(ended.map(|(_, status)| status)),
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for all children, and for those that come to this process from children that end.
pub(super) fn reap_all() -> io::Result<()> {
    while reap()?.is_some() {}
    Ok(())
}

/// Waits until a process has ended, and its children have another parent.
pub(super) fn await_end(pid: Pid) -> io::Result<()> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?,
        // It has even been waited for; before 6.15 the latter, if that is just being done.
        Err(Errno::SRCH | Errno::INVAL) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    Ok(())
}

/// Names this thread; of a single-threaded process, the process.
pub(super) fn rename(name: &CStr) -> io::Result<()> {
    Ok(set_name(name)?)
}
