//! An attempt that the network answers with "host unreachable", on loopback: the process forges the
//! answer itself, from the SYN that it sees go by.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv,
    sendto, socket_with, sockopt,
};
use serde_json::json;

use super::failing::{Full, local_port, tcp};
use super::tell;

/// `ICMP_DEST_UNREACH` and `ICMP_HOST_UNREACH`, include/uapi/linux/icmp.h.
const HOST_UNREACHABLE: [u8; 2] = [3, 1];

/// The SYN is sent again after a second, so this is long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Is told by a router that there is no such host. Fact: `{"port", "local", "errno"}`.
pub(super) fn told(_: &[OsString]) -> Result<()> {
    let full = Full::listener()?;
    let passing = raw(ipproto::TCP)?;
    sockopt::set_socket_timeout(&passing, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let attempt = tcp(AddressFamily::INET, SocketFlags::NONBLOCK)?;
    ensure!(connect(&attempt, &full.address) == Err(Errno::INPROGRESS));
    let local = local_port(&attempt)?;
    let header = syn(&passing, local, full.address.port())?;
    let router = raw(ipproto::ICMP)?;
    let anyone = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    sendto(&router, &answer(&header), SendFlags::empty(), &anyone)?;
    let patience = Timespec::try_from(PATIENCE)?;
    poll(
        &mut [PollFd::new(&attempt, PollFlags::OUT)],
        Some(&patience),
    )?;
    let errno = sockopt::socket_error(&attempt)?
        .err()
        .context("the attempt has failed")?;
    tell(&json!({"port": full.address.port(), "local": local, "errno": errno.raw_os_error()}))
}

fn raw(protocol: Protocol) -> Result<OwnedFd> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    socket_with(family, SocketType::RAW, flags, Some(protocol))
        .context("a raw socket needs CAP_NET_RAW")
}

/// The next segment from one port to the other: its IP header, and the first 8 bytes of TCP's.
fn syn(passing: &OwnedFd, from: u16, to: u16) -> Result<Vec<u8>> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    loop {
        let mut packet = [0; 128];
        let (_, length) = recv(passing, &mut packet, RecvFlags::empty())?;
        let begin = usize::from(packet[0] & 15) * 4;
        if length >= begin + 8 && packet[begin..begin + 4] == ports {
            return Ok(packet[..begin + 8].to_vec());
        }
    }
}

/// "Host unreachable" about a packet that begins with `header`.
fn answer(header: &[u8]) -> Vec<u8> {
    let mut message = [&HOST_UNREACHABLE[..], &[0; 6], header].concat();
    let (words, _) = message.as_chunks::<2>();
    let sum: u32 = words
        .iter()
        .map(|&word| u32::from(u16::from_be_bytes(word)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}
