//! What another tracer costs, and how much it sees: in goes a tool's name, out comes one JSON object, as
//! `xtask/src/bench/peers.rs` reads it.
//!
//! The tool runs three times. From before it starts, something is done every few milliseconds: the first
//! of it that the tool tells is when it began to see. The first time, operations far apart follow. The
//! second time, rounds as those of `cargo xtask bench kernel`: hundreds of operations in a tenth of a
//! second. The third time, one such round each while the tool stands still, as a busy machine lets it: what
//! it tells of them has found room in its buffers. Output may be buffered, so it is read when the tool has
//! ended.

mod output;
mod probe;
mod tool;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::guest;
use crate::rounds::measure as rounds;
use crate::workload::Workload;
use output::Output;
use tool::{Running, Tool};

/// Operations far apart, and the pause behind each.
const SLOW: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Measures one tool of [`tool::ALL`].
pub(crate) fn measure(name: &str) -> Result<Value> {
    guest::mount_tracing()?;
    let tool = Tool::find(name)?;
    let mut bare = Map::new();
    for workload in &mut workloads()? {
        eprintln!("bare: {}", workload.name);
        let costs = rounds(workload, Workload::timed)?;
        bare.insert(workload.name.to_owned(), json!(costs));
    }
    let (first, slow) = slowly(tool)?;
    let (mut result, burst) = in_rounds(tool)?;
    result["bare"] = json!(bare);
    result["first"] = json!(first.as_secs_f64());
    result["slow"] = slow;
    result["burst"] = burst;
    result["held_off"] = held_off(tool)?;
    Ok(result)
}

/// Those of `cargo xtask bench kernel` that somebody traces.
fn workloads() -> Result<Vec<Workload>> {
    let mut workloads = Workload::all()?;
    workloads.retain(|workload| !workload.events.is_empty());
    Ok(workloads)
}

/// The time from its start to the first thing that it told, and what it told of operations far apart.
fn slowly(tool: &Tool) -> Result<(Duration, Value)> {
    eprintln!("starting {}", tool.name);
    let mut workloads = workloads()?;
    let mut running = Running::start(tool)?;
    let probes = probe::until_settled(tool, &mut running)?;
    for workload in &mut workloads {
        eprintln!("slowly: {}", workload.name);
        workload.slowly(SLOW, PAUSE)?;
    }
    let output = running.end()?;
    let first = probes.first_in(&output).context("it told nothing")?;
    Ok((first, told(tool, &workloads, &output)))
}

/// What rounds of operations cost with it, and what it told of them.
fn in_rounds(tool: &Tool) -> Result<(Value, Value)> {
    eprintln!("starting {} again", tool.name);
    let mut workloads = workloads()?;
    let mut running = Running::start(tool)?;
    probe::until_settled(tool, &mut running)?;
    let idle = running.idle()?;
    let mut costs = Map::new();
    for workload in &mut workloads {
        eprintln!("running: {}", workload.name);
        let of_workload = rounds(workload, |workload| {
            running.round(idle, || workload.timed())
        })?;
        eprintln!("  {of_workload:.1?}");
        costs.insert(workload.name.to_owned(), json!(of_workload));
    }
    let resident = running.resident()?;
    let output = running.end()?;
    let result = json!({"running": costs, "idle": idle * 1e9, "resident": resident});
    Ok((result, told(tool, &workloads, &output)))
}

/// What it told of a round during which it stood still.
fn held_off(tool: &Tool) -> Result<Value> {
    eprintln!("starting {} once more", tool.name);
    let mut workloads = workloads()?;
    let mut running = Running::start(tool)?;
    probe::until_settled(tool, &mut running)?;
    for workload in &mut workloads {
        eprintln!("held off: {}", workload.name);
        running.held_off(|| workload.timed())?;
    }
    Ok(told(tool, &workloads, &running.end()?))
}

/// By workload: how many events it should tell, and how many of them it told.
fn told(tool: &Tool, workloads: &[Workload], output: &Output) -> Value {
    let told = workloads.iter().map(|workload| {
        let events = tool.events_of(workload.name);
        let counts = events.iter().map(|&(word, each)| {
            let expected = each * workload.done;
            (expected, output.count(word, workload).min(expected))
        });
        let sum = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        (
            workload.name.to_owned(),
            json!({"expected": sum.0, "told": sum.1}),
        )
    });
    Value::Object(told.collect())
}
