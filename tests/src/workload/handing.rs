//! Descriptors that go from one process to another: listeners before anything is accepted from them, and
//! connections whose opener closes nothing itself.

use std::ffi::{CString, OsString};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::io::{FdFlags, dup2, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open,
    set_parent_process_death_signal,
};
use serde_json::json;

use super::accepting::{accept_one, in_worker};
use super::failing::LOOPBACK;
use super::{command, parsed, tell, word};

/// Where systemd puts the first socket that it hands to a service.
const LISTEN_FDS_START: RawFd = 3;

/// Listens and leaves the accepting to another process. Argument: how that gets the listener,
/// `inherited` (fork and exec), `activated` (as by systemd) or `passed` (SCM_RIGHTS). Facts: the
/// acceptor's, as those of `accept`.
pub(super) fn listener(arguments: &[OsString]) -> Result<()> {
    let way = word(arguments, 0)?;
    let listener = TcpListener::bind(LOOPBACK)?;
    let (ours, theirs) = UnixStream::pair()?;
    let descriptor = listener.as_raw_fd();
    let mut taker = command("take-listener", &[way, &descriptor.to_string()]);
    taker.stdin(OwnedFd::from(theirs));
    match way {
        "inherited" => fcntl_setfd(&listener, FdFlags::empty())?,
        "activated" => activate(&mut taker, &listener)?,
        _ => {}
    }
    let mut taker = taker.spawn()?;
    if way == "passed" {
        pass(&ours, [listener.as_fd()])?;
    }
    drop(listener);
    let status = taker.wait()?;
    ensure!(status.success(), "the acceptor ended with {status}");
    Ok(())
}

/// Prepares a command as systemd does for a service with one socket.
fn activate(service: &mut Command, listener: &TcpListener) -> Result<()> {
    let listener = listener.try_clone()?;
    let prepare = move || {
        // SAFETY: the number is not taken by anything that this child, about to exec, still needs;
        // it is forgotten below, so that nobody closes it.
        let mut first = unsafe { OwnedFd::from_raw_fd(LISTEN_FDS_START) };
        dup2(&listener, &mut first)?;
        std::mem::forget(first);
        let pid = CString::new(std::process::id().to_string())?;
        // SAFETY: a child of fork has a single thread. The standard library's own function waits for a lock
        // that it takes around the fork.
        unsafe {
            libc::setenv(c"LISTEN_PID".as_ptr(), pid.as_ptr(), 1);
            libc::setenv(c"LISTEN_FDS".as_ptr(), c"1".as_ptr(), 1);
        }
        Ok(())
    };
    // SAFETY: this process has a single thread, so its child may do whatever it may.
    unsafe { service.pre_exec(prepare) };
    Ok(())
}

/// The other process of `hand-listener`. Arguments: how it gets the listener, and under which number.
pub(super) fn take_listener(arguments: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let listener = match word(arguments, 0)? {
        "inherited" => owned(parsed(arguments, 1)?),
        "activated" => {
            let variable = |name| std::env::var(name).with_context(|| format!("no {name}"));
            ensure!(variable("LISTEN_PID")? == std::process::id().to_string());
            ensure!(variable("LISTEN_FDS")? == "1");
            owned(LISTEN_FDS_START)
        }
        "passed" => {
            let [listener] = receive(std::io::stdin().as_fd())?;
            listener
        }
        other => bail!("no such way to a listener: {other}"),
    };
    accept_one(&TcpListener::from(listener), true)
}

/// Both ends of a connection.
struct Pair {
    initiator: TcpStream,
    acceptor: TcpStream,
}

impl Pair {
    fn connect() -> Result<Pair> {
        let listener = TcpListener::bind(LOOPBACK)?;
        let initiator = TcpStream::connect(listener.local_addr()?)?;
        let acceptor = listener.accept()?.0;
        Ok(Pair {
            initiator,
            acceptor,
        })
    }

    fn of(descriptors: [OwnedFd; 2]) -> Pair {
        let [initiator, acceptor] = descriptors.map(TcpStream::from);
        Pair {
            initiator,
            acceptor,
        }
    }

    fn keep_over_exec(&self) -> Result<()> {
        fcntl_setfd(&self.initiator, FdFlags::empty())?;
        Ok(fcntl_setfd(&self.acceptor, FdFlags::empty())?)
    }

    /// Uses the connection, closes it, and tells of it.
    fn finish(mut self, opener: u32) -> Result<()> {
        self.initiator.write_all(&[0; 5])?;
        self.acceptor.read_exact(&mut [0; 5])?;
        let port = self.acceptor.local_addr()?.port();
        let local = self.initiator.local_addr()?.port();
        drop(self);
        let closer = std::process::id();
        tell(&json!({"port": port, "local": local, "opener": opener, "closer": closer}))
    }
}

/// Connects to itself and leaves the closing to someone else. Argument: how; see below. Fact, from
/// whoever closes, when the opener has ended: `{"port", "local", "opener", "closer"}`. The connection carries 5 bytes up.
pub(super) fn hand_over(arguments: &[OsString]) -> Result<()> {
    let pair = Pair::connect()?;
    let opener = std::process::id();
    let way = word(arguments, 0)?;
    match way {
        // To another descriptor of the same process.
        "duplicated" => {
            let copies = [pair.initiator.try_clone()?, pair.acceptor.try_clone()?];
            drop(pair);
            Pair::of(copies.map(OwnedFd::from)).finish(opener)
        }
        // A child has it for a while.
        "lent" => {
            in_worker(|| Ok(()))?;
            pair.finish(opener)
        }
        // To a child, without exec.
        "forked" => fork_and_end(pair, opener),
        // To the same process as another program.
        "executed" => {
            pair.keep_over_exec()?;
            let error = keeper(way, &pair).stdin(Stdio::null()).exec();
            Err(error).context("exec of this binary")
        }
        "inherited" | "passed" | "taken" => spawn_and_end(way, &pair),
        other => bail!("no such way to hand over: {other}"),
    }
}

fn fork_and_end(pair: Pair, opener: u32) -> Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    // SAFETY: a workload has a single thread until it starts one, and this one has started none.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("fork"),
        0 => {
            drop(ours);
            theirs.read_to_end(&mut Vec::new())?;
            pair.finish(opener)
        }
        _ => Ok(()),
    }
}

/// The workload `keep`, and where the ends are in this process.
fn keeper(way: &str, pair: &Pair) -> Command {
    let numbers = [pair.initiator.as_raw_fd(), pair.acceptor.as_raw_fd()];
    let [initiator, acceptor] = numbers.map(|number| number.to_string());
    let opener = std::process::id().to_string();
    command("keep", &[way, &opener, &initiator, &acceptor])
}

/// Ends, without closing anything, as soon as another program has both ends.
fn spawn_and_end(way: &str, pair: &Pair) -> Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    if way == "inherited" {
        pair.keep_over_exec()?;
    }
    keeper(way, pair).stdin(OwnedFd::from(theirs)).spawn()?;
    if way == "passed" {
        pass(&ours, [pair.initiator.as_fd(), pair.acceptor.as_fd()])?;
    }
    ours.read_exact(&mut [0])
        .context("the other process has both")?;
    std::process::exit(0)
}

/// The other program of `hand-over`. Arguments: how it gets both ends, from which process, and their
/// numbers there. It says that it has them, and waits for that process to end, on stdin.
pub(super) fn keep(arguments: &[OsString]) -> Result<()> {
    let opener: u32 = parsed(arguments, 1)?;
    let numbers: [RawFd; 2] = [parsed(arguments, 2)?, parsed(arguments, 3)?];
    let stdin = std::io::stdin();
    let pair = Pair::of(match word(arguments, 0)? {
        "executed" | "inherited" => numbers.map(owned),
        "passed" => receive(stdin.as_fd())?,
        "taken" => take(opener, numbers)?,
        other => bail!("no such way to be handed something: {other}"),
    });
    if opener != std::process::id() {
        rustix::io::write(&stdin, &[0])?;
        stdin.lock().read_to_end(&mut Vec::new())?;
    }
    pair.finish(opener)
}

/// A descriptor that came with this process.
fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: whoever started this process says that it is there, and nothing else uses it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn take(owner: u32, numbers: [RawFd; 2]) -> Result<[OwnedFd; 2]> {
    let owner = Pid::from_raw(i32::try_from(owner)?).context("a PID")?;
    let owner = pidfd_open(owner, PidfdFlags::empty())?;
    let take = |number| pidfd_getfd(&owner, number, PidfdGetfdFlags::empty());
    Ok([take(numbers[0])?, take(numbers[1])?])
}

pub(super) fn pass<const N: usize>(
    to: &UnixStream,
    descriptors: [BorrowedFd<'_>; N],
) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); 64];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive<const N: usize>(from: BorrowedFd<'_>) -> Result<[OwnedFd; N]> {
    receive_if_any(from)?.context("nothing was passed")
}

/// What is passed next; nothing once the other end is closed.
pub(super) fn receive_if_any<const N: usize>(from: BorrowedFd<'_>) -> Result<Option<[OwnedFd; N]>> {
    let mut space = [MaybeUninit::uninit(); 64];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(from, &mut [IoSliceMut::new(&mut [0])], &mut control, flags)?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<_>>()),
        _ => None,
    });
    let Some(descriptors) = rights else {
        return Ok(None);
    };
    let descriptors = <[OwnedFd; N]>::try_from(descriptors);
    let descriptors =
        descriptors.map_err(|other| anyhow!("{} descriptors instead of {N}", other.len()))?;
    Ok(Some(descriptors))
}
