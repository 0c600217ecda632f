//! What one guest has measured: in goes the JSON of `bench-kernel`, out come costs of one operation, in
//! instructions.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The costs of every workload by its name, in one mode on one kernel.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) costs: BTreeMap<String, Cost>,
    /// What the daemon spends in a second in which nothing happens.
    idle: f64,
}

/// What an operation of one workload costs.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Without the tracer.
    pub(crate) bare: f64,
    /// Added in the kernel, while the daemon stands still.
    pub(crate) kernel: f64,
    /// Added in all.
    pub(crate) total: f64,
    /// By how much rounds of one kind differed.
    pub(crate) spread: f64,
    /// By kernel program.
    pub(crate) programs: BTreeMap<String, Program>,
}

/// A kernel program's part in an operation, as the kernel counts it: without its attachment, with the
/// counting.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) instructions: f64,
    runs: f64,
}

impl Measurement {
    /// Reads what `bench-kernel` has printed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let results: Value = serde_json::from_str(text).context("the measurement is no JSON")?;
        let workloads = results["bare"].as_object().context("no bare rounds")?;
        let costs = workloads.keys().map(|workload| {
            let cost = Cost::parse(&results, workload);
            Ok((workload.clone(), cost.context(workload.clone())?))
        });
        Ok(Self {
            costs: costs.collect::<Result<_>>()?,
            idle: number(&results["idle"])?,
        })
    }
}

impl Cost {
    fn parse(results: &Value, workload: &str) -> Result<Self> {
        let rounds = |condition: &str| {
            let rounds = results[condition][workload].as_array();
            let rounds = rounds.with_context(|| format!("no {condition} rounds"))?;
            let mut rounds = rounds.iter().map(number).collect::<Result<Vec<f64>>>()?;
            rounds.sort_by(f64::total_cmp);
            let [first, .., last] = rounds[..] else {
                anyhow::bail!("too few {condition} rounds");
            };
            Ok((rounds[rounds.len() / 2], last - first))
        };
        let (bare, stopped, running) = (rounds("bare")?, rounds("stopped")?, rounds("running")?);
        let programs = results["programs"][workload].as_object();
        let programs = programs
            .context("no programs")?
            .iter()
            .map(|(name, value)| {
                let program = Program {
                    instructions: number(&value["instructions"])?,
                    runs: number(&value["runs"])?,
                };
                Ok((name.clone(), program))
            });
        Ok(Self {
            bare: bare.0,
            kernel: stopped.0 - bare.0,
            total: running.0 - bare.0,
            spread: bare.1.max(stopped.1).max(running.1),
            programs: programs.collect::<Result<_>>()?,
        })
    }
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("not a number")
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["bare", "kernel", "daemon", "total", "spread"];
        write!(f, "{:12}", "")?;
        header.iter().try_for_each(|word| write!(f, "{word:>10}"))?;
        writeln!(f, "  instructions an operation")?;
        for (workload, cost) in &self.costs {
            let Cost {
                bare,
                kernel,
                total,
                spread,
                ..
            } = cost;
            write!(f, "{workload:12}")?;
            [*bare, *kernel, total - kernel, *total, *spread]
                .iter()
                .try_for_each(|number| write!(f, "{number:10.0}"))?;
            writeln!(f)?;
        }
        for (workload, cost) in &self.costs {
            for (name, program) in &cost.programs {
                let Program { instructions, runs } = program;
                writeln!(
                    f,
                    "  {workload:12} {name:16} {instructions:8.0} in {runs:.2} runs"
                )?;
            }
        }
        writeln!(f, "  daemon, when idle: {:.0} a second", self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_is_the_difference_of_medians() {
        let text = r#"{
            "bare": {"refused": [100.0, 101.0, 300.0]},
            "stopped": {"refused": [111.0, 112.0, 111.5]},
            "running": {"refused": [150.0, 151.0, 149.0]},
            "programs": {"refused": {"hook": {"instructions": 7.5, "runs": 2.0}}},
            "idle": 12.0
        }"#;
        let measurement = Measurement::parse(text).unwrap();
        let cost = &measurement.costs["refused"];
        assert_eq!((cost.bare, cost.kernel, cost.total), (101.0, 10.5, 49.0));
        assert_eq!(cost.spread, 200.0);
        assert_eq!(cost.programs["hook"].instructions, 7.5);
    }

    #[test]
    fn a_missing_condition_is_an_error_that_names_it() {
        let text = r#"{"bare": {"refused": [1.0, 1.0]}, "idle": 0.0}"#;
        let error = Measurement::parse(text).unwrap_err();
        assert_eq!(format!("{error:#}"), "refused: no stopped rounds");
    }
}
