//! What the tracer takes of a processor when nothing happens, and what happened nevertheless: other
//! programs on this machine do something, too.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Lines, Tracer};
use crate::processors;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(10);

/// For each round, the part of one processor and the number of events.
pub(crate) fn measure(tracer: &Tracer) -> Result<Value> {
    let daemon = Daemon::start(tracer, Lines::Kept, &processors::all()?)?;
    thread::sleep(Duration::from_secs(1));
    let (mut shares, mut events) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (before, kept) = (daemon.usage()?, daemon.kept()?);
        thread::sleep(ROUND);
        let spent = daemon.usage()?.time - before.time;
        shares.push(spent.as_secs_f64() / ROUND.as_secs_f64());
        events.push(daemon.kept()? - kept);
    }
    daemon.end()?;
    Ok(json!({"share": shares, "events": events}))
}
