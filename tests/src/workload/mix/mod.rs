//! Many connections in many ways, at full speed, by several processes: `mix`, and the roles in it.
//!
//! Connection number `i` goes to the address 127.64.0.0 + `i`, so that each end knows its number from its
//! socket, and whoever reads the tracer's output from the destination. What is done with it follows from
//! the number alone; who did it, each process writes down (see [`truth`]).

mod client;
pub mod plan;
mod server;
pub mod truth;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, bind, getsockname, listen, shutdown, sockopt,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::json;

pub(super) use self::client::{close_passed, run as client};
use self::plan::SERVERS;
pub(super) use self::server::run as server;
use super::failing::tcp;
use super::{command, parsed, tell, word};

/// More than are ever waiting at once, and no more than kernels allow.
const BACKLOG: i32 = 4096;

/// Makes connections. Arguments: how many; which ones, as `plan` has it; a directory for the truth. Fact,
/// after the last of them has been closed by its process: `{"listener"}`, the PID of who opened every
/// listener, which is this one.
pub(super) fn mix(arguments: &[OsString]) -> Result<()> {
    let count: u32 = parsed(arguments, 0)?;
    let (choice, directory) = (word(arguments, 1)?, word(arguments, 2)?);
    let places = Places::open()?;
    let servers: Result<Vec<Child>> = (SERVERS.iter().zip(&places.listeners))
        .map(|(kind, listener)| {
            let number = listener.as_raw_fd().to_string();
            fcntl_setfd(listener, FdFlags::empty())?;
            let server = role("mix-server", &[kind, &number, choice, directory]).spawn()?;
            fcntl_setfd(listener, FdFlags::CLOEXEC)?;
            Ok(server)
        })
        .collect();
    let (passing, passed) = UnixStream::pair()?;
    let closer = role("mix-close", &[])
        .stdin(OwnedFd::from(passed))
        .spawn()?;
    let ports = places.ports()?;
    let arguments = [&count.to_string(), choice, directory, &ports];
    let clients = ["alone", "threads"].map(|kind| {
        let mut client = role("mix-client", &[&[kind], &arguments[..]].concat());
        client
            .stdin(passing.try_clone().map(OwnedFd::from)?)
            .spawn()
    });
    drop(passing);
    for client in clients {
        end(client?)?;
    }
    end(closer)?;
    for listener in &places.listeners {
        // Whoever waits in accept is told that there is nothing to wait for.
        shutdown(listener, Shutdown::Both)?;
    }
    servers?.into_iter().try_for_each(end)?;
    tell(&json!({"listener": std::process::id()}))
}

fn role(name: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = command(name, arguments);
    command.stdin(Stdio::null());
    command
}

fn end(mut child: Child) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "a role in the mix ended with {status}");
    Ok(())
}

/// A role ends with the process that hands them out.
fn begin_role() -> Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Everything that can be connected to.
struct Places {
    /// One for each kind of server, in their order.
    listeners: Vec<OwnedFd>,
    /// A port that is taken and where nobody listens.
    refusing: OwnedFd,
    /// A listener whose queue is full, and what fills it.
    full: (OwnedFd, TcpStream),
    /// A listener from which nobody accepts.
    deaf: OwnedFd,
    /// A listener that leaves a handshake half done until data comes.
    deferring: OwnedFd,
}

impl Places {
    fn open() -> Result<Places> {
        let listeners: Result<Vec<_>> = SERVERS.iter().map(|_| listener(BACKLOG)).collect();
        let full = listener(0)?;
        let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&full)?))?;
        let deferring = listener(BACKLOG)?;
        sockopt_defer(&deferring)?;
        Ok(Places {
            listeners: listeners?,
            refusing: taken()?,
            full: (full, waiting),
            deaf: listener(BACKLOG)?,
            deferring,
        })
    }

    /// Ports, in the order in which [`client`] takes them.
    fn ports(&self) -> Result<String> {
        let special = [&self.refusing, &self.full.0, &self.deaf, &self.deferring];
        let ports: Result<Vec<_>> = (special.into_iter().chain(&self.listeners))
            .map(|place| Ok(port(place)?.to_string()))
            .collect();
        Ok(ports?.join(","))
    }
}

/// A port of both families on every address.
fn taken() -> Result<OwnedFd> {
    let socket = tcp(AddressFamily::INET6, SocketFlags::empty())?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))?;
    Ok(socket)
}

fn listener(backlog: i32) -> Result<OwnedFd> {
    let socket = taken()?;
    listen(&socket, backlog)?;
    Ok(socket)
}

fn port(socket: impl AsFd) -> Result<u16> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?.port())
}

fn sockopt_defer(listener: &OwnedFd) -> Result<()> {
    let seconds: libc::c_int = 30;
    // SAFETY: an option that is an integer, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}

/// The number of the connection that a socket at this address belongs to.
fn index_of(address: SocketAddr) -> Result<u32> {
    plan::index_of(address.ip()).context("not an address of the mix")
}
