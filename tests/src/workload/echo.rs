//! Pings, and packets of raw sockets: what goes over IP without ports.
//!
//! In a network namespace of its own, where anyone may ping and nobody else's packets go.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use libc::{AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_RAW, SOCK_DGRAM, SOCK_RAW};
use rustix::net::{RecvFlags, SendFlags, recv, sendto};
use serde_json::{Value, json};

use super::datagrams::Carried;
use super::fast_open::enter_namespace;
use super::{tell, word};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Types of messages: to ask, over IPv4 and IPv6.
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;

/// How often a socket sends.
const TIMES: usize = 5;

/// Length of an IPv4 header.
const IPV4_HEADER: usize = 20;

/// A protocol for experiments (RFC 3692).
const EXPERIMENT: i32 = 253;

/// Argument: a way. Fact, once the socket is closed: `{"sent", "received"}`, each `[packets, bytes]`, of which
/// the bytes are what follows the IP header.
pub(super) fn exchange(arguments: &[OsString]) -> Result<()> {
    enter_namespace()?;
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").context("ping_group_range")?;
    let carried = match word(arguments, 0)? {
        "ping" => ask(SOCK_DGRAM, V4)?,
        "ping-v6" => ask(SOCK_DGRAM, V6)?,
        "raw" => ask(SOCK_RAW, V4)?,
        "raw-v6" => ask(SOCK_RAW, V6)?,
        "experiment" => experiment()?,
        "own-header" => own_header()?,
        other => bail!("no such way to exchange packets: {other}"),
    };
    tell(&carried)
}

fn socket(family: i32, socket_type: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(family, socket_type | libc::SOCK_CLOEXEC, protocol) };
    ensure!(socket >= 0, std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Asks this host for echoes. A raw socket gets what it asks as well as the answer.
fn ask(socket_type: i32, ip: IpAddr) -> Result<Value> {
    let (family, protocol, kind, ip_header) = match ip {
        IpAddr::V4(_) => (AF_INET, IPPROTO_ICMP, ECHO, IPV4_HEADER),
        IpAddr::V6(_) => (AF_INET6, IPPROTO_ICMPV6, ECHO_V6, 0),
    };
    let socket = socket(family, socket_type, protocol)?;
    let is_raw = socket_type == SOCK_RAW;
    let mut carried = Carried::default();
    for number in 0..TIMES {
        let message = message(kind, 56 + number);
        send(&socket, &message, ip, &mut carried)?;
        let (answers, header) = if is_raw { (2, ip_header) } else { (1, 0) };
        take(&socket, answers, header, &mut carried)?;
    }
    Ok(fact(&carried))
}

/// An echo request with so much payload, and its checksum.
fn message(kind: u8, payload: usize) -> Vec<u8> {
    let mut message = vec![0; 8 + payload];
    message[0] = kind;
    // The kernel fills in what IPv6's needs; nothing but the type is there to be added up.
    message[2..4].copy_from_slice(&(!(u16::from(kind) << 8)).to_be_bytes());
    message
}

fn send(socket: &OwnedFd, packet: &[u8], to: IpAddr, carried: &mut Carried) -> Result<()> {
    let sent = sendto(
        socket,
        packet,
        SendFlags::empty(),
        &SocketAddr::from((to, 0)),
    )?;
    ensure!(sent == packet.len(), "{sent} bytes sent");
    carried.sent(1, sent);
    Ok(())
}

/// Takes so many, in front of which an IP header of so many bytes is.
fn take(socket: &OwnedFd, packets: usize, ip_header: usize, carried: &mut Carried) -> Result<()> {
    for _ in 0..packets {
        let (length, _) = recv(socket, &mut [0; 2048], RecvFlags::empty())?;
        carried.received(1, length - ip_header);
    }
    Ok(())
}

/// A socket of a protocol that nobody else has, which hears itself.
fn experiment() -> Result<Value> {
    let socket = socket(AF_INET, SOCK_RAW, EXPERIMENT)?;
    let mut carried = Carried::default();
    for number in 0..TIMES {
        send(&socket, &vec![b'e'; number], V4, &mut carried)?;
        take(&socket, 1, IPV4_HEADER, &mut carried)?;
    }
    Ok(fact(&carried))
}

/// Packets whose IP header the process writes, which the socket never hears.
fn own_header() -> Result<Value> {
    let socket = socket(AF_INET, SOCK_RAW, IPPROTO_RAW)?;
    let mut carried = Carried::default();
    for number in 0..TIMES {
        let mut packet = vec![0; IPV4_HEADER + number];
        (packet[0], packet[8], packet[9]) = (0x45, 64, EXPERIMENT as u8);
        packet[12..16].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        packet[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        let mut with_header = Carried::default();
        send(&socket, &packet, V4, &mut with_header)?;
        carried.sent(1, number);
    }
    Ok(fact(&carried))
}

fn fact(carried: &Carried) -> Value {
    json!({"sent": carried.sent, "received": carried.received})
}
