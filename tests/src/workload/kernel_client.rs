//! A connection that the kernel makes for itself: that of a file system over NFS.

use std::ffi::{CStr, CString, OsString};
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};
use serde_json::json;

use super::failing::LOOPBACK;
use super::tell;

const TYPE: &CStr = c"nfs4";

/// Whether this kernel has such a file system.
pub fn is_offered() -> bool {
    let types = std::fs::read_to_string("/proc/filesystems").expect("/proc is mounted");
    types
        .split_ascii_whitespace()
        .any(|word| word.as_bytes() == TYPE.to_bytes())
}

/// Mounts a file system from a server that says nothing, and gives up as soon as the kernel has connected.
/// Fact: `{"port", "local"}`.
pub(super) fn mount(_: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let port = listener.local_addr()?.port();
    let target = tempfile::tempdir()?;
    let directory = CString::new(target.path().as_os_str().as_encoded_bytes())?;
    // SAFETY: a workload has a single thread until it starts one, and this one has started none.
    let mounting = match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error()).context("fork"),
        0 => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            return ask(&directory, port);
        }
        child => Pid::from_raw(child).context("a child has a PID")?,
    };
    let (connection, initiator) = listener.accept()?;
    kill_process(mounting, Signal::KILL)?;
    waitpid(Some(mounting), WaitOptions::empty())?;
    drop(connection);
    tell(&json!({"port": port, "local": initiator.port()}))
}

/// Waits for a mount that will not come about.
fn ask(directory: &CStr, port: u16) -> Result<()> {
    let options =
        format!("vers=4.0,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1,port={port},soft");
    let options = CString::new(options)?;
    // SAFETY: strings that live until the call returns.
    let result = unsafe {
        let source = c"127.0.0.1:/";
        let (directory, options) = (directory.as_ptr(), options.as_ptr());
        libc::mount(source.as_ptr(), directory, TYPE.as_ptr(), 0, options.cast())
    };
    ensure!(result == -1, "there is nothing to mount");
    Err(std::io::Error::last_os_error()).context("mount")
}
