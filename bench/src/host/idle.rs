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
    let round = |_| {
        let (before, kept) = (daemon.usage()?, daemon.kept()?);
        thread::sleep(ROUND);
        let spent = daemon.usage()?.time - before.time;
        let share = spent.as_secs_f64() / ROUND.as_secs_f64();
        Ok(json!({"share": share, "events": daemon.kept()? - kept}))
    };
    let rounds = (0..ROUNDS).map(round).collect::<Result<Vec<Value>>>()?;
    daemon.end()?;
    Ok(json!(rounds))
}
