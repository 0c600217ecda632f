//! `cargo xtask bench user`: what the daemon costs, by replaying the ring of a made-up host
//! (`bench/`). Instructions are counted by callgrind, the same in every run; rates are the best of a
//! few runs, because machines have other things to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::comparison::Comparison;
use super::target::{Target, line};
use super::user_budget::{self as budget, Budget};
use crate::{artifacts, command, paths, setup};

/// Runs out of which the fastest counts.
const RUNS: usize = 3;

/// Records whose instructions are counted: enough that processes come and go, and callgrind takes
/// fifty times as long as the machine.
const COUNTED_RECORDS: &str = "400000";

/// The function in which they are counted.
const COUNTED_PART: &str = "bench::replay::measured*";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the instructions into the budget instead of comparing them with it
    #[arg(long)]
    record: bool,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

/// What is made of the records.
const OUTPUTS: [&str; 4] = ["none", "json", "compact", "detections"];

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Bench, !options.no_setup)?;
    let bench = program()?;
    let counted = count(&bench)?;
    let replay = |output: &str| {
        let what = format!("replaying with output {output}");
        command::step(&what, || Replay::measure(&bench, output, &counted))
    };
    let (none, json, compact) = (replay("none")?, replay("json")?, replay("compact")?);
    let detections = replay("detections")?;
    let memory = |what| command::step(&format!("measuring {what}"), || resident(&bench, what));
    let (process, connection) = (memory("processes")?, memory("connections")?);
    let at_least = |least: f64| Some(Target::AtLeast(least));
    let at_most = |most: f64| Some(Target::AtMost(most));
    for (what, figure, unit, target) in [
        (
            "decode, attribution, metrics",
            none.instructions,
            "instructions/record",
            at_most(600.0),
        ),
        (
            "decode, attribution, metrics",
            none.allocations,
            "allocations/record",
            at_most(0.0),
        ),
        (
            "replay without output",
            none.rate,
            "records/s",
            at_least(1_500_000.0),
        ),
        (
            "with JSON",
            json.instructions,
            "instructions/record",
            at_most(2_500.0),
        ),
        ("with JSON", json.allocations, "allocations/record", None),
        ("with JSON", json.line_rate, "lines/s", at_least(400_000.0)),
        (
            "with compact",
            compact.instructions,
            "instructions/record",
            None,
        ),
        (
            "with compact",
            compact.allocations,
            "allocations/record",
            None,
        ),
        ("with compact", compact.line_rate, "lines/s", None),
        (
            "detectors",
            detections.instructions - none.instructions,
            "instructions/record",
            at_most(500.0),
        ),
        (
            "detectors",
            detections.allocations - none.allocations,
            "allocations/record",
            None,
        ),
        (
            "memory of a living process",
            process,
            "bytes",
            at_most(1024.0),
        ),
        (
            "memory of an open connection",
            connection,
            "bytes",
            at_most(300.0),
        ),
    ] {
        println!("{}", line(what, figure, unit, target));
    }
    if options.record {
        budget::record(&counted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let comparison = budget::compare(&counted)?;
    println!("\n{comparison}");
    Ok(comparison.verdict().exit_code())
}

/// Builds what replays.
pub(super) fn program() -> Result<PathBuf> {
    artifacts::bench_program("bench")
}

/// The budget alone, without rates and memory.
pub(super) fn check(bench: &Path) -> Result<Comparison> {
    let comparison = budget::compare(&count(bench)?)?;
    println!("\n{comparison}");
    Ok(comparison)
}

/// Instructions for each record, by output, as the budget names it.
fn count(bench: &Path) -> Result<Budget> {
    let counted = OUTPUTS.map(|output| {
        let what = format!("counting instructions with output {output}");
        let count = command::step(&what, || instructions(bench, output))?;
        Ok((key(output), count.round() as i64))
    });
    counted.into_iter().collect()
}

fn key(output: &str) -> String {
    format!("record_{output}")
}

/// What a replay with one output costs.
struct Replay {
    /// Per record.
    instructions: f64,
    /// Per record.
    allocations: f64,
    /// Records a second.
    rate: f64,
    /// Lines a second.
    line_rate: f64,
}

impl Replay {
    fn measure(bench: &Path, output: &str, counted: &Budget) -> Result<Self> {
        let mut replay = Self {
            instructions: counted[&key(output)] as f64,
            allocations: 0.0,
            rate: 0.0,
            line_rate: 0.0,
        };
        for _ in 0..RUNS {
            let figures = figures(Command::new(bench).args(["replay", output]))?;
            let (records, seconds) = (figures.get("records")?, figures.get("seconds")?);
            replay.allocations = figures.get("allocations")? / records;
            replay.rate = replay.rate.max(records / seconds);
            replay.line_rate = replay.line_rate.max(figures.get("lines")? / seconds);
        }
        Ok(replay)
    }
}

/// Instructions for each record, as callgrind counts them.
fn instructions(bench: &Path, output: &str) -> Result<f64> {
    let directory = paths::target().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let profile = directory.join(format!("callgrind.{output}"));
    let mut valgrind = Command::new("valgrind");
    valgrind
        // It would choose another memcpy.
        .env_remove("GLIBC_TUNABLES")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(format!("--toggle-collect={COUNTED_PART}"))
        .arg(bench)
        .args(["replay", output, "--records", COUNTED_RECORDS]);
    let records = figures(&mut valgrind)?.get("records")?;
    let text =
        fs::read_to_string(&profile).with_context(|| format!("reading {}", profile.display()))?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("summary:")?.trim().parse::<f64>().ok())
        .with_context(|| format!("no sum in {}", profile.display()))?;
    Ok(total / records)
}

/// Bytes of the resident set for each of many.
fn resident(bench: &Path, what: &str) -> Result<f64> {
    figures(Command::new(bench).arg(what))?.get("resident")
}

/// What the bench printed.
struct Figures(Value);

fn figures(command: &mut Command) -> Result<Figures> {
    let text = command::text(command)?;
    let figures = serde_json::from_str(&text).with_context(|| format!("figures in {text:?}"))?;
    Ok(Figures(figures))
}

impl Figures {
    fn get(&self, name: &str) -> Result<f64> {
        self.0[name]
            .as_f64()
            .with_context(|| format!("no {name} in {}", self.0))
    }
}
