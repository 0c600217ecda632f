//! `cargo xtask bench host`: what tracing does to this machine, on its own kernel: latency, idle time,
//! wake-ups, and the part of its rates that is left. Each figure is a median with its spread, beside its
//! target. Targets are no gate: the machine may be busy with other things, and its load average stands above
//! the table.

use std::ffi::OsString;
use std::fs;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::target::{Target, figure, line};
use crate::test::matrix::Mode;
use crate::{artifacts, command, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The hook mode; tracepoint mode is the one that no kernel's configuration refuses
    #[arg(long, default_value = "tracepoint")]
    mode: Mode,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Build, !options.no_setup)?;
    let before = load_average();
    let results = measure(options.mode)?;
    let (mode, after) = (options.mode, load_average());
    println!("\n{mode} mode; load average before and after: {before}, {after}\n");
    for line in lines(&results)? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(mode: Mode) -> Result<Value> {
    let (bench, tracer) = (
        artifacts::bench_program("bench-host")?,
        artifacts::tracer()?,
    );
    let mut bench = command::as_root(bench.as_os_str(), &[])
        .context("tracer needs root, and there is no sudo: run this as root")?;
    bench.arg(tracer).arg(OsString::from(mode.to_string()));
    let output = bench
        .stderr(Stdio::inherit())
        .output()
        .context("starting bench-host")?;
    ensure!(
        output.status.success(),
        "the measurement failed ({})",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("its results")
}

/// Lines of the table.
fn lines(results: &Value) -> Result<Vec<String>> {
    let latency = Numbers::read(&results["latency"], "latency")?.times(1e3);
    let idle = Numbers::read(&results["idle"]["share"], "idle share")?.times(100.0);
    let events = Numbers::read(&results["idle"]["events"], "idle events")?;
    let mut lines = vec![
        line("lone event, median", latency.quantile(0.5), "ms", None),
        line(
            "lone event, p99",
            latency.quantile(0.99),
            "ms",
            Some(Target::AtMost(20.0)),
        ),
        idle.line("processor when idle", "%", Some(Target::AtMost(0.05))),
        events.line("  events meanwhile, each 10 s", "events", None),
    ];
    let at_load = &results["shares"]["connections everywhere"]["wake_ups"];
    let at_load = Numbers::read(at_load, "wake-ups")?;
    let target = Some(Target::AtMost(1.0 / 64.0));
    lines.push(at_load.line("wake-ups a line, at load", "wake-ups", target));
    for (name, least) in [
        ("connections", 0.90),
        ("processes", 0.97),
        ("connections everywhere", 0.82),
    ] {
        let of_name = |what: &str| Numbers::read(&results["shares"][name][what], name);
        let target = Some(Target::AtLeast(least));
        lines.push(of_name("rate")?.line(name, "a processor second", None));
        lines.push(of_name("share")?.line("  left with it", "of that", target));
        let by_clock = of_name("share_by_clock")?;
        lines.push(by_clock.line("  left with it, by the clock", "of that", None));
    }
    Ok(lines)
}

/// Over a minute.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What rounds have measured, in order of size.
struct Numbers(Vec<f64>);

impl Numbers {
    fn read(value: &Value, what: &str) -> Result<Self> {
        let numbers = value
            .as_array()
            .map(|numbers| numbers.iter().filter_map(Value::as_f64));
        let mut numbers: Vec<f64> = numbers.into_iter().flatten().collect();
        ensure!(!numbers.is_empty(), "no numbers of {what}");
        numbers.sort_by(f64::total_cmp);
        Ok(Self(numbers))
    }

    fn times(self, factor: f64) -> Self {
        Self(self.0.into_iter().map(|number| number * factor).collect())
    }

    /// The number that this part of all do not exceed.
    fn quantile(&self, part: f64) -> f64 {
        let index = (self.0.len() as f64 * part).ceil() as usize;
        self.0[index.clamp(1, self.0.len()) - 1]
    }

    /// The median beside its target, and between what half of all numbers are.
    fn line(&self, what: &str, unit: &str, target: Option<Target>) -> String {
        let [low, high] = [0.25, 0.75].map(|part| figure(self.quantile(part)));
        let line = line(what, self.quantile(0.5), unit, target);
        format!("{line:95} half of {} rounds: {low} to {high}", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_number_that_was_measured() {
        let numbers = Numbers((1..=200).map(f64::from).collect());
        assert_eq!(
            [0.25, 0.5, 0.99, 1.0].map(|part| numbers.quantile(part)),
            [50.0, 100.0, 198.0, 200.0]
        );
        assert_eq!(Numbers(vec![7.0]).quantile(0.5), 7.0);
    }

    #[test]
    fn a_missing_figure_is_an_error_that_names_it() {
        let error = lines(&serde_json::json!({"latency": [0.005]})).unwrap_err();
        assert_eq!(error.to_string(), "no numbers of idle share");
    }
}
