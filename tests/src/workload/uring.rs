//! Connections that are made and taken through io_uring, which enters neither `connect` nor `accept`.
//!
//! Each way runs the operation in another task: `plain` in the thread that submits it, `worker` in a
//! worker that the kernel starts for it, `polled` in the kernel's thread that polls the submissions.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::net::{AddressFamily, SocketFlags, sockopt};
use serde_json::json;

use super::accepting::in_worker;
use super::failing::{LOOPBACK, refusing, tcp};
use super::{exchange, parsed, tell, word};

/// How long the polling thread looks for work before it sleeps, in milliseconds.
const POLLS_FOR: u32 = 100;

/// Why this kernel gives nobody a ring, if it does not.
pub fn refusal() -> Option<io::Error> {
    IoUring::new(1).err()
}

/// Why this kernel does not go on accepting after the first connection, if it does not.
///
/// # Panics
/// If it refuses for a reason that has no errno.
pub fn refusal_to_repeat() -> Option<io::Error> {
    let listener = TcpListener::bind(LOOPBACK).expect("loopback is up");
    let address = listener.local_addr().expect("it is bound");
    let _client = TcpStream::connect(address).expect("it listens");
    let mut ring = Ring::new("plain").expect("there are rings");
    let refusal = ring.accept(&listener, "multishot").err()?;
    Some(refusal.downcast().expect("an errno"))
}

/// A ring, and the task in which its operations run.
pub(super) struct Ring {
    ring: IoUring,
    flags: squeue::Flags,
}

impl Ring {
    pub(super) fn new(way: &str) -> Result<Ring> {
        let mut builder = IoUring::builder();
        let flags = match way {
            "plain" => squeue::Flags::empty(),
            "worker" => squeue::Flags::ASYNC,
            "polled" => {
                builder.setup_sqpoll(POLLS_FOR);
                squeue::Flags::empty()
            }
            other => bail!("no such way through io_uring: {other}"),
        };
        let ring = builder.build(4).context("io_uring_setup")?;
        Ok(Ring { ring, flags })
    }

    /// Runs one operation to its (first) completion.
    ///
    /// # Safety
    /// What the operation points to must live until then.
    pub(super) unsafe fn run(&mut self, operation: squeue::Entry) -> Result<i32> {
        let operation = operation.flags(self.flags);
        // SAFETY: by the caller's promise.
        unsafe { self.ring.submission().push(&operation) }?;
        self.ring.submit_and_wait(1)?;
        let completion = self.ring.completion().next();
        completion
            .as_ref()
            .map(cqueue::Entry::result)
            .context("an operation is complete")
    }

    pub(super) fn connect(&mut self, socket: RawFd, address: SocketAddr) -> Result<i32> {
        let SocketAddr::V4(address) = address else {
            bail!("only IPv4 here")
        };
        let address = sockaddr(address);
        let length = u32::try_from(size_of_val(&address))?;
        let connect = opcode::Connect::new(types::Fd(socket), (&raw const address).cast(), length);
        // SAFETY: the address lives until the operation is complete.
        unsafe { self.run(connect.build()) }
    }

    /// Sends all of it as one datagram.
    pub(super) fn send(&mut self, socket: RawFd, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?;
        let send = opcode::Send::new(types::Fd(socket), payload.as_ptr(), length);
        // SAFETY: the payload lives until the operation is complete.
        let sent = unsafe { self.run(send.build()) }?;
        ensure!(sent == payload.len() as i32, "send: {sent}");
        Ok(())
    }

    /// Takes one datagram, and asks whose it is; its length, as far as there was room.
    pub(super) fn receive(&mut self, socket: RawFd, buffer: &mut [u8]) -> Result<usize> {
        let mut from = sockaddr(SocketAddrV4::new([0; 4].into(), 0));
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zero is a message without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = u32::try_from(size_of_val(&from))?;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        let receive = opcode::RecvMsg::new(types::Fd(socket), &raw mut message);
        // SAFETY: what the message refers to lives until the operation is complete.
        let received = unsafe { self.run(receive.build()) }?;
        usize::try_from(received).map_err(|_| errno(received).into())
    }

    /// Takes a connection, with the peer's address or without.
    pub(super) fn accept(&mut self, listener: &TcpListener, how: &str) -> Result<TcpStream> {
        let listener = types::Fd(listener.as_raw_fd());
        let mut peer = sockaddr(SocketAddrV4::new([0; 4].into(), 0));
        let mut length = libc::socklen_t::try_from(size_of_val(&peer))?;
        let operation = match how {
            "with-address" => {
                opcode::Accept::new(listener, (&raw mut peer).cast(), &raw mut length).build()
            }
            "without-address" | "asked-by-another" => {
                opcode::Accept::new(listener, std::ptr::null_mut(), std::ptr::null_mut()).build()
            }
            "multishot" => opcode::AcceptMulti::new(listener).build(),
            other => bail!("no such way to accept: {other}"),
        };
        // SAFETY: the address lives until the operation is complete.
        let result = unsafe { self.run(operation) }?;
        if result < 0 {
            return Err(errno(result).into());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(result) }))
    }
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: address.ip().to_bits().to_be(),
        },
        sin_zero: [0; 8],
    }
}

fn errno(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}

/// Connects. Arguments: in which way, to which address. Fact: `[local port, sent, received]`.
pub(super) fn connect(arguments: &[OsString]) -> Result<()> {
    let mut ring = Ring::new(word(arguments, 0)?)?;
    let socket = tcp(AddressFamily::INET, SocketFlags::empty())?;
    let result = ring.connect(socket.as_raw_fd(), parsed(arguments, 1)?)?;
    ensure!(result == 0, "connect: {}", errno(result));
    tell(&exchange::ask(TcpStream::from(socket), 0)?)
}

/// Is refused. Argument: in which way. Fact: `{"port", "errno"}`.
pub(super) fn refused(arguments: &[OsString]) -> Result<()> {
    let mut ring = Ring::new(word(arguments, 0)?)?;
    let (_taken, address) = refusing(LOOPBACK)?;
    let socket = tcp(AddressFamily::INET, SocketFlags::empty())?;
    let result = ring.connect(socket.as_raw_fd(), address)?;
    tell(&json!({"port": address.port(), "errno": -result}))
}

/// Accepts one connection. Arguments: in which way; `with-address`, `without-address`, `multishot`, or
/// `asked-by-another`: without it, and a child that inherits the connection asks for it. Facts: `{"port", "acceptor"}` just before, then `[peer port, sent, received]`; the port is 0 unless
/// the peer's address was asked for.
pub(super) fn accept(arguments: &[OsString]) -> Result<()> {
    let (way, how) = (word(arguments, 0)?, word(arguments, 1)?);
    let mut ring = Ring::new(way)?;
    let listener = TcpListener::bind(LOOPBACK)?;
    tell(&json!({"port": listener.local_addr()?.port(), "acceptor": std::process::id()}))?;
    let stream = ring.accept(&listener, how)?;
    if how == "asked-by-another" {
        in_worker(|| stream.peer_addr().map(drop).context("it is connected"))?;
    }
    if how == "with-address" {
        return tell(&exchange::answer(stream)?);
    }
    tell(&exchange::answer_to(0, stream)?)
}

/// Accepts one connection in a forked worker, without the peer's address, and resets it. Facts:
/// `{"port", "acceptor"}` just before, then `{}`.
pub(super) fn accept_and_reset(_: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    in_worker(|| {
        let mut ring = Ring::new("plain")?;
        tell(&json!({"port": listener.local_addr()?.port(), "acceptor": std::process::id()}))?;
        let stream = ring.accept(&listener, "without-address")?;
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        drop(stream);
        tell(&json!({}))
    })
}
