//! The canary: a process and a connection of the tracer's own, to see whether the hooks see.
//!
//! An attached hook is not yet a hook that sees: vendors' kernels inline functions, policies detach
//! programs. So at start the tracer runs a copy of itself that exits at once, connects to itself over
//! loopback, sends itself a datagram, makes a connect fail, and opens a raw socket if it may, each of which every
//! hook in question must show. None of it reaches an output.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::hooks::Moment;
use crate::event::{Event, EventKind, Flow, SocketMoment};

/// What the copy of the tracer is called; [`is_canary`] knows it by that.
const NAME: &str = "tracer-canary";

/// Whether this process is the copy, which has nothing to do.
pub fn is_canary() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// What was done, and which moments have not been seen yet.
#[derive(Debug)]
pub struct Canary {
    own_tgid: u32,
    /// Known from its fork on: its PID may be another one in our own PID namespace.
    child_tgid: Option<u32>,
    waiting: Vec<Moment>,
    /// Why there was no connection: loopback is not up.
    pub no_loopback: Option<io::Error>,
}

impl Canary {
    /// Does everything that should be seen. `moments` are those that have a hook; `own_tgid` is our
    /// PID in the initial PID namespace.
    pub fn release(own_tgid: u32, moments: impl IntoIterator<Item = Moment>) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        // However slow the machine: from here on the hooks have had their chance.
        child.wait()?;
        let no_loopback = connect_to_self().and_then(|()| send_to_self()).err();
        let fails = |address: SocketAddr| {
            TcpStream::connect(address).is_err_and(|error| is_refusal_of_route(&error))
        };
        // TCP to many is refused before a packet leaves.
        let fails_v4 = fails((Ipv4Addr::BROADCAST, 9).into());
        let fails_v6 = fails((Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 9).into());
        let has_raw_socket = open_raw_socket().is_ok();
        let waiting = moments
            .into_iter()
            .filter(|moment| match moment {
                Moment::Fork | Moment::Exec | Moment::Exit => true,
                Moment::Connect | Moment::Accept | Moment::State | Moment::Datagram => {
                    no_loopback.is_none()
                }
                Moment::ConnectErrorV4 => fails_v4,
                Moment::ConnectErrorV6 => fails_v6,
                Moment::RawSocket => has_raw_socket,
                Moment::Reset | Moment::Cgroup | Moment::DnsStream | Moment::ClientHello => false,
            })
            .collect();
        Ok(Self {
            own_tgid,
            child_tgid: None,
            waiting,
            no_loopback,
        })
    }

    /// Looks whether `event` is one of those that were caused.
    pub fn observe(&mut self, event: &Event<'_>) {
        if let Some(moment) = self.moment_of(event) {
            self.waiting.retain(|waiting| *waiting != moment);
        }
    }

    fn moment_of(&mut self, event: &Event<'_>) -> Option<Moment> {
        if let EventKind::Fork { parent, child, .. } = &event.kind
            && parent.tgid == self.own_tgid
        {
            self.child_tgid = Some(child.tgid);
            return Some(Moment::Fork);
        }
        let own = |moment: &SocketMoment| moment.task.tgid == self.own_tgid;
        let of_child = |tgid| self.child_tgid == Some(tgid);
        match &event.kind {
            EventKind::Exec(exec) if of_child(exec.task.tgid) => Some(Moment::Exec),
            EventKind::Exit { task, .. } if of_child(task.tgid) => Some(Moment::Exit),
            EventKind::Connect(moment) if own(moment) => Some(Moment::Connect),
            EventKind::Accept(moment, _) if own(moment) => Some(Moment::Accept),
            EventKind::Listen(moment) if own(moment) => Some(Moment::State),
            EventKind::Flow(Flow {
                task: Some(task), ..
            })
            | EventKind::DatagramOwner { task, .. }
                if task.tgid == self.own_tgid =>
            {
                Some(Moment::Datagram)
            }
            EventKind::SocketCreated(socket) if socket.task.tgid == self.own_tgid => {
                Some(Moment::RawSocket)
            }
            EventKind::Attempt(moment) | EventKind::ConnectError(moment, _) if own(moment) => {
                let ipv4 = moment.endpoints.is_ipv4();
                Some(if ipv4 {
                    Moment::ConnectErrorV4
                } else {
                    Moment::ConnectErrorV6
                })
            }
            _ => None,
        }
    }

    /// The moments that have not been seen yet.
    pub fn waiting(&self) -> &[Moment] {
        &self.waiting
    }
}

/// Listens, connects, accepts and closes, all in this thread: the kernel completes the handshake
/// without anyone's help.
fn connect_to_self() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    drop((client, server));
    Ok(())
}

/// Sends a datagram to a socket of its own, and takes it.
fn send_to_self() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.send_to(&[], socket.local_addr()?)?;
    socket.set_nonblocking(true)?;
    socket.recv_from(&mut []).map(drop)
}

/// Opens and closes a raw socket that receives nothing. Without CAP_NET_RAW it is refused, which is no reason
/// not to trace.
fn open_raw_socket() -> rustix::io::Result<()> {
    let protocol = Some(ipproto::RAW);
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::RAW, flags, protocol).map(drop)
}

/// Whether the attempt got as far as the hooks on failing connects: without the address family, it
/// does not.
fn is_refusal_of_route(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, PermissionDenied};
    let kind = error.kind();
    matches!(
        kind,
        AddrNotAvailable | HostUnreachable | NetworkUnreachable | PermissionDenied
    )
}
