//! Multipath TCP, with the one path that loopback is.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZero;
use std::os::fd::OwnedFd;

use anyhow::Result;
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde_json::json;

use super::failing::LOOPBACK;
use super::tell;

/// `IPPROTO_MPTCP`, include/uapi/linux/in.h.
const MPTCP: NonZero<u32> = NonZero::new(262).expect("not zero");

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(Protocol::from_raw(MPTCP)),
    )?)
}

/// Why this kernel makes no such socket, if it does not.
pub fn refusal() -> Option<io::Error> {
    socket().err()
}

/// Connects to itself, sends 5 bytes up and 7 down, and closes. Fact: `{"port", "local"}`.
pub(super) fn connect_to_itself(_: &[OsString]) -> Result<()> {
    let listener = socket()?;
    bind(&listener, &LOOPBACK)?;
    listen(&listener, 8)?;
    let listener = TcpListener::from(listener);
    let initiator = socket()?;
    connect(&initiator, &listener.local_addr()?)?;
    let mut initiator = TcpStream::from(initiator);
    let mut acceptor = listener.accept()?.0;
    initiator.write_all(&[0; 5])?;
    acceptor.read_exact(&mut [0; 5])?;
    acceptor.write_all(&[0; 7])?;
    initiator.read_exact(&mut [0; 7])?;
    let local = initiator.local_addr()?.port();
    drop(initiator);
    // It ends in order on both sides.
    while acceptor.read(&mut [0; 8])? > 0 {}
    drop(acceptor);
    tell(&json!({"port": listener.local_addr()?.port(), "local": local}))
}
