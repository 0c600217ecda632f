//! What `cargo xtask bench kernel` runs in its guest: each workload without the tracer, then with it. (And
//! what `cargo xtask bench peers` runs in its: `peers/`.)
//!
//! In: a hook mode; a guest whose clock advances by one nanosecond an instruction, on one processor
//! that runs nothing else. Out: on stdout one JSON object, all costs in instructions for one operation
//! and one number a round, as `xtask/src/bench/measurement.rs` reads it.
//!
//! - `bare`: without the tracer.
//! - `stopped`: it is attached, and its process stands still: what the kernel pays. The ring has room
//!   for everything.
//! - `running`: it writes JSON to a file in memory. A round ends when the tracer has no more to do.
//! - `daemon`: of that, the time that its process had.
//! - `idle`: what it spends in a second of doing nothing, what it does every half minute included. In the
//!   rounds it does not do that, which would fall into some of them and not into others.
//! - `programs`: what each kernel program took of a stopped round, while the kernel kept count. That
//!   costs something itself, so this round is in none of the others.

mod daemon;
mod guest;
mod peers;
mod processor;
mod programs;
mod rounds;
mod workload;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use daemon::Daemon;
use rounds::measure;
use workload::{ONE_EVENT, Workload};

/// Arguments of a tracer that does nothing of its own accord while rounds last.
const UNDISTURBED: [&str; 2] = ["--comparison", "1h"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    guest::prepare()?;
    let results = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["peer", name] => peers::measure(name)?,
        [mode] => costs(mode, None)?,
        [mode, workload] => costs(mode, Some(workload))?,
        _ => bail!("usage: bench-kernel MODE [WORKLOAD], or bench-kernel peer TOOL"),
    };
    println!("{results}");
    Ok(())
}

/// What the tracer costs in a hook mode: for each workload, or one.
fn costs(mode: &str, only: Option<&str>) -> Result<Value> {
    programs::name_them()?;
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut workloads = Workload::all()?;
    workloads.retain(|workload| is_wanted(workload.name));
    let mut results = Results::default();
    for workload in &mut workloads {
        eprintln!("bare: {}", workload.name);
        let rounds = measure(workload, Workload::timed)?;
        results.add("bare", workload.name, &rounds);
    }
    eprintln!("starting the tracer");
    let daemon = Daemon::start(mode, &[])?;
    results.0.insert("idle".to_owned(), json!(daemon.idle()?));
    daemon.end(&[])?;
    results.beside(mode, &UNDISTURBED, &mut workloads)?;
    let workload = Workload::process_with_one_event();
    if only.is_none() {
        let bare = results.0["bare"]["process"].clone();
        results.put("bare", workload.name, bare);
        let arguments = [UNDISTURBED, ONE_EVENT].concat();
        results.beside(mode, &arguments, &mut [workload])?;
    }
    Ok(Value::Object(results.0))
}

/// Numbers by condition and workload.
#[derive(Default)]
struct Results(Map<String, Value>);

impl Results {
    /// Workloads beside a tracer with these arguments.
    fn beside(&mut self, mode: &str, arguments: &[&str], workloads: &mut [Workload]) -> Result<()> {
        eprintln!("starting the tracer with {arguments:?}");
        let daemon = Daemon::start(mode, arguments)?;
        for workload in &mut *workloads {
            self.of_tracer(workload, &daemon)?;
        }
        daemon.end(workloads)
    }

    /// A workload beside the tracer, in all conditions.
    fn of_tracer(&mut self, workload: &mut Workload, daemon: &Daemon) -> Result<()> {
        workload.done = 0;
        eprintln!("stopped: {}", workload.name);
        let rounds = measure(workload, |workload| daemon.stopped(|| workload.timed()))?;
        self.add("stopped", workload.name, &rounds);
        eprintln!("running: {}", workload.name);
        let mut own = Vec::new();
        let rounds = measure(workload, |workload| {
            let (all, of_daemon) = daemon.running(|| workload.timed())?;
            own.push(workload.share(of_daemon));
            Ok(all)
        })?;
        let counted = own.len() - rounds.len();
        self.add("running", workload.name, &rounds);
        self.add("daemon", workload.name, &own[counted..]);
        let counted = programs::count(workload, daemon)?;
        self.put("programs", workload.name, counted);
        Ok(())
    }

    fn add(&mut self, condition: &str, workload: &str, rounds: &[f64]) {
        eprintln!("  {rounds:.1?}");
        self.put(condition, workload, json!(rounds));
    }

    fn put(&mut self, condition: &str, workload: &str, value: Value) {
        let of_condition = self.0.entry(condition).or_insert_with(|| json!({}));
        of_condition[workload] = value;
    }
}
