//! `cargo xtask bench history`: what the history costs, and how long its answers take. In: a day of a made-up
//! host, written by `bench history`. Out: each figure beside its target. Times are the best of some, as a user
//! waits: of the whole command, with files that have just been written.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::target::{Target, line};
use crate::{artifacts, command, paths, setup};

/// Of so many runs the fastest counts.
const RUNS: usize = 5;

/// A peer that `bench history` makes one job meet, seldom; and one that many connect from.
const RARE: &str = "198.51.100.77:445";
const BUSY: &str = "203.0.0.0";

/// Programs by connections.
const BY_PROGRAM: &str =
    "SELECT program, sum(count), sum(failed) FROM contacts GROUP BY program ORDER BY 2 DESC";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many connections the day has
    #[arg(long, default_value_t = 10_000_000)]
    connections: u64,
    /// Leave the files in target/bench/history
    #[arg(long)]
    keep: bool,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Bench, !options.no_setup)?;
    let (bench, tracer) = (artifacts::bench_program("bench")?, artifacts::tracer()?);
    let directory = paths::target().join("bench/history");
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    let written = command::step("writing a day", || {
        let mut write = Command::new(&bench);
        write.arg("history").arg(&directory);
        figures(write.args(["--connections", &options.connections.to_string()]))
    })?;
    let number = |figures: &Value, name: &str| {
        figures[name]
            .as_f64()
            .with_context(|| format!("no {name} in {figures}"))
    };
    let connections = number(&written, "connections")?;
    let rows = connections + number(&written, "processes")?;
    let ask = |arguments: &[&str]| milliseconds(&tracer, &directory, arguments);
    let talkers = ask(&["talkers", "--since", "10m"])?;
    let rare = ask(&["who", RARE, "--since", "1d"])?;
    let busy = ask(&["who", BUSY, "--since", "1d"])?;
    let by_program = ask(&["query", "--since", "1d", "--sql", BY_PROGRAM])?;
    let retained = figures(Command::new(&bench).arg("retain").arg(&directory))?;
    let (most, least) = (Target::AtMost, Target::AtLeast);
    let rate = rows / number(&written, "seconds")?;
    let bytes = number(&written, "bytes")? / connections;
    let seconds = number(&retained, "seconds")?;
    for (what, figure, unit, target) in [
        (
            "written by one processor",
            rate,
            "rows/s",
            Some(least(200_000.0)),
        ),
        ("on disk", bytes, "bytes/connection", Some(most(60.0))),
        ("talkers of 10 min", talkers, "ms", Some(most(50.0))),
        ("who, of a day, a rare peer", rare, "ms", Some(most(200.0))),
        ("who, of a day, a busy peer", busy, "ms", None),
        ("by program, of a day", by_program, "ms", Some(most(3000.0))),
        ("deleting half", seconds, "s", Some(most(1.0))),
    ] {
        println!("{}", line(what, figure, unit, target));
    }
    if !options.keep {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a command takes to its end.
fn milliseconds(tracer: &Path, directory: &Path, arguments: &[&str]) -> Result<f64> {
    command::step(&format!("tracer {}", arguments.join(" ")), || {
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let mut ask = Command::new(tracer);
            ask.args(arguments).arg("--history").arg(directory);
            ask.args(["-o", "table"]);
            ask.stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let begin = Instant::now();
            let status = ask.status().context("running the tracer")?;
            let took = begin.elapsed();
            ensure!(status.success(), "tracer {arguments:?} failed: {status}");
            best = best.min(took.as_secs_f64() * 1e3);
        }
        Ok(best)
    })
}

fn figures(command: &mut Command) -> Result<Value> {
    let text = command::text(command)?;
    serde_json::from_str(&text).with_context(|| format!("figures in {text:?}"))
}
