//! Attempts that fail and connections that end in a reset. Every fact holds the errno that the
//! process itself was given.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket,
    socket_with, sockopt,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::{Value, json};

use super::{parsed, tell, wait_for_go, word};
use crate::procfs::TcpSocket;
use crate::wait;

pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) fn tcp(family: AddressFamily, flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        family,
        SocketType::STREAM,
        flags | SocketFlags::CLOEXEC,
        None,
    )?)
}

pub(super) fn local_port(socket: impl AsFd) -> Result<u16> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?.port())
}

/// The errno of an attempt that must fail.
fn failure(result: Result<(), Errno>) -> Result<i32> {
    match result {
        Ok(()) => bail!("the attempt succeeded"),
        Err(errno) => Ok(errno.raw_os_error()),
    }
}

/// A port that refuses connections for as long as the socket lives: it is taken, but nobody listens.
pub(super) fn refusing(address: SocketAddr) -> Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let taken = tcp(family, SocketFlags::empty())?;
    bind(&taken, &address)?;
    let address = SocketAddr::try_from(getsockname(&taken)?)?;
    Ok((taken, address))
}

/// Is refused. Arguments: how many times, and the loopback address (port 0). Fact: `{"port",
/// "errno", "local": [port, …]}`; each second attempt binds its own port first, the others have a 0.
pub(super) fn refused(arguments: &[OsString]) -> Result<()> {
    let count: usize = parsed(arguments, 0)?;
    let (_taken, address) = refusing(parsed(arguments, 1)?)?;
    let attempts: Result<Vec<_>> = (0..count)
        .map(|index| refused_once(address, !index.is_multiple_of(2)))
        .collect();
    let attempts = attempts?;
    let errno = attempts.first().map(|(_, errno)| *errno);
    ensure!(
        attempts.iter().all(|attempt| Some(attempt.1) == errno),
        "not all failed alike"
    );
    let local: Vec<_> = attempts.iter().map(|(port, _)| port).collect();
    tell(&json!({"port": address.port(), "errno": errno, "local": local}))
}

pub(super) fn refused_once(address: SocketAddr, bind_first: bool) -> Result<(u16, i32)> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let attempt = tcp(family, SocketFlags::empty())?;
    let mut port = 0;
    if bind_first {
        bind(&attempt, &SocketAddr::new(address.ip(), 0))?;
        port = local_port(&attempt)?;
    }
    Ok((port, failure(connect(&attempt, &address))?))
}

/// Is refused after each go. Argument: how many times. Facts: `{}` when it is ready, then `{"errno"}` each
/// time.
pub(super) fn refused_when_told(arguments: &[OsString]) -> Result<()> {
    let count: usize = parsed(arguments, 0)?;
    let (_taken, address) = refusing(LOOPBACK)?;
    tell(&json!({}))?;
    for _ in 0..count {
        wait_for_go()?;
        let (_, errno) = refused_once(address, true)?;
        tell(&json!({"errno": errno}))?;
    }
    Ok(())
}

/// Is refused by a connect that does not wait. Fact: `{"port", "errno"}`.
pub(super) fn refused_later(_: &[OsString]) -> Result<()> {
    let (_taken, address) = refusing(LOOPBACK)?;
    let attempt = tcp(AddressFamily::INET, SocketFlags::NONBLOCK)?;
    let errno = match connect(&attempt, &address) {
        Err(Errno::INPROGRESS) => failure(sockopt::socket_error(&attempt)?)?,
        result => failure(result)?,
    };
    tell(&json!({"port": address.port(), "errno": errno}))
}

/// Finds no route, IPv4 and IPv6, in a network namespace that has nothing, so that no packet can
/// leave. Fact: `{"ipv4": errno, "ipv6": errno}`.
pub(super) fn unreachable(_: &[OsString]) -> Result<()> {
    // SAFETY: a new network namespace leaves memory and descriptors shared as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace needs CAP_SYS_ADMIN")?;
    let ipv4 = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 443));
    let ipv6 = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 443));
    let ipv4 = failure(connect(
        tcp(AddressFamily::INET, SocketFlags::empty())?,
        &ipv4,
    ))?;
    let ipv6 = failure(connect(
        tcp(AddressFamily::INET6, SocketFlags::empty())?,
        &ipv6,
    ))?;
    tell(&json!({"ipv4": ipv4, "ipv6": ipv6}))
}

/// A listener that answers no further attempt, because its queue is full.
pub(super) struct Full {
    pub(super) address: SocketAddr,
    _listener: OwnedFd,
    _waiting: TcpStream,
}

impl Full {
    pub(super) fn listener() -> Result<Full> {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&listener, &LOOPBACK)?;
        // A backlog of 0 leaves room for one.
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(getsockname(&listener)?)?;
        let waiting = TcpStream::connect(address)?;
        // The initiator is done before the acceptor is.
        wait::until("the queue to be full", || {
            let is_full = |socket: &TcpSocket| {
                socket.state == TcpSocket::LISTEN
                    && socket.local == address.port()
                    && socket.waiting > 0
            };
            TcpSocket::all().iter().any(is_full).then_some(())
        });
        Ok(Full {
            address,
            _listener: listener,
            _waiting: waiting,
        })
    }
}

/// Begins an attempt that nobody answers, and closes its socket. Fact: `{"port", "local"}`.
pub(super) fn give_up(_: &[OsString]) -> Result<()> {
    let full = Full::listener()?;
    let attempt = tcp(AddressFamily::INET, SocketFlags::NONBLOCK)?;
    let errno = failure(connect(&attempt, &full.address))?;
    ensure!(
        errno == libc::EINPROGRESS,
        "the attempt ended with errno {errno}"
    );
    let local = local_port(&attempt)?;
    drop(attempt);
    tell(&json!({"port": full.address.port(), "local": local}))
}

/// Waits a second for an answer that does not come. Fact: `{"port", "errno"}`.
pub(super) fn time_out(_: &[OsString]) -> Result<()> {
    let full = Full::listener()?;
    let attempt = tcp(AddressFamily::INET, SocketFlags::empty())?;
    sockopt::set_tcp_user_timeout(&attempt, 500)?;
    let errno = failure(connect(&attempt, &full.address))?;
    tell(&json!({"port": full.address.port(), "errno": errno}))
}

/// Resets an established connection that has carried 5 bytes up and 7 down. Argument: how, `initiator` or
/// `acceptor` (which aborts), or `unread` (the acceptor closes and leaves bytes unread). Fact:
/// `{"port", "local", "errno"}`, the errno being what the other end was given.
pub(super) fn reset(arguments: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let mut initiator = TcpStream::connect(listener.local_addr()?)?;
    let mut acceptor = listener.accept()?.0;
    let ports = (
        listener.local_addr()?.port(),
        initiator.local_addr()?.port(),
    );
    let how = word(arguments, 0)?;
    initiator.write_all(&[0; 5])?;
    if how != "unread" {
        acceptor.read_exact(&mut [0; 5])?;
    }
    acceptor.write_all(&[0; 7])?;
    initiator.read_exact(&mut [0; 7])?;
    let (aborts, stays) = if how == "initiator" {
        (initiator, acceptor)
    } else {
        (acceptor, initiator)
    };
    if how != "unread" {
        sockopt::set_socket_linger(&aborts, Some(Duration::ZERO))?;
    }
    drop(aborts);
    let errno = read_failure(stays)?;
    tell(&json!({"port": ports.0, "local": ports.1, "errno": errno}))
}

fn read_failure(mut stream: TcpStream) -> Result<Value> {
    match stream.read_exact(&mut [0]) {
        Ok(()) => bail!("the other end was not reset"),
        Err(error) => Ok(error.raw_os_error().into()),
    }
}
