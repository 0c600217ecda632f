//! Many short lives: PIDs that are used again at once, and processes that begin and end faster than anyone can ask
//! about them.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, getpid, set_child_subreaper};
use serde_json::json;

use super::failing::{refused_once, refusing};
use super::mix::plan;
use super::{cloning, command, parsed, tell};
use crate::births::{CROWD, CROWD_STATUS};

/// Between how many PIDs the lives alternate.
const PIDS: usize = 4;
/// A parent ends with this if the PID of its child is taken.
const TAKEN: i32 = 9;

/// Lives two by two, a parent and its child, with the same few PIDs. Life N connects to `plan::address(N)`; every third
/// child does so when its parent has ended, and every fiftieth then becomes the workload `exit 0 N`. Argument: how many.
/// Fact: `{"forker": PID, "lives": [PID, …]}`; those with an even number were forked by the forker, the others by
/// the one before them.
pub(super) fn lives(arguments: &[OsString]) -> Result<()> {
    let count: u32 = parsed(arguments, 0)?;
    set_child_subreaper(Some(Pid::INIT))?;
    let (_taken, address) = refusing(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    let mut pids = free_pids()?;
    let mut lives = Vec::new();
    for round in 0..count / 2 {
        loop {
            let pair = pair(&pids, round as usize);
            if live(round, pair, address.port())? {
                lives.extend(pair);
                break;
            }
            pids = free_pids()?;
        }
    }
    tell(&json!({"forker": std::process::id(), "lives": lives}))
}

/// PIDs that nobody has now.
fn free_pids() -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for _ in 0..PIDS {
        match cloning::fork()? {
            Some(child) => pids.push(child),
            None => cloning::leave(0),
        }
    }
    cloning::reap_all()?;
    Ok(pids)
}

/// The PIDs of a parent and its child: each has been that of both in other rounds.
fn pair(pids: &[u32], round: usize) -> [u32; 2] {
    let parent = round % PIDS;
    let distance = 1 + round / PIDS % (PIDS - 1);
    [pids[parent], pids[(parent + distance) % PIDS]]
}

/// One parent and its child; false if somebody else has one of their PIDs.
fn live(round: u32, [parent, child]: [u32; 2], port: u16) -> Result<bool> {
    match fork_as(parent)? {
        Forked::Taken => return Ok(false),
        Forked::Child => cloning::end(&live_as_parent(round, child, port)),
        Forked::Parent => {}
    }
    let mut is_done = true;
    while let Some(status) = cloning::reap()? {
        match status.exit_status() {
            Some(0) => {}
            Some(TAKEN) => is_done = false,
            _ => bail!("a life of round {round} ended with {status:?}"),
        }
    }
    Ok(is_done)
}

fn live_as_parent(round: u32, child: u32, port: u16) -> Result<()> {
    let own = getpid();
    match fork_as(child)? {
        Forked::Taken => cloning::leave(TAKEN),
        Forked::Child => cloning::end(&live_as_child(round, own, port)),
        Forked::Parent => connect(2 * round, port)?,
    }
    if !is_orphan(round) {
        cloning::reap_all()?;
    }
    Ok(())
}

fn live_as_child(round: u32, parent: Pid, port: u16) -> Result<()> {
    if is_orphan(round) {
        cloning::await_end(parent)?;
    }
    let life = 2 * round + 1;
    connect(life, port)?;
    if round.is_multiple_of(50) {
        return Err(command("exit", &["0", &life.to_string()]).exec()).context("exec");
    }
    Ok(())
}

/// Whether the child of this round sees its parent end.
fn is_orphan(round: u32) -> bool {
    round.is_multiple_of(3)
}

fn connect(life: u32, port: u16) -> Result<()> {
    let address = SocketAddr::from((plan::address(life), port));
    refused_once(address, false)?;
    Ok(())
}

/// What became of a fork.
enum Forked {
    Parent,
    Child,
    Taken,
}

/// Makes a child with this PID.
fn fork_as(pid: u32) -> Result<Forked> {
    let pid = i32::try_from(pid)?;
    let mut arguments = cloning::arguments();
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = (&raw const pid).addr() as u64;
    arguments.set_tid_size = 1;
    match cloning::clone3(&arguments) {
        Ok(None) => Ok(Forked::Child),
        Ok(Some(_)) => Ok(Forked::Parent),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(Forked::Taken),
        Err(error) => Err(error).context("clone3 with a PID needs CAP_SYS_ADMIN"),
    }
}

/// Processes that each have [`BROOD`] children, and end together with them without waiting for them.
const BROOD: usize = 7;
/// No more than these live at a time.
const ALIVE: usize = 256;

/// Makes a crowd of processes that do nothing but end, with [`CROWD_STATUS`]; each eighth is the parent of the others.
/// Argument: how many. Fact: `{"forker": PID, "count"}`, how many they were.
pub(super) fn crowd(arguments: &[OsString]) -> Result<()> {
    let families = parsed::<usize>(arguments, 0)? / (BROOD + 1);
    set_child_subreaper(Some(Pid::INIT))?;
    cloning::rename(CROWD)?;
    let mut alive = 0;
    for _ in 0..families {
        if cloning::fork()?.is_none() {
            have_children();
        }
        alive += BROOD + 1;
        while alive > ALIVE {
            reap_one()?;
            alive -= 1;
        }
    }
    for _ in 0..alive {
        reap_one()?;
    }
    ensure!(
        cloning::reap()?.is_none(),
        "there are more than there can be"
    );
    tell(&json!({"forker": std::process::id(), "count": families * (BROOD + 1)}))
}

fn have_children() -> ! {
    for _ in 0..BROOD {
        match cloning::fork() {
            Ok(Some(_)) => {}
            Ok(None) => cloning::leave(CROWD_STATUS),
            Err(_) => cloning::leave(1),
        }
    }
    cloning::leave(CROWD_STATUS)
}

fn reap_one() -> Result<()> {
    let status = cloning::reap()?.context("a process is missing")?;
    let status = status.exit_status();
    ensure!(status == Some(CROWD_STATUS), "one ended with {status:?}");
    Ok(())
}
