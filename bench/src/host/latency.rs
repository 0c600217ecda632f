//! How late a lone event is: from the return of `connect` to its line.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Lines, Tracer};
use crate::processors;

/// Connections, and the pause before each: longer than the tracer lets records gather.
const COUNT: usize = 300;
const PAUSE: Duration = Duration::from_millis(50);

/// A line that takes longer does not come.
const DEADLINE: Duration = Duration::from_secs(5);

/// Seconds, one for each connection.
pub(crate) fn measure(tracer: &Tracer) -> Result<Value> {
    let mut daemon = Daemon::start(tracer, Lines::Read, &processors::all()?)?;
    let (lines, (sender, opened)) = (daemon.lines()?, channel());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let port = listener.local_addr()?.port();
    let reader = thread::spawn(move || tell_opened(lines, port, &sender));
    let latencies = (0..COUNT).map(|_| one(&listener, &opened));
    let latencies = latencies.collect::<Result<Vec<f64>>>()?;
    daemon.end()?;
    reader.join().expect("the reader does not panic");
    Ok(json!(latencies))
}

/// Connects, and waits for the line that says so.
fn one(listener: &TcpListener, opened: &Receiver<(Instant, String)>) -> Result<f64> {
    thread::sleep(PAUSE);
    let initiator = TcpStream::connect(listener.local_addr()?).context("connecting")?;
    let connected = Instant::now();
    let source = format!("\"port\":{}", initiator.local_addr()?.port());
    loop {
        let line = opened.recv_timeout(DEADLINE);
        let (at, line) = line.context("a connection was not told of")?;
        if line.contains(&source) {
            drop(listener.accept()?);
            // A line may be read before this thread looks at the clock.
            return Ok(at.saturating_duration_since(connected).as_secs_f64());
        }
    }
}

/// Passes on the lines about connections opened to a port, each with the time at which it came.
fn tell_opened(lines: ChildStdout, port: u16, to: &Sender<(Instant, String)>) {
    let port = format!("\"port\":{port}");
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        let at = Instant::now();
        if line.contains("\"connection_opened\"")
            && line.contains(&port)
            && to.send((at, line)).is_err()
        {
            break;
        }
    }
}
