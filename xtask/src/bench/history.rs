//! `cargo xtask bench history`: what the history costs, and how long its answers take. In: a day of a made-up
//! host, written by `bench history`. Out: each figure beside its target, and what DuckDB makes of the same day as
//! Parquet. Times are the best of some, as a user waits: of the whole command, with files that have just been written.

mod duckdb;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::target::{Target, line};
use crate::{artifacts, command, paths, setup};

/// Of so many runs the fastest counts; of what takes minutes, the only one.
const RUNS: usize = 5;

/// A peer that `bench history` makes one job meet, seldom; and one that many connect from.
const RARE: &str = "198.51.100.77";
const BUSY: &str = "203.0.0.0";
/// One process that it makes, with one connection.
const JOB: &str = "10005";

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

/// A line of the result: what, how much, of what, and what it should be.
type Row = (&'static str, f64, &'static str, Option<Target>);

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Bench, !options.no_setup)?;
    let bench = artifacts::bench_program("bench")?;
    let day = Day::write(&bench, artifacts::tracer()?, options.connections)?;
    let mut rows = day.costs()?;
    rows.extend(day.answers()?);
    rows.extend(day.reports()?);
    rows.extend(day.exports()?);
    let others = duckdb::compare(&day)?;
    rows.push(day.retention(&bench)?);
    for (what, figure, unit, target) in rows {
        println!("{}", line(what, figure, unit, target));
    }
    println!("\n{others}");
    if !options.keep {
        remove(&day.directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The history of a day, and where what is made of it goes.
struct Day {
    tracer: PathBuf,
    directory: PathBuf,
    history: PathBuf,
    figures: Value,
}

impl Day {
    fn write(bench: &Path, tracer: PathBuf, connections: u64) -> Result<Self> {
        let directory = paths::target().join("bench/history");
        if directory.exists() {
            remove(&directory)?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let history = directory.join("day");
        let figures = command::step("writing a day", || {
            let mut write = Command::new(bench);
            write.arg("history").arg(&history);
            figures(write.args(["--connections", &connections.to_string()]))
        })?;
        Ok(Self {
            tracer,
            directory,
            history,
            figures,
        })
    }

    fn number(&self, name: &str) -> Result<f64> {
        number(&self.figures, name)
    }

    /// A time of the day as `--since` takes it.
    fn time(&self, name: &str) -> Result<&str> {
        let time = self.figures[name].as_str();
        time.with_context(|| format!("no {name} in {}", self.figures))
    }

    /// How fast it was written, and how large it is.
    fn costs(&self) -> Result<Vec<Row>> {
        let connections = self.number("connections")?;
        let rate = (connections + self.number("processes")?) / self.number("seconds")?;
        let bytes = self.number("bytes")? / connections;
        let (least, most) = (Some(Target::AtLeast(200_000.0)), Some(Target::AtMost(60.0)));
        Ok(vec![
            ("written by one processor", rate, "rows/s", least),
            ("on disk", bytes, "bytes/connection", most),
        ])
    }

    /// How long questions take.
    fn answers(&self) -> Result<Vec<Row>> {
        let (day, recent) = (self.time("begin")?, self.time("last_ten_minutes")?);
        let rare = format!("{RARE}:445");
        let ask = |arguments: &[&str]| {
            let table = [arguments, &["-o", "table"]].concat();
            Ok::<_, anyhow::Error>(self.seconds(&table, RUNS)? * 1e3)
        };
        let most = |limit| Some(Target::AtMost(limit));
        Ok(vec![
            (
                "talkers of 10 min",
                ask(&["talkers", "--since", recent])?,
                "ms",
                most(50.0),
            ),
            (
                "who, of the day, a rare peer",
                ask(&["who", &rare, "--since", day])?,
                "ms",
                most(200.0),
            ),
            (
                "who, of the day, a busy peer",
                ask(&["who", BUSY, "--since", day])?,
                "ms",
                None,
            ),
            (
                "by program, of the day",
                ask(&["query", "--since", day, "--sql", BY_PROGRAM])?,
                "ms",
                most(3000.0),
            ),
        ])
    }

    fn reports(&self) -> Result<Vec<Row>> {
        let (day, recent) = (self.time("begin")?, self.time("last_ten_minutes")?);
        // A report is not written over.
        let report = |subject: &[&str], since| {
            let name = format!("report-{}", subject.first().unwrap_or(&"everything"));
            let out = self.directory.join(name);
            let out = out.to_str().context("a path in UTF-8")?;
            let options = ["--since", since, "--out", out];
            self.seconds(&[&["report"], subject, &options].concat(), 1)
        };
        Ok(vec![
            (
                "report of a process, of the day",
                report(&[JOB], day)?,
                "s",
                None,
            ),
            (
                "report of a rare peer, of the day",
                report(&[RARE], day)?,
                "s",
                None,
            ),
            (
                "report of everything, of 10 min",
                report(&[], recent)?,
                "s",
                None,
            ),
        ])
    }

    /// What is exported is thrown away, but for Parquet.
    fn exports(&self) -> Result<Vec<Row>> {
        let rate = |format, file: &Path| {
            let file = file.to_str().context("a path in UTF-8")?;
            let seconds = self.seconds(&["export", "--format", format, "-f", file], 1)?;
            Ok::<_, anyhow::Error>(self.number("connections")? / seconds)
        };
        let null = Path::new("/dev/null");
        Ok(vec![
            (
                "export as JSON lines",
                rate("ndjson", null)?,
                "connections/s",
                None,
            ),
            ("export as CSV", rate("csv", null)?, "connections/s", None),
            (
                "export for Zeek",
                rate("zeek", null)?,
                "connections/s",
                None,
            ),
            (
                "export as Parquet",
                rate("parquet", &self.parquet())?,
                "connections/s",
                None,
            ),
        ])
    }

    fn parquet(&self) -> PathBuf {
        self.directory.join("day.parquet")
    }

    /// Deletes half of it.
    fn retention(&self, bench: &Path) -> Result<Row> {
        let retained = figures(Command::new(bench).arg("retain").arg(&self.history))?;
        let seconds = number(&retained, "seconds")?;
        Ok(("deleting half", seconds, "s", Some(Target::AtMost(1.0))))
    }

    /// How long a command takes to its end; the best of some runs.
    fn seconds(&self, arguments: &[&str], runs: usize) -> Result<f64> {
        command::step(&format!("tracer {}", arguments.join(" ")), || {
            let mut best = f64::INFINITY;
            for _ in 0..runs {
                let mut ask = Command::new(&self.tracer);
                ask.args(arguments).arg("--history").arg(&self.history);
                ask.stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let begin = Instant::now();
                let status = ask.status().context("running the tracer")?;
                let took = begin.elapsed();
                ensure!(status.success(), "tracer {arguments:?} failed: {status}");
                best = best.min(took.as_secs_f64());
            }
            Ok(best)
        })
    }
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))
}

fn figures(command: &mut Command) -> Result<Value> {
    let text = command::text(command)?;
    serde_json::from_str(&text).with_context(|| format!("figures in {text:?}"))
}

fn number(figures: &Value, name: &str) -> Result<f64> {
    let number = figures[name].as_f64();
    number.with_context(|| format!("no {name} in {figures}"))
}
