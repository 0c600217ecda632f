//! Deeds that can be told apart, one every few milliseconds: the first that a tool tells of is when it
//! began to see.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::output::Output;
use super::tool::{Running, Tool};
use crate::workload::PROGRAM;

/// Between two deeds.
const PAUSE: Duration = Duration::from_millis(5);

/// A tool that has been found waiting so often in a row has nothing more to prepare.
const SETTLED: u32 = 200;

/// A tool that prepares longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// What is done.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    Connect,
    Execute,
}

/// What was done, in order.
pub(super) struct Probes(Vec<(Duration, String)>);

/// Does it again and again until the tool, which has just been started, seems to wait for something to see.
pub(super) fn until_settled(tool: &Tool, running: &mut Running) -> Result<Probes> {
    let begin = Instant::now();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listening")?;
    let mut probes = Vec::new();
    let mut asleep = 0;
    while asleep < SETTLED {
        let time = begin.elapsed();
        ensure!(time < DEADLINE, "{} does not settle", tool.name);
        let number = u16::try_from(probes.len()).context("too many probes")?;
        probes.push((time, tool.deed.done(number, &listener)?));
        thread::sleep(PAUSE);
        asleep = if running.is_asleep()? { asleep + 1 } else { 0 };
    }
    Ok(Probes(probes))
}

impl Deed {
    /// Does it; the word by which it can be known.
    fn done(self, number: u16, listener: &TcpListener) -> Result<String> {
        match self {
            Self::Connect => {
                let [high, low] = number.to_be_bytes();
                let peer = Ipv4Addr::new(127, 77, high, low);
                let address = SocketAddr::from((peer, listener.local_addr()?.port()));
                let initiator = TcpStream::connect(address).context("a probe")?;
                drop((initiator, listener.accept()?));
                Ok(peer.to_string())
            }
            Self::Execute => {
                let word = format!("probe{number}");
                let [program, argument] = PROGRAM;
                let status = Command::new(program).args([argument, &word]).status()?;
                ensure!(status.success(), "a probe: {status}");
                Ok(word)
            }
        }
    }
}

impl Probes {
    /// When the first was done that the tool told of.
    pub(super) fn first_in(&self, output: &Output) -> Option<Duration> {
        let mut probes = self.0.iter();
        let told = probes.find(|(_, word)| output.has(word));
        told.map(|(time, _)| *time)
    }
}
