//! The workloads: each a simple thing that programs do, again and again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A program to execute that ends at once. Debian's busybox is linked statically.
pub(crate) const PROGRAM: [&str; 2] = ["/usr/bin/busybox", "true"];

/// Arguments of a tracer that tells of a process only what it executes.
pub(crate) const ONE_EVENT: [&str; 2] = ["--events", "process_exec"];

/// Between rounds. An idle guest jumps to its next timer.
const REST: Duration = Duration::from_secs(1);

/// Between rounds of connections: the kernel keeps for 60 s what is left of a closed one
/// (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const REST_OF_CONNECTIONS: Duration = Duration::from_secs(62);

/// Something to do, and how often it has been done.
pub(crate) struct Workload {
    /// As the budget names it.
    pub(crate) name: &'static str,
    /// Operations since this was set to zero.
    pub(crate) done: u32,
    /// Events that one operation leads to: how many of which action.
    pub(crate) events: &'static [(&'static str, u32)],
    /// The port that it connects to, if it does.
    pub(crate) port: Option<u16>,
    /// Operations in a round: some hundred thousand instructions, up to a hundred million.
    round: u32,
    rest: Duration,
    operation: Box<dyn FnMut() -> Result<()>>,
}

impl Workload {
    /// All of them.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let process = process("process", &[("process_exec", 1), ("process_exit", 1)]);
        Ok(vec![
            getppid(),
            refused()?,
            datagram()?,
            connection()?,
            process,
        ])
    }

    /// The process, for a tracer that writes one event of it: [`ONE_EVENT`].
    pub(crate) fn process_with_one_event() -> Self {
        process("process_exec", &[("process_exec", 1)])
    }

    /// Waits until earlier rounds have left nothing behind.
    pub(crate) fn rest(&self) {
        std::thread::sleep(self.rest);
    }

    /// Does a round's operations; how long it took.
    pub(crate) fn timed(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        for _ in 0..self.round {
            (self.operation)()?;
        }
        let took = begin.elapsed();
        self.done += self.round;
        Ok(took)
    }

    /// Does `count` operations, each followed by a pause.
    pub(crate) fn slowly(&mut self, count: u32, pause: Duration) -> Result<()> {
        for _ in 0..count {
            (self.operation)()?;
            self.done += 1;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// One operation's share of a round, in instructions.
    pub(crate) fn share(&self, round: Duration) -> f64 {
        round.as_secs_f64() * 1e9 / f64::from(self.round)
    }
}

/// A system call that nobody traces.
fn getppid() -> Workload {
    Workload {
        name: "getppid",
        done: 0,
        events: &[],
        port: None,
        round: 50_000,
        rest: REST,
        operation: Box::new(|| {
            std::hint::black_box(std::os::unix::process::parent_id());
            Ok(())
        }),
    }
}

/// A connection to a port where nobody listens.
fn refused() -> Result<Workload> {
    let (listener, address) = listen()?;
    drop(listener);
    Ok(Workload {
        name: "refused",
        done: 0,
        events: &[("connection_failed", 1)],
        port: Some(address.port()),
        round: 3_000,
        rest: REST,
        operation: Box::new(move || match TcpStream::connect(address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => bail!("{other:?} instead of a refusal"),
        }),
    })
}

/// A datagram over loopback, sent and received by this process: each of its two sockets has one flow.
fn datagram() -> Result<Workload> {
    let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (sender, receiver) = (socket()?, socket()?);
    sender.connect(receiver.local_addr()?)?;
    Ok(Workload {
        name: "datagram",
        done: 0,
        events: &[],
        port: None,
        round: 10_000,
        rest: REST,
        operation: Box::new(move || {
            sender.send(&[1; 100])?;
            receiver.recv(&mut [0; 128])?;
            Ok(())
        }),
    })
}

/// A connection over loopback, made and accepted by this process, that carries a byte each way.
fn connection() -> Result<Workload> {
    let (listener, address) = listen()?;
    Ok(Workload {
        name: "connection",
        done: 0,
        events: &[
            ("connection_opened", 1),
            ("connection_accepted", 1),
            ("connection_closed", 2),
        ],
        port: Some(address.port()),
        round: 700,
        rest: REST_OF_CONNECTIONS,
        operation: Box::new(move || {
            let mut initiator = TcpStream::connect(address)?;
            let mut acceptor = listener.accept()?.0;
            initiator.write_all(&[1])?;
            acceptor.read_exact(&mut [0])?;
            acceptor.write_all(&[2])?;
            initiator.read_exact(&mut [0])?;
            Ok(())
        }),
    })
}

/// A process that executes another program and ends.
fn process(name: &'static str, events: &'static [(&'static str, u32)]) -> Workload {
    let [program, argument] = PROGRAM;
    Workload {
        name,
        done: 0,
        events,
        port: None,
        round: 150,
        rest: REST,
        operation: Box::new(move || {
            let status = Command::new(program).arg(argument).status();
            let status = status.with_context(|| format!("starting {program}"))?;
            ensure!(status.success(), "{program}: {status}");
            Ok(())
        }),
    }
}

/// A listener on a free port.
fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
