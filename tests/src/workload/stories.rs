//! What the stories of SCENARIOS.md are about: a sensor that knocks, a back door, a program that scans.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::json;

use super::{command, parsed, tell};

/// Addresses of a network that exists in the workload's own namespace alone.
const NETWORK: &str = "192.0.2.1/24";

/// Starts a process that connects, and another, by the clock. Arguments: how many, after how many milliseconds each,
/// and to which address of the network. Fact: `{"pids": […]}`.
pub(super) fn beacon(arguments: &[OsString]) -> Result<()> {
    let count: u32 = parsed(arguments, 0)?;
    let period = Duration::from_millis(parsed(arguments, 1)?);
    let address: SocketAddr = parsed(arguments, 2)?;
    enter_network()?;
    let begin = Instant::now();
    let mut pids = Vec::new();
    for index in 0..count {
        // A timer is what this is about.
        thread::sleep((begin + period * index).saturating_duration_since(Instant::now()));
        let mut child = command("knock", &[&address.to_string()]).spawn()?;
        pids.push(child.id());
        ensure!(child.wait()?.success(), "it cannot knock");
    }
    tell(&json!({"pids": pids}))
}

/// Connects once, whether somebody listens or not. Argument: where to.
pub(super) fn knock(arguments: &[OsString]) -> Result<()> {
    let _ = TcpStream::connect(parsed::<SocketAddr>(arguments, 0)?);
    Ok(())
}

/// Tries a port of several hosts, at none of which anybody listens. Arguments: the port, and how many. Fact: `{}`.
pub(super) fn scan(arguments: &[OsString]) -> Result<()> {
    let port: u16 = parsed(arguments, 0)?;
    let count: u8 = parsed(arguments, 1)?;
    enter_network()?;
    for host in 0..count {
        ensure!(
            TcpStream::connect(SocketAddr::from(([192, 0, 2, 10 + host], port))).is_err(),
            "somebody listens"
        );
    }
    tell(&json!({}))
}

/// Listens, and hands a shell to whoever connects. Fact: `{"port"}`.
pub(super) fn back_door(_: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(&json!({"port": listener.local_addr()?.port()}))?;
    let stream = OwnedFd::from(listener.accept()?.0);
    let mut shell = Command::new("sh")
        .stdin(Stdio::from(stream.try_clone()?))
        .stdout(Stdio::from(stream))
        .spawn()
        .context("there is a shell")?;
    ensure!(shell.wait()?.success(), "the shell failed");
    Ok(())
}

/// A network namespace in which all addresses of [`NETWORK`] are there.
fn enter_network() -> Result<()> {
    // SAFETY: nothing of this process relies on its network namespace.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace needs CAP_SYS_ADMIN")?;
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", NETWORK, "dev", "lo"],
    ] {
        let status = Command::new("ip").args(arguments).status()?;
        ensure!(status.success(), "ip {}", arguments.join(" "));
    }
    Ok(())
}
