//! `bench/budget.toml`: what tracing may cost, in instructions that it adds to an operation. A
//! measurement becomes the budget by `--record`, and exceeds it otherwise or not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::measurement::{Cost, Measurement};
use crate::paths;
use crate::test::matrix::Mode;

/// A cost may exceed its budget by this part of it.
const TOLERANCE: f64 = 0.02;

/// The measurement's own uncertainty, as a part of what an operation costs without the tracer.
const UNCERTAINTY: f64 = 0.001;

const HEADER: &str = "\
# What tracing may add to one operation, in instructions: in the kernel alone, and in total with the daemon
# that writes JSON. By kernel, mode and workload, which are described in bench/src/kernel/workload.rs.
# `programs` says how much of it each kernel program had, by the kernel's own count.
# Written by `cargo xtask bench kernel --record`.
";

/// Where something is measured: a kernel's label and a mode.
pub(crate) type Place = (String, String);

/// What may be spent, by place and workload.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Budget(BTreeMap<Place, BTreeMap<String, Entry>>);

#[derive(Debug, Default, PartialEq)]
struct Entry {
    kernel: i64,
    total: i64,
    programs: BTreeMap<String, i64>,
}

/// The place of a measurement.
pub(crate) fn place(label: &str, mode: Mode) -> Place {
    (label.to_owned(), mode.to_string())
}

impl Budget {
    /// The budget in the repository; empty if there is none yet.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Replaces the budget in the repository.
    pub(crate) fn write(&self) -> Result<()> {
        let path = path();
        fs::write(&path, self.text()).with_context(|| format!("writing {}", path.display()))?;
        println!("recorded in {}", path.display());
        Ok(())
    }

    /// Makes a measurement the budget of its place.
    pub(crate) fn record(&mut self, place: &Place, measurement: &Measurement) {
        let costs = measurement.costs.iter();
        let entries = costs.map(|(workload, cost)| (workload.clone(), Entry::of(cost)));
        self.0.insert(place.clone(), entries.collect());
    }

    /// Where a measurement exceeds its budget, each with the kernel programs that have changed.
    pub(crate) fn excesses(&self, place: &Place, measurement: &Measurement) -> Vec<String> {
        let mut excesses = Vec::new();
        for (workload, cost) in &measurement.costs {
            let what = format!("{} {}, {workload}", place.0, place.1);
            let entry = self.0.get(place).and_then(|entries| entries.get(workload));
            match entry {
                Some(entry) => excesses.extend(entry.excess(cost).map(|said| what + ": " + &said)),
                None => excesses.push(format!("{what}: no budget; record one with --record")),
            }
        }
        excesses
    }

    fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let mut budget = BTreeMap::new();
        for (label, modes) in &table {
            for (mode, workloads) in as_table(modes, label)? {
                let mut entries = BTreeMap::new();
                for (workload, entry) in as_table(workloads, mode)? {
                    let entry = Entry::parse(entry).with_context(|| format!("{label} {mode}"))?;
                    entries.insert(workload.clone(), entry);
                }
                budget.insert((label.clone(), mode.clone()), entries);
            }
        }
        Ok(Self(budget))
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for ((label, mode), entries) in &self.0 {
            for (workload, entry) in entries {
                let Entry {
                    kernel,
                    total,
                    programs,
                } = entry;
                let programs = programs
                    .iter()
                    .map(|(name, cost)| format!("{name} = {cost}"));
                let programs: Vec<String> = programs.collect();
                let programs = format!("{{ {} }}", programs.join(", ")).replace("{  }", "{}");
                // Writing to a string does not fail.
                let _ = write!(
                    text,
                    "\n[\"{label}\".{mode}.{workload}]\nkernel = {kernel}\ntotal = {total}\n\
                     programs = {programs}\n"
                );
            }
        }
        text
    }
}

impl Entry {
    fn of(cost: &Cost) -> Self {
        let programs = cost.programs.iter();
        Self {
            kernel: whole(cost.kernel),
            total: whole(cost.total),
            programs: programs
                .map(|(name, program)| (name.clone(), whole(program.instructions)))
                .collect(),
        }
    }

    fn parse(value: &Value) -> Result<Self> {
        let number = |name: &str| {
            let number = value.get(name).and_then(Value::as_integer);
            number.with_context(|| format!("{name} is no number"))
        };
        let programs = value.get("programs").context("no programs")?;
        let programs = as_table(programs, "programs")?.iter().map(|(name, cost)| {
            let cost = cost.as_integer();
            Ok((
                name.clone(),
                cost.with_context(|| format!("{name} is no number"))?,
            ))
        });
        Ok(Self {
            kernel: number("kernel")?,
            total: number("total")?,
            programs: programs.collect::<Result<_>>()?,
        })
    }

    /// What is exceeded, if anything is, for people.
    fn excess(&self, cost: &Cost) -> Option<String> {
        let now = Self::of(cost);
        // The kernel's own count is no difference of two large numbers.
        let uncertainty = cost.bare * UNCERTAINTY;
        let pairs = [
            ("in the kernel", self.kernel, now.kernel, uncertainty),
            ("in total", self.total, now.total, uncertainty),
            ("by programs", self.by_programs(), now.by_programs(), 1.0),
        ];
        let exceeded = pairs.iter().filter(|(_, budget, now, uncertainty)| {
            *now as f64 > *budget as f64 * (1.0 + TOLERANCE) + uncertainty
        });
        let exceeded: Vec<String> = exceeded
            .map(|(what, budget, now, _)| format!("{now} instead of {budget} {what}"))
            .collect();
        (!exceeded.is_empty()).then(|| exceeded.join(", ") + &self.changes(&now))
    }

    fn by_programs(&self) -> i64 {
        self.programs.values().sum()
    }

    /// Lines about the kernel programs, one each.
    fn changes(&self, now: &Self) -> String {
        let names = self.programs.keys().chain(now.programs.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        let cost = |entry: &Self, name: &String| entry.programs.get(name).copied().unwrap_or(0);
        let lines = names.into_iter().map(|name| {
            let (before, now) = (cost(self, name), cost(now, name));
            format!("\n  {name:16} {before:8} → {now:8}  {:+}", now - before)
        });
        lines.collect()
    }
}

fn path() -> PathBuf {
    paths::repository().join("bench/budget.toml")
}

fn as_table<'a>(value: &'a Value, name: &str) -> Result<&'a Table> {
    value
        .as_table()
        .with_context(|| format!("{name} is no table"))
}

fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(kernel: f64, total: f64, hook: f64) -> Measurement {
        let text = format!(
            r#"{{"bare": {{"refused": [0.0, 0.0]}}, "stopped": {{"refused": [{kernel}, {kernel}]}},
            "running": {{"refused": [{total}, {total}]}}, "idle": 0.0,
            "programs": {{"refused": {{"hook": {{"instructions": {hook}, "runs": 1.0}}}}}}}}"#
        );
        Measurement::parse(&text).unwrap()
    }

    fn budget(measurement: &Measurement) -> (Budget, Place) {
        let (mut budget, place) = (Budget::default(), place("6.12", Mode::Fentry));
        budget.record(&place, measurement);
        (budget, place)
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let (budget, _) = budget(&cost(1000.0, 5000.0, 700.0));
        assert_eq!(Budget::parse(&budget.text()).unwrap(), budget);
    }

    #[test]
    fn the_budget_in_the_repository_can_be_read() {
        assert!(Budget::read().unwrap().0.len() > 1);
    }

    #[test]
    fn two_percent_more_is_borne() {
        let (budget, place) = budget(&cost(1000.0, 5000.0, 700.0));
        let none: Vec<String> = Vec::new();
        assert_eq!(budget.excesses(&place, &cost(1020.0, 5100.0, 0.0)), none);
    }

    #[test]
    fn an_excess_names_the_program_that_has_changed() {
        let (budget, place) = budget(&cost(1000.0, 5000.0, 700.0));
        let excesses = budget.excesses(&place, &cost(1021.0, 5100.0, 721.0));
        let expected = "6.12 fentry, refused: 1021 instead of 1000 in the kernel, \
                        721 instead of 700 by programs\n  \
                        hook                  700 →      721  +21";
        assert_eq!(excesses, [expected]);
    }

    #[test]
    fn a_place_without_a_budget_is_an_excess() {
        let excesses =
            Budget::default().excesses(&place("6.12", Mode::Fentry), &cost(1.0, 1.0, 1.0));
        assert!(excesses[0].contains("--record"), "{excesses:?}");
    }
}
