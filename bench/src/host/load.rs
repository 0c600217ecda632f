//! What this machine is made to do, how often it manages in a while, and what processor time that takes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use crate::processors;

/// How long a round is.
const ROUND: Duration = Duration::from_millis(700);

/// A program to execute that ends at once.
const PROGRAM: &str = "/bin/true";

/// Something to do again and again.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// A client and a server, one connection after the other, a byte each way.
    Connections,
    /// A process that executes another program and ends.
    Processes,
}

/// What came of it.
pub(crate) struct Round {
    /// Operations.
    pub(crate) done: f64,
    pub(crate) took: Duration,
    /// What the load itself had of processors.
    pub(crate) processor: Duration,
}

impl Load {
    /// One of these on each of the processors, for one round.
    pub(crate) fn round(self, processors: &[usize]) -> Result<Round> {
        let (begin, had) = (Instant::now(), own_time()?);
        let workers = processors.iter().map(|&processor| {
            thread::spawn(move || {
                processors::keep_to(&[processor])?;
                match self {
                    Self::Connections => connections(),
                    Self::Processes => processes(),
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        Ok(Round {
            done: done.sum::<Result<u64>>()? as f64,
            took: begin.elapsed(),
            processor: own_time()? - had,
        })
    }
}

/// The processor time of this process and of its children that have ended. A child's is counted when it
/// is waited for, in ticks all together.
fn own_time() -> Result<Duration> {
    let own = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime));
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // The name in parentheses may contain anything; behind it the state is the third field (proc(5)).
    let fields = stat.rsplit_once(") ").context("no fields")?.1;
    let of_children = fields.split(' ').skip(16 - 3).take(2);
    let ticks = of_children.map(|ticks| ticks.parse::<u64>().context("no ticks"));
    let ticks = ticks.sum::<Result<u64>>()? as f64 / clock_ticks_per_second() as f64;
    Ok(own.context("the clock of this process")? + Duration::from_secs_f64(ticks))
}

fn connections() -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listening")?;
    let port = listener.local_addr()?.port();
    // It inherits the processor.
    let server = thread::spawn(move || serve(&listener));
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < ROUND {
        // Closed connections keep their ports for a while: each thousand goes to an address of its own.
        let [high, low] = u16::try_from(done / 1000).unwrap_or(u16::MAX).to_be_bytes();
        let mut initiator = TcpStream::connect((Ipv4Addr::new(127, 1, high, low), port))?;
        initiator.write_all(&[1])?;
        ensure!(initiator.read(&mut [0])? == 1, "the server has gone");
        done += 1;
    }
    // One without a byte ends the server.
    drop(TcpStream::connect(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port,
    )))?);
    server.join().expect("the server does not panic")?;
    Ok(done)
}

fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let mut acceptor = listener.accept()?.0;
        if acceptor.read(&mut [0])? == 0 {
            return Ok(());
        }
        acceptor.write_all(&[2])?;
    }
}

fn processes() -> Result<u64> {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < ROUND {
        let status = Command::new(PROGRAM).status();
        ensure!(
            status.context("starting a program")?.success(),
            "{PROGRAM} failed"
        );
        done += 1;
    }
    Ok(done)
}
