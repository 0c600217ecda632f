//! What the tracer leaves of the machine's rates: rounds with it and without it, in pairs, and who goes
//! first takes turns.
//!
//! A load keeps its processors busy, so its rate is what an operation takes of them, and so is the part
//! that is left. In processor time it can be told on a machine that does other things as well; by the
//! clock, only on one that does not. (A kernel with `CONFIG_IRQ_TIME_ACCOUNTING` leaves softirqs out
//! of a process's time, and half of a loopback connection happens there.)

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Lines, Tracer};
use crate::load::{Load, Round};
use crate::processors::{self, Processors};

const PAIRS: usize = 25;

/// Longer than the tracer lets records gather.
const QUIET: Duration = Duration::from_millis(100);

/// A load, and who may use which processors.
struct Arrangement {
    name: &'static str,
    load: Load,
    of_load: Processors,
    of_tracer: Processors,
}

/// By arrangement, a number for each pair: the rate without the tracer and the part of it that is left with
/// it, both in processor time; that part by the clock; and the wake-ups for each line.
pub(crate) fn measure(tracer: &Tracer) -> Result<Value> {
    let mut results = json!({});
    for arrangement in arrangements()? {
        eprintln!("share of the rate: {}", arrangement.name);
        // Caches fill.
        arrangement.bare()?;
        let pairs = (0..PAIRS).map(|pair| arrangement.pair(tracer, pair % 2 == 0));
        let pairs = pairs.collect::<Result<Vec<Pair>>>()?;
        let numbers = |number: fn(&Pair) -> f64| pairs.iter().map(number).collect::<Vec<f64>>();
        results[arrangement.name] = json!({
            "rate": numbers(|pair| 1.0 / pair.bare),
            "share": numbers(|pair| pair.bare / pair.traced),
            "share_by_clock": numbers(|pair| pair.share_by_clock),
            "wake_ups": numbers(|pair| pair.wake_ups),
        });
    }
    Ok(results)
}

/// The first processor takes the interrupts of many machines, so that the tracer gets it.
fn arrangements() -> Result<[Arrangement; 3]> {
    let all = processors::all()?;
    let (first, last) = (vec![all[0]], all[all.len() - 1..].to_vec());
    let arrangement = |name, load, of_load: &Processors, of_tracer: &Processors| Arrangement {
        name,
        load,
        of_load: of_load.clone(),
        of_tracer: of_tracer.clone(),
    };
    Ok([
        arrangement("connections", Load::Connections, &last, &first),
        arrangement("processes", Load::Processes, &last, &first),
        arrangement("connections everywhere", Load::Connections, &all, &all),
    ])
}

/// A round without the tracer and one with it.
struct Pair {
    /// Seconds of processors that an operation takes.
    bare: f64,
    traced: f64,
    share_by_clock: f64,
    wake_ups: f64,
}

impl Arrangement {
    fn pair(&self, tracer: &Tracer, bare_first: bool) -> Result<Pair> {
        let (bare, traced) = if bare_first {
            (self.bare()?, self.traced(tracer)?)
        } else {
            let traced = self.traced(tracer)?;
            (self.bare()?, traced)
        };
        let rate = |round: &Round| round.done / round.took.as_secs_f64();
        let pair = Pair {
            bare: bare.processor.as_secs_f64() / bare.done,
            traced: traced.processor.as_secs_f64() / traced.round.done,
            share_by_clock: rate(&traced.round) / rate(&bare),
            wake_ups: traced.wake_ups,
        };
        let [without, with] = [pair.bare, pair.traced].map(|seconds| seconds * 1e6);
        eprintln!("  {without:.2} µs of processor each, {with:.2} with the tracer");
        Ok(pair)
    }

    fn bare(&self) -> Result<Round> {
        self.load.round(&self.of_load)
    }

    fn traced(&self, tracer: &Tracer) -> Result<Traced> {
        let daemon = Daemon::start(tracer, Lines::Kept, &self.of_tracer)?;
        let (before, kept) = (daemon.usage()?, daemon.kept()?);
        let round = self.bare()?;
        thread::sleep(QUIET);
        let (after, lines) = (daemon.usage()?, daemon.kept()? - kept);
        daemon.end()?;
        let mut processor = round.processor;
        if self.of_load == self.of_tracer {
            processor += after.time - before.time;
        }
        Ok(Traced {
            round,
            processor,
            wake_ups: (after.wake_ups - before.wake_ups) as f64 / lines.max(1) as f64,
        })
    }
}

struct Traced {
    round: Round,
    /// What the load had of its processors, and the tracer if they were its own, too.
    processor: Duration,
    wake_ups: f64,
}
