//! Connections whose opener is hard to name: another thread, a process that becomes another
//! program, and one that is to be left out of what is shown.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use super::{command, exchange, parsed, tell, wait_for_go, word};

/// Connects from a thread other than the leader, under a name of its own. Argument: to which
/// address. Fact: `[local port, sent, received]`.
pub(super) fn in_thread(arguments: &[OsString]) -> Result<()> {
    let address: SocketAddr = parsed(arguments, 0)?;
    let thread = std::thread::Builder::new().name("not-the-leader".to_owned());
    let thread = thread.spawn(move || exchange::ask(TcpStream::connect(address)?, 0))?;
    tell(
        &thread
            .join()
            .map_err(|_| anyhow!("the thread panicked"))??,
    )
}

/// Connects, becomes the workload `connect` and connects once more. Arguments: `leader` or
/// `thread`, which calls exec; to which address. Facts: two times those of `connect`.
pub(super) fn then_exec(arguments: &[OsString]) -> Result<()> {
    let address: SocketAddr = parsed(arguments, 1)?;
    tell(&json!([exchange::ask(TcpStream::connect(address)?, 0)?]))?;
    let become_connect = move || command("connect", &["1", &address.to_string()]).exec();
    let error = match word(arguments, 0)? {
        "leader" => become_connect(),
        "thread" => std::thread::spawn(become_connect)
            .join()
            .map_err(|_| anyhow!("the thread panicked"))?,
        other => bail!("neither leader nor thread: {other}"),
    };
    Err(error).context("exec of this binary")
}

/// Connects to itself every few milliseconds until it is told to go. Facts: `{"port"}` once there
/// has been a connection.
pub(super) fn until_told(_: &[OsString]) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, told) = channel();
    std::thread::spawn(move || sender.send(wait_for_go()));
    for round in 0.. {
        let client = TcpStream::connect(address)?;
        drop(listener.accept()?);
        drop(client);
        if round == 0 {
            tell(&json!({"port": address.port()}))?;
        }
        match told.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the thread panicked"),
            Ok(result) => return result,
        }
    }
    Ok(())
}
