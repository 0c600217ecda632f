//! Processes that keep connections open, alone or together with another process.

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::json;

use super::{parsed, tell, wait_for_go, word};

/// Listens, and connects to itself. Arguments: who holds the sockets, `alone`, `forked` (a child, too, by
/// inheritance) or `passed` (a child has the initiator's ends, too, under other numbers); where to listen;
/// how many connections; perhaps `in-netns`, for a network namespace of its own. Facts: `{"port", "clients":
/// ports, "holders": PIDs}`, and after a go, when all is closed in order, `{}`.
pub(super) fn hold(arguments: &[OsString]) -> Result<()> {
    if arguments.len() > 3 {
        enter_own_netns()?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    let how = word(arguments, 0)?;
    let passed_to = match how {
        "passed" => Some(fork(|| keep_what_comes(&theirs))?),
        _ => None,
    };
    drop(theirs);
    let held = Held::open(parsed(arguments, 1)?, parsed(arguments, 2)?)?;
    let clients: std::io::Result<Vec<_>> = held.clients.iter().map(TcpStream::local_addr).collect();
    let other = match how {
        "alone" => None,
        "forked" => Some(fork(keep)?),
        "passed" => {
            held.clients
                .iter()
                .try_for_each(|it| pass(&ours, it.as_fd()))?;
            passed_to
        }
        other => bail!("no such way to hold: {other}"),
    };
    let holders: Vec<u32> = std::iter::once(std::process::id()).chain(other).collect();
    let clients: Vec<u16> = clients?.iter().map(SocketAddr::port).collect();
    tell(
        &json!({"port": held.listener.local_addr()?.port(), "clients": clients, "holders": holders}),
    )?;
    wait_for_go()?;
    if let Some(other) = other {
        end(other)?;
    }
    held.close();
    tell(&json!({}))
}

/// A listener and connections to it.
struct Held {
    listener: TcpListener,
    clients: Vec<TcpStream>,
    servers: Vec<TcpStream>,
}

impl Held {
    fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let mut held = Held {
            listener,
            clients: Vec::new(),
            servers: Vec::new(),
        };
        for _ in 0..count {
            held.clients.push(TcpStream::connect(address)?);
            held.servers.push(held.listener.accept()?.0);
        }
        Ok(held)
    }

    /// The initiators first, so that every connection ends in order.
    fn close(self) {
        drop(self.clients);
        drop(self.servers);
        drop(self.listener);
    }
}

/// A child that ends with its parent; its PID.
fn fork(child: impl FnOnce() -> Result<()>) -> Result<u32> {
    // SAFETY: this workload has a single thread, so the child may do whatever its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("fork"),
        0 => {
            let kept = set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into);
            let kept: Result<()> = kept.and_then(|()| child());
            std::process::exit(i32::from(kept.is_err()))
        }
        pid => Ok(pid.unsigned_abs()),
    }
}

/// Keeps what it has, until it is killed.
fn keep() -> Result<()> {
    loop {
        rustix::event::pause();
    }
}

/// Ends a child.
fn end(child: u32) -> Result<()> {
    let pid = i32::try_from(child)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.context("the child has a PID")?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
    Ok(())
}

/// Passes a descriptor, and waits until it has come.
fn pass(to: &UnixStream, descriptor: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "no room"
    );
    sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    rustix::io::read(to, &mut [0_u8])?;
    Ok(())
}

/// Takes descriptors, keeps each under a number that its sender does not have, and says so.
fn keep_what_comes(from: &UnixStream) -> Result<()> {
    const FIRST: i32 = 500;
    let mut kept: Vec<OwnedFd> = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg(from, &mut parts, &mut control, RecvFlags::empty())?;
        if message.bytes == 0 {
            return keep();
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    kept.push(rustix::io::fcntl_dupfd_cloexec(&descriptor, FIRST)?);
                }
            }
        }
        rustix::io::write(from, b"x")?;
    }
}

/// A network namespace whose loopback device is up.
fn enter_own_netns() -> Result<()> {
    // SAFETY: a network namespace has nothing to do with memory or descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("it needs CAP_SYS_ADMIN")?;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP)?;
    // SAFETY: the request lives as long as the call, which only reads it.
    let done = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS,
            &raw const request,
        )
    };
    ensure!(done == 0, "loopback: {}", std::io::Error::last_os_error());
    Ok(())
}
