//! A tracefs to look up tracepoints by name, also where the system has not mounted one.

use std::{fs, io, path::Path, thread};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

const SYSFS: &str = "/sys";
const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs `action` where tracefs is mounted: here, or in a thread with a mount namespace of its own, so
/// that the system's mounts stay as they are.
pub fn in_private_tracefs<T: Send>(action: impl FnOnce() -> T + Send) -> io::Result<T> {
    if is_mounted() {
        return Ok(action());
    }
    thread::scope(|scope| {
        scope
            .spawn(|| {
                mount_privately()?;
                Ok(action())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts tracefs panicked")))
    })
}

fn is_mounted() -> bool {
    // The directory exists in any case, and is empty unless tracefs is mounted there.
    fs::read_dir(Path::new(TRACEFS)).is_ok_and(|mut entries| entries.next().is_some())
}

fn mount_privately() -> io::Result<()> {
    // SAFETY: only this thread's view of the file system is unshared; it shares no descriptor table
    // and ends after the action.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Nothing that is mounted below it from here on shows elsewhere.
    mount_change(SYSFS, MountPropagationFlags::PRIVATE)?;
    mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}
