//! Listeners and who accepts from them: the process itself, its thread, a forked worker, nobody.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::json;

use super::{binary, exchange, parsed, tell, wait_for_go, word};

/// Accepts one connection. Argument: `with-address` or `without-address` (does accept ask for the
/// peer's), `in-thread` or `in-worker` (who calls it). Facts: `{"port", "acceptor"}` just before, with
/// the acceptor's PID; then `[peer port, sent, received]`.
pub(super) fn accept(arguments: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    match word(arguments, 0)? {
        "with-address" => accept_one(&listener, true),
        "without-address" => accept_one(&listener, false),
        "in-thread" => {
            let thread = std::thread::spawn(move || accept_one(&listener, true));
            thread.join().map_err(|_| anyhow!("the thread panicked"))?
        }
        "in-worker" => in_worker(|| accept_one(&listener, true)),
        other => bail!("no such way to accept: {other}"),
    }
}

pub(super) fn accept_one(listener: &TcpListener, ask_address: bool) -> Result<()> {
    tell(&json!({"port": listener.local_addr()?.port(), "acceptor": std::process::id()}))?;
    let stream = match ask_address {
        true => listener.accept()?.0,
        false => TcpStream::from(rustix::net::accept(listener)?),
    };
    tell(&exchange::answer(stream)?)
}

/// Runs something in a forked process, to its end.
pub(super) fn in_worker(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: a workload has a single thread until it starts one, and this one has started none,
    // so the child may do whatever its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("fork"),
        0 => {
            let result = work();
            if let Err(error) = &result {
                eprintln!("worker: {error:#}");
            }
            std::process::exit(i32::from(result.is_err()))
        }
        worker => {
            let (_, status) =
                waitpid(Pid::from_raw(worker), WaitOptions::empty())?.context("the worker ends")?;
            ensure!(
                status.exit_status() == Some(0),
                "the worker ended with {status:?}"
            );
            Ok(())
        }
    }
}

/// Listens, and closes the listener with a connection that nobody has accepted. Facts: `{"port"}`,
/// and after a go `{}`.
pub(super) fn never(_: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(&json!({"port": listener.local_addr()?.port()}))?;
    wait_for_go()?;
    drop(listener);
    tell(&json!({}))
}

/// Listens, and closes the listener when told to. Argument: on which address. Facts: `{"port"}`,
/// and after a go `{}`.
pub(super) fn listen(arguments: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind(parsed::<SocketAddr>(arguments, 0)?)?;
    tell(&json!({"port": listener.local_addr()?.port()}))?;
    wait_for_go()?;
    drop(listener);
    tell(&json!({}))
}

/// Accepts some connections, and then lets a shell run the workload `connect`. Arguments: how many to accept;
/// to where the shell's child connects once. Facts: `{"port"}` just before, then that of `connect`.
pub(super) fn and_run(arguments: &[OsString]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let count: usize = parsed(arguments, 0)?;
    let address = word(arguments, 1)?;
    tell(&json!({"port": listener.local_addr()?.port()}))?;
    let visits: Vec<_> = (0..count)
        .map(|_| listener.accept())
        .collect::<Result<_, _>>()?;
    // A second command keeps the shell from becoming the first.
    let script = format!("\"$0\" --workload connect 1 {address}; true");
    let status = Command::new("sh")
        .args(["-c", &script])
        .arg(binary())
        .status()?;
    ensure!(status.success(), "the shell ended with {status}");
    drop(visits);
    Ok(())
}
