//! Multipath TCP: over the one path that loopback is, over several, and with a peer that does not speak it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde_json::{Value, json};

use super::failing::{LOOPBACK, tcp};
use super::fast_open::enter_namespace;
use super::path_manager::PathManager;
use super::{tell, wait_for_go, word};
use crate::procfs::{self, TcpSocket};
use crate::wait;

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
    let (listener, address) = listening(socket()?)?;
    tell(&serve_itself(socket()?, &listener, address)?)
}

/// Sends 5 bytes up and 7 down, and closes in order.
fn serve_itself(initiator: OwnedFd, listener: &TcpListener, address: SocketAddr) -> Result<Value> {
    let (mut initiator, mut acceptor) = connected(initiator, listener)?;
    let local = initiator.local_addr()?.port();
    exchange(&mut initiator, &mut acceptor, 5)?;
    exchange(&mut acceptor, &mut initiator, 7)?;
    close(initiator, acceptor)?;
    Ok(json!({"port": address.port(), "local": local}))
}

fn listening(socket: OwnedFd) -> Result<(TcpListener, SocketAddr)> {
    bind(&socket, &LOOPBACK)?;
    listen(&socket, 8)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn connected(initiator: OwnedFd, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    connect(&initiator, &listener.local_addr()?)?;
    Ok((initiator.into(), listener.accept()?.0))
}

/// Sends so many bytes from one end to the other.
fn exchange(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| from.write_all(&vec![0; bytes]));
        to.read_exact(&mut vec![0; bytes])?;
        let sent = sender.join().map_err(|_| anyhow!("the thread panicked"))?;
        Ok(sent?)
    })
}

/// Closes both ends, in order, and waits until the kernel is done with them.
fn close(initiator: TcpStream, mut acceptor: TcpStream) -> Result<()> {
    let ports = [
        initiator.local_addr()?.port(),
        acceptor.local_addr()?.port(),
    ];
    drop(initiator);
    while acceptor.read(&mut [0; 8])? > 0 {}
    drop(acceptor);
    wait::until("both ends to be closed", || {
        let is_left = |it: &TcpSocket| ports.contains(&it.local) && it.is_open();
        (!TcpSocket::all().iter().any(is_left)).then_some(())
    });
    Ok(())
}

/// How much goes each way over several paths: more than fits into one at a time.
const UP: usize = 3_000_000;
const DOWN: usize = 2_000_000;

/// Where the first path begins. Not where it ends: that address is the end of every path.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// Where further paths begin.
pub const FURTHER: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// How long paths may take to come, and how many connections are made until all do.
const PATIENCE: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 5;

/// Where a path is tried when nobody listens any more.
const REFUSED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// Connects to itself in a network namespace of its own, from [`FIRST`] and [`FURTHER`] to 127.0.0.1. Argument:
/// `keep-first`, `lose-first` to end the first path when it has carried a byte each way, or `refuse-further` to
/// have one path more refused. Facts: when all paths are there `{"port", "local", "further": [[ip, port], …]}`, and
/// after a go, when all is closed in order, `{"up", "down", "sent_again"}`.
pub(super) fn over_several_paths(arguments: &[OsString]) -> Result<()> {
    enter_namespace()?;
    let manager = PathManager::open().context("the path manager")?;
    manager.allow(u32::try_from(FURTHER.len())?)?;
    for address in FURTHER {
        manager.add(address)?;
    }
    // The kernel tries to add a path once. One that the acceptor refused, since it did not know yet that the
    // initiator speaks it, never comes: then another connection, to another port, is what this is about.
    let begun = (0..ATTEMPTS).find_map(|_| with_all_paths().transpose());
    let Paths {
        listener,
        address,
        mut initiator,
        mut acceptor,
        local,
        further: paths,
    } = begun.context("all paths to be there")??;
    tell(&json!({"port": address.port(), "local": local, "further": paths}))?;
    wait_for_go()?;
    match word(arguments, 0)? {
        "keep-first" => {}
        "lose-first" => {
            manager.remove_first(FIRST)?;
            wait::until("the first path to be gone", || {
                let is_first = |it: &TcpSocket| it.local == local || it.remote == local;
                let sockets = TcpSocket::all();
                (!sockets.iter().any(|it| is_first(it) && it.is_open())).then_some(())
            });
        }
        "refuse-further" => {
            drop(listener);
            let failed = || procfs::counter("AttemptFails");
            let before = failed();
            manager.allow(u32::try_from(FURTHER.len() + 1)?)?;
            manager.add(REFUSED)?;
            wait::until("a path to be refused", || (failed() > before).then_some(()));
        }
        other => bail!("no such thing to do with paths: {other}"),
    }
    exchange(&mut initiator, &mut acceptor, UP)?;
    exchange(&mut acceptor, &mut initiator, DOWN)?;
    close(initiator, acceptor)?;
    let sent_again = procfs::counter("MPTCPRetrans") + procfs::counter("DuplicateData");
    tell(&json!({"up": UP + 1, "down": DOWN + 1, "sent_again": sent_again}))
}

/// A connection to itself, with all its paths.
struct Paths {
    listener: TcpListener,
    address: SocketAddr,
    initiator: TcpStream,
    acceptor: TcpStream,
    /// The port of the first path's beginning.
    local: u16,
    /// Where the others begin.
    further: Vec<(Ipv4Addr, u16)>,
}

/// Connects to itself; `None` if not all paths come.
fn with_all_paths() -> Result<Option<Paths>> {
    let (listener, address) = listening(socket()?)?;
    let initiator = socket()?;
    bind(&initiator, &SocketAddr::from((FIRST, 0)))?;
    let (mut initiator, mut acceptor) = connected(initiator, &listener)?;
    let local = initiator.local_addr()?.port();
    // Paths are added once both ends know that the other one speaks it.
    exchange(&mut initiator, &mut acceptor, 1)?;
    exchange(&mut acceptor, &mut initiator, 1)?;
    let paths = wait::within(PATIENCE, || {
        let paths = paths_to(address.port())?;
        (paths.len() == 1 + FURTHER.len()).then_some(paths)
    });
    let Some(mut further) = paths else {
        return Ok(None);
    };
    further.retain(|path| *path != (FIRST, local));
    Ok(Some(Paths {
        listener,
        address,
        initiator,
        acceptor,
        local,
        further,
    }))
}

/// Where established paths to a port begin that are established on both sides.
fn paths_to(port: u16) -> Option<Vec<(Ipv4Addr, u16)>> {
    let open = TcpSocket::all();
    let mut open: Vec<_> = open
        .iter()
        .filter(|it| it.state == TcpSocket::ESTABLISHED)
        .collect();
    open.retain(|it| it.local == port || it.remote == port);
    let begins = open.iter().filter(|it| it.remote == port);
    let begins: Option<Vec<_>> = begins.map(|it| Some((it.local_ipv4?, it.local))).collect();
    begins.filter(|begins| open.len() == 2 * begins.len())
}

/// Connects to itself where one end does not speak it. Argument: which one, `initiator` or `acceptor`. Fact:
/// `{"port", "local"}`.
pub(super) fn fall_back(arguments: &[OsString]) -> Result<()> {
    let plain = || tcp(AddressFamily::INET, SocketFlags::empty());
    let (initiator, acceptor) = match word(arguments, 0)? {
        "initiator" => (plain()?, socket()?),
        "acceptor" => (socket()?, plain()?),
        other => bail!("no such end: {other}"),
    };
    let (listener, address) = listening(acceptor)?;
    tell(&serve_itself(initiator, &listener, address)?)
}
