//! Memory of many processes, and of many connections.
//!
//! In: how many. Out: bytes for each of them: by how much the resident set has grown, and what was
//! allocated. Their records are made one by one, so that nothing else is held meanwhile.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use rustix::param::page_size;
use serde_json::{Value, json};
use tracer::event::Totals;
use tracer_common::record::Task;

use crate::allocator;
use crate::population::{self, BASH, Births, INIT};
use crate::random::Random;
use crate::replay::{Output, Replay};
use crate::wire::{self, Sock};

/// How many generations the processes are below PID 1, at least.
const DEPTH: usize = 5;

/// Those who fork, or own connections.
const PARENTS: usize = 300;

const MICROSECOND: u64 = 1_000;

struct Bench {
    replay: Replay,
    births: Births,
    random: Random,
    now: u64,
}

impl Bench {
    fn new() -> Result<Self> {
        let replay = Replay::new(Output::None)?;
        Ok(Self {
            replay,
            births: Births::new(),
            random: Random::new(1),
            now: 100_000_000_000,
        })
    }

    fn take_in(&mut self, record: &[u8]) {
        self.replay.take_in(&mut [record].into_iter(), 1);
        self.now += MICROSECOND;
    }

    fn spawn(&mut self, parent: Task) -> Task {
        let (child, fork) = self.births.fork(self.now, parent);
        self.take_in(&fork);
        let (task, exec) = population::exec(self.now, child, &BASH, &mut self.random);
        self.take_in(&exec);
        task
    }

    /// The last of some families.
    fn parents(&mut self) -> Vec<Task> {
        let mut family = |_| (0..DEPTH).fold(INIT, |parent, _| self.spawn(parent));
        (0..PARENTS).map(&mut family).collect()
    }
}

/// Bytes for each of `count` living processes.
pub(crate) fn processes(count: usize) -> Result<Value> {
    let mut bench = Bench::new()?;
    let parents = bench.parents();
    let before = Memory::now()?;
    for number in 0..count {
        bench.spawn(parents[number % PARENTS]);
    }
    let entries = bench.replay.state.counters().process_entries;
    ensure!(entries >= count, "{entries} processes in the table");
    before.growth(count)
}

/// Bytes for each of `count` open connections, half of them inbound, a third over IPv6, with totals
/// that the metrics have sampled.
pub(crate) fn connections(count: usize) -> Result<Value> {
    let mut bench = Bench::new()?;
    let owners = bench.parents();
    let before = Memory::now()?;
    for number in 0..count {
        let (owner, sock) = (owners[number % PARENTS], sock(number as u32));
        if number.is_multiple_of(2) {
            let connect = wire::connect(bench.now, owner, &sock);
            bench.take_in(&connect);
            let established = wire::established(bench.now, &sock);
            bench.take_in(&established);
        } else {
            let accept = wire::accept(bench.now, owner, &sock);
            bench.take_in(&accept);
        }
    }
    let Replay { state, metrics, .. } = &bench.replay;
    // Twice, because samples take turns.
    for _ in 0..2 {
        let sampled = |id| (id, Some(Totals::default()));
        metrics.sample(state.open_connections().map(|it| sampled(it.id)));
    }
    let counters = state.counters().connections;
    let open = counters.active_egress + counters.active_ingress;
    ensure!(open == count as u64, "{open} connections are open");
    before.growth(count)
}

/// A socket like no other.
fn sock(number: u32) -> Sock {
    let local_port = 32_768 + (number % 16_384) as u16;
    let [_, high, middle, low] = (number / 16_384 * 50).to_be_bytes();
    let (local, remote): (SocketAddr, SocketAddr) = if number.is_multiple_of(3) {
        let remote = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high.into(), low.into());
        let local = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        ((local, local_port).into(), (remote, 443).into())
    } else {
        let local = Ipv4Addr::new(10, 0, 0, 1);
        let remote = Ipv4Addr::new(203, high, middle, low);
        ((local, local_port).into(), (remote, 443).into())
    };
    Sock {
        address: 0xffff_8881_0000_0000 + u64::from(number) * 2_304,
        netns: 4_026_531_840,
        local,
        remote,
        is_ipv6: local.is_ipv6(),
    }
}

/// Memory at one moment, in bytes.
struct Memory {
    resident: usize,
    allocated: usize,
}

impl Memory {
    fn now() -> Result<Self> {
        let statm = fs::read_to_string("/proc/self/statm").context("reading /proc/self/statm")?;
        let pages = statm.split_whitespace().nth(1).context("no resident set")?;
        Ok(Self {
            resident: pages.parse::<usize>()? * page_size(),
            allocated: allocator::bytes(),
        })
    }

    /// What has been added since, for each of `count`.
    fn growth(&self, count: usize) -> Result<Value> {
        let now = Self::now()?;
        let each = |now: usize, before: usize| now.saturating_sub(before) as f64 / count as f64;
        Ok(json!({
            "resident": each(now.resident, self.resident),
            "allocated": each(now.allocated, self.allocated),
        }))
    }
}
