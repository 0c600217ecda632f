//! Processes that open sockets which can see or forge traffic, or are refused them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail, ensure};
use io_uring::opcode;
use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, set_thread_uid, unshare_unsafe};
use serde_json::json;

use super::uring::Ring;
use super::{tell, word};

/// The obsolete way to a packet socket, which the kernel takes for one.
const SOCK_PACKET: i32 = 10;

/// A user who may open no raw socket.
const NOBODY: u32 = 65534;

/// Why this kernel opens no socket through io_uring, if it does not.
pub fn refusal_of_io_uring() -> Option<anyhow::Error> {
    open_through_io_uring().err()
}

/// Opens and closes, in this order, what tests/kernel/raw_sockets.rs lists. Argument: `here` or `elsewhere`,
/// in a network namespace of its own. Fact: `{"netns"}`.
pub(super) fn open(arguments: &[OsString]) -> Result<()> {
    match word(arguments, 0)? {
        "here" => {}
        // SAFETY: nothing of this process depends on its network namespace.
        "elsewhere" => unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?,
        other => bail!("no such place: {other}"),
    }
    let network_order = |ether_type: i32| i32::from((ether_type as u16).to_be());
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, socket_type, protocol) in [
        (AF_INET, SOCK_RAW, libc::IPPROTO_ICMP),
        (AF_INET, SOCK_DGRAM, 0),
        (AF_INET6, SOCK_RAW | flags, libc::IPPROTO_ICMPV6),
        (AF_INET, SOCK_STREAM, 0),
        (AF_INET, SOCK_RAW, libc::IPPROTO_TCP),
        (AF_INET6, SOCK_RAW, 200),
        (AF_UNIX, SOCK_RAW, 0),
        (AF_NETLINK, SOCK_RAW, 0),
        (AF_PACKET, SOCK_RAW | flags, network_order(libc::ETH_P_ALL)),
        (AF_PACKET, SOCK_DGRAM, network_order(libc::ETH_P_ARP)),
        (AF_PACKET, SOCK_RAW, 0),
        (AF_INET, SOCK_PACKET, network_order(libc::ETH_P_IP)),
    ] {
        socket(family, socket_type, protocol)
            .with_context(|| format!("socket({family}, {socket_type}, {protocol})"))?;
    }
    tell(&json!({"netns": fs::metadata("/proc/self/ns/net")?.ino()}))
}

/// Asks in vain, at last as a user who may not. Fact: `{}`.
pub(super) fn refused(_: &[OsString]) -> Result<()> {
    expect_errno(socket(AF_INET, SOCK_RAW, 0), libc::EPROTONOSUPPORT)?;
    expect_errno(socket(AF_PACKET, SOCK_STREAM, 0), libc::ESOCKTNOSUPPORT)?;
    set_thread_uid(Uid::from_raw(NOBODY))?;
    expect_errno(socket(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP), libc::EPERM)?;
    expect_errno(socket(AF_PACKET, SOCK_RAW, 0), libc::EPERM)?;
    socket(AF_INET, SOCK_DGRAM, 0)?;
    tell(&json!({}))
}

/// Asks for sockets that the kernel makes and does not hand out: two of a pair, and one without a descriptor. Fact:
/// `{}`.
pub(super) fn not_handed_out(_: &[OsString]) -> Result<()> {
    let mut pair = [0; 2];
    // SAFETY: there is room for two descriptors.
    let result =
        unsafe { libc::socketpair(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP, pair.as_mut_ptr()) };
    let error = io::Error::last_os_error();
    ensure!(result < 0, "a pair of raw sockets");
    expect_errno(Err(error), libc::EOPNOTSUPP)?;
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    setrlimit(Resource::Nofile, none)?;
    expect_errno(socket(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP), libc::EMFILE)?;
    setrlimit(Resource::Nofile, limit)?;
    tell(&json!({}))
}

/// Opens one for ICMP through io_uring. Fact: `{}`.
pub(super) fn through_io_uring(_: &[OsString]) -> Result<()> {
    open_through_io_uring()?;
    tell(&json!({}))
}

fn open_through_io_uring() -> Result<()> {
    let operation = opcode::Socket::new(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP).build();
    // SAFETY: the operation points to nothing.
    let descriptor = unsafe { Ring::new("plain")?.run(operation) }?;
    ensure!(descriptor >= 0, io::Error::from_raw_os_error(-descriptor));
    // SAFETY: it has just been made, and nobody else knows of it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

fn socket(family: i32, socket_type: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: it takes three numbers.
    let descriptor = unsafe { libc::socket(family, socket_type, protocol) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn expect_errno(opened: io::Result<OwnedFd>, errno: i32) -> Result<()> {
    match opened {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => Err(error).context("refused for another reason"),
        Ok(socket) => bail!("not refused: {}", socket.as_raw_fd()),
    }
}
