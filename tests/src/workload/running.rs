//! Processes that only begin and end, and one that begins another in poor surroundings.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::json;

use super::{parsed, tell, wait_for_go};

/// Ends with a status. Arguments: the status, then whatever is to be seen in the arguments.
pub(super) fn exit(arguments: &[OsString]) -> Result<()> {
    std::process::exit(parsed(arguments, 0)?)
}

/// Waits for a go or a signal. Fact: `{}` when it begins to wait.
pub(super) fn wait(_: &[OsString]) -> Result<()> {
    tell(&json!({}))?;
    wait_for_go()
}

/// Becomes a command for which one file or directory is in the place of another. Arguments: what, where, and
/// the command.
pub(super) fn with_mount(arguments: &[OsString]) -> Result<()> {
    let [what, place, program, arguments @ ..] = arguments else {
        anyhow::bail!("what to mount, where, and a command are missing")
    };
    // SAFETY: a new mount namespace also unshares the working directory, which no other thread
    // of this single-threaded process relies on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .context("a mount namespace needs CAP_SYS_ADMIN")?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount_bind(what, place)?;
    Err(Command::new(program).args(arguments).exec()).context("exec")
}
