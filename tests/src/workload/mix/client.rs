//! Those who connect in a mix.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, connect, sockopt};

use super::super::accepting::in_worker;
use super::super::failing::tcp;
use super::super::handing::{pass, receive_if_any};
use super::super::uring::{self, Ring};
use super::super::{parsed, word};
use super::begin_role;
use super::plan::{self, Pattern};
use super::truth::{End, Writer};

/// Connects. Arguments: `alone` or `threads`; how many connections the mix has; which ones; where the
/// truth goes; the ports of [`super::Places::ports`]. What is passed goes to stdin.
pub(in super::super) fn run(arguments: &[OsString]) -> Result<()> {
    begin_role()?;
    let ports: Result<Vec<u16>, _> = word(arguments, 4)?.split(',').map(str::parse).collect();
    let client = Client {
        count: parsed(arguments, 1)?,
        choice: word(arguments, 2)?,
        directory: word(arguments, 3)?,
        ports: ports?,
    };
    match word(arguments, 0)? {
        "alone" => client.connect_every(2, 0),
        "threads" => std::thread::scope(|scope| {
            let threads = [1, 3].map(|first| {
                let client = &client;
                scope.spawn(move || client.connect_every(4, first))
            });
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        }),
        other => bail!("no such client: {other}"),
    }
}

struct Client<'a> {
    count: u32,
    choice: &'a str,
    directory: &'a str,
    ports: Vec<u16>,
}

impl Client<'_> {
    fn connect_every(&self, step: usize, first: u32) -> Result<()> {
        let mut thread = Thread {
            client: self,
            truth: Writer::create(self.directory)?,
            ring: match uring::refusal() {
                None => Some(Ring::new("plain")?),
                Some(_) => None,
            },
            passing: UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        };
        for index in (first..self.count).step_by(step) {
            let pattern = Pattern::of(index, self.choice);
            thread.truth.write(index, End::Initiator)?;
            (thread.run(index, pattern)).with_context(|| format!("{pattern:?} {index}"))?;
        }
        thread.truth.finish()
    }

    /// Where connection `index` goes.
    fn destination(&self, index: u32, pattern: Pattern) -> SocketAddr {
        let place = match pattern {
            Pattern::Refused | Pattern::RefusedLater => 0,
            Pattern::Cancelled => 1,
            Pattern::NeverAccepted => 2,
            Pattern::HalfOpen => 3,
            _ => 4 + plan::server(index),
        };
        SocketAddrV4::new(plan::address(index), self.ports[place]).into()
    }
}

/// One thread that connects, one connection after another.
struct Thread<'a> {
    client: &'a Client<'a>,
    truth: Writer,
    ring: Option<Ring>,
    passing: UnixStream,
}

impl Thread<'_> {
    fn run(&mut self, index: u32, pattern: Pattern) -> Result<()> {
        let to = self.client.destination(index, pattern);
        match pattern {
            Pattern::Refused => expect_refusal(TcpStream::connect(to).map(drop).err()),
            Pattern::RefusedLater => expect_refusal(later(to).map(drop).err()),
            Pattern::Cancelled => {
                let attempt = tcp(AddressFamily::INET, SocketFlags::NONBLOCK)?;
                ensure!(connect(&attempt, &to) == Err(Errno::INPROGRESS));
                Ok(())
            }
            Pattern::NeverAccepted | Pattern::HalfOpen => reset(TcpStream::connect(to)?),
            Pattern::Plain => exchange(TcpStream::connect(to)?, index, pattern),
            Pattern::Later => exchange(later(to)?, index, pattern),
            Pattern::Mapped => exchange(TcpStream::connect(mapped(to))?, index, pattern),
            Pattern::Ring => exchange(self.through_ring(to)?, index, pattern),
            Pattern::Aborted => {
                let mut stream = TcpStream::connect(to)?;
                ask(&mut stream, index)?;
                stream.read_exact(&mut [0; 512][..plan::down(index)])?;
                reset(stream)
            }
            Pattern::Passed => {
                let mut stream = TcpStream::connect(to)?;
                ask(&mut stream, index)?;
                pass(&self.passing, [stream.as_fd()])
            }
            Pattern::Forked => {
                let mut stream = TcpStream::connect(to)?;
                ask(&mut stream, index)?;
                in_worker(move || await_end(stream))
            }
        }
    }

    fn through_ring(&mut self, to: SocketAddr) -> Result<TcpStream> {
        let Some(ring) = &mut self.ring else {
            return Ok(TcpStream::connect(to)?);
        };
        let socket = tcp(AddressFamily::INET, SocketFlags::empty())?;
        let result = ring.connect(socket.as_raw_fd(), to)?;
        ensure!(result == 0, "errno {}", -result);
        Ok(TcpStream::from(socket))
    }
}

/// Connects without waiting in connect.
fn later(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tcp(AddressFamily::INET, SocketFlags::NONBLOCK)?;
    match connect(&socket, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None)?;
            sockopt::socket_error(&socket)??;
        }
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn mapped(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(to) => SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into(),
        SocketAddr::V6(_) => to,
    }
}

fn expect_refusal(error: Option<std::io::Error>) -> Result<()> {
    let errno = error.and_then(|error| error.raw_os_error());
    ensure!(errno == Some(libc::ECONNREFUSED), "errno {errno:?}");
    Ok(())
}

fn ask(stream: &mut TcpStream, index: u32) -> Result<()> {
    Ok(stream.write_all(&[0x5a; 512][..plan::up(index)])?)
}

fn exchange(mut stream: TcpStream, index: u32, pattern: Pattern) -> Result<()> {
    ask(&mut stream, index)?;
    stream.read_exact(&mut [0; 512][..plan::down(index)])?;
    if plan::acceptor_closes_first(index, pattern) {
        await_end(stream)?;
    }
    Ok(())
}

fn await_end(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 512];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn reset(stream: TcpStream) -> Result<()> {
    Ok(sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// Takes over what is passed through stdin, reads what is to come, and closes it.
pub(in super::super) fn close_passed(_: &[OsString]) -> Result<()> {
    begin_role()?;
    let stdin = std::io::stdin();
    while let Some([stream]) = receive_if_any(stdin.as_fd())? {
        await_end(TcpStream::from(stream))?;
    }
    Ok(())
}
