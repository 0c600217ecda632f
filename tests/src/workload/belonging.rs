//! Processes that change what they belong to: cgroup, login, terminal, namespaces. A command among the
//! arguments is a program and its arguments.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::json;

use super::{cloning, tell, word};

/// include/uapi/linux/sched.h, since 5.7; libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The first argument, and the command that is the rest.
fn split(arguments: &[OsString]) -> Result<(&OsString, Command)> {
    let [first, program, arguments @ ..] = arguments else {
        bail!("an argument and a command are missing")
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok((first, command))
}

/// Moves to a cgroup and becomes a command. Arguments: the cgroup's directory, and the command.
pub(super) fn enter_cgroup(arguments: &[OsString]) -> Result<()> {
    let (directory, mut command) = split(arguments)?;
    fs::write(Path::new(directory).join("cgroup.procs"), "0").context("moving to the cgroup")?;
    Err(command.exec()).context("exec")
}

/// Makes a child right in a cgroup of version 2, which exits with 3. Argument: its directory. Fact:
/// `{"child": PID}`.
pub(super) fn clone_into_cgroup(arguments: &[OsString]) -> Result<()> {
    let directory = File::open(word(arguments, 0)?)?;
    let mut clone = cloning::arguments();
    clone.flags = CLONE_INTO_CGROUP;
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.cgroup = directory.as_raw_fd() as u64;
    let Some(child) = cloning::clone3(&clone).context("clone3")? else {
        cloning::leave(3)
    };
    cloning::reap_all()?;
    tell(&json!({"child": child}))
}

/// Runs a child in new namespaces to its end. Arguments: `pid` or `user`, and the child's command. Fact:
/// `{"child": PID}`.
pub(super) fn in_namespace(arguments: &[OsString]) -> Result<()> {
    let (kind, mut command) = split(arguments)?;
    let flag = match kind.to_str() {
        Some("pid") => UnshareFlags::NEWPID,
        Some("user") => UnshareFlags::NEWUSER,
        _ => bail!("pid or user"),
    };
    // SAFETY: neither changes anything that this process relies on.
    unsafe { unshare_unsafe(flag) }.context("a namespace needs CAP_SYS_ADMIN")?;
    let mut child = command.spawn()?;
    ensure!(child.wait()?.success(), "the child failed");
    tell(&json!({"child": child.id()}))
}

/// Becomes a command that is logged in: of this user where the kernel has audit, in a session and on a terminal
/// of its own. Arguments: the user's ID, and the command. Fact: `{"login_uid", "session_id", "tty":
/// DEVICE}`, as /proc has them; null where it has not.
pub(super) fn log_in(arguments: &[OsString]) -> Result<()> {
    let (user, mut command) = split(arguments)?;
    let read = |name| fs::read_to_string(format!("/proc/self/{name}")).ok();
    if read("loginuid").is_some() {
        let user = user.to_str().context("UTF-8")?;
        fs::write("/proc/self/loginuid", user).context("logging in needs CAP_AUDIT_CONTROL")?;
    }
    setsid()?;
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&control)?;
    unlockpt(&control)?;
    let name = ptsname(&control, Vec::new())?;
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str()?)?;
    ioctl_tiocsctty(&terminal)?;
    let number = |name| read(name).and_then(|text| text.parse::<u32>().ok());
    let stat = read("stat").context("/proc is mounted")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let device: Option<u64> = fields
        .split(' ')
        .nth(5)
        .and_then(|field| field.parse().ok());
    tell(&json!({
        "login_uid": number("loginuid"),
        "session_id": number("sessionid"),
        "tty": device.context("field 7 of stat")?,
    }))?;
    // The terminal hangs up when its other end is closed: this one is for the command, too.
    rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::empty())?;
    Err(command.exec()).context("exec")
}
