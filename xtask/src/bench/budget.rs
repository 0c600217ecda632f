//! `bench/budget.toml`: what tracing may cost, in instructions that it adds to an operation. A
//! measurement becomes the budget by `--record`, and is compared with it otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::comparison::Comparison;
use super::conditions::Conditions;
use super::measurement::{Cost, Measurement};
use crate::paths;
use crate::test::matrix::Mode;

/// The measurement's own uncertainty, as a part of what an operation costs without the tracer, if its rounds
/// do not differ by more: where programs lie in memory changes what everything costs a little.
const UNCERTAINTY: f64 = 0.001;
/// Instructions an operation that ticks of the clock make, which fall on rounds unevenly: as much as a 30th of
/// the least operation.
const TICKS: f64 = 10.0;

const HEADER: &str = "\
# What tracing may add to one operation, in instructions: in the kernel alone, and in total with the daemon
# that writes JSON. By kernel, mode and workload, which are described in bench/src/kernel/workload.rs.
# `programs` says how much of it each kernel program had, by the kernel's own count, and `measured_with` what
# has to be the same for a comparison to mean something.
# Written by `cargo xtask bench kernel --record`.
";

const MEASURED_WITH: &str = "measured_with";

/// Where something is measured: a kernel's label and a mode.
pub(crate) type Place = (String, String);

/// What may be spent in each place.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Budget(BTreeMap<Place, OfPlace>);

#[derive(Debug, Default, PartialEq)]
struct OfPlace {
    measured_with: Conditions,
    /// By workload.
    entries: BTreeMap<String, Entry>,
}

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
    pub(crate) fn record(
        &mut self,
        place: &Place,
        measured_with: Conditions,
        measurement: &Measurement,
    ) {
        let costs = measurement.costs.iter();
        let entries = costs.map(|(workload, cost)| (workload.clone(), Entry::of(cost)));
        let of_place = OfPlace {
            measured_with,
            entries: entries.collect(),
        };
        self.0.insert(place.clone(), of_place);
    }

    /// A measurement beside its budget, each kernel program included.
    pub(crate) fn compare(
        &self,
        place: &Place,
        measured_with: &Conditions,
        measurement: &Measurement,
    ) -> Comparison {
        let nothing = OfPlace::default();
        let of_place = self.0.get(place).unwrap_or(&nothing);
        let title = format!("instructions added, {} {}", place.0, place.1);
        let mut comparison = Comparison::new(title, measured_with, &of_place.measured_with);
        for (workload, cost) in &measurement.costs {
            match of_place.entries.get(workload) {
                Some(entry) => entry.compare(workload, cost, &mut comparison),
                None => comparison.unbudgeted(workload, whole(cost.total)),
            }
        }
        comparison
    }

    fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let mut budget = BTreeMap::new();
        for (label, modes) in &table {
            for (mode, of_place) in as_table(modes, label)? {
                let of_place = OfPlace::parse(as_table(of_place, mode)?);
                let of_place = of_place.with_context(|| format!("{label} {mode}"))?;
                budget.insert((label.clone(), mode.clone()), of_place);
            }
        }
        Ok(Self(budget))
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for ((label, mode), of_place) in &self.0 {
            let measured_with = of_place.measured_with.text();
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "\n[\"{label}\".{mode}]\n{MEASURED_WITH} = {measured_with}"
            );
            for (workload, entry) in &of_place.entries {
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

impl OfPlace {
    fn parse(table: &Table) -> Result<Self> {
        let workloads = table.iter().filter(|(name, _)| *name != MEASURED_WITH);
        let entries =
            workloads.map(|(workload, entry)| Ok((workload.clone(), Entry::parse(entry)?)));
        Ok(Self {
            measured_with: Conditions::parse(table.get(MEASURED_WITH)),
            entries: entries.collect::<Result<_>>()?,
        })
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

    /// Lines about one workload: what is limited, then what it consists of.
    fn compare(&self, workload: &str, cost: &Cost, comparison: &mut Comparison) {
        let now = Self::of(cost);
        // The kernel's own count is no difference of two large numbers.
        let uncertainty = f64::max(cost.bare * UNCERTAINTY, cost.spread) + TICKS;
        for (what, budget, now, uncertainty) in [
            ("in total", self.total, now.total, uncertainty),
            ("in the kernel", self.kernel, now.kernel, uncertainty),
            ("by programs", self.by_programs(), now.by_programs(), 1.0),
        ] {
            comparison.limited(&format!("{workload}, {what}"), budget, now, uncertainty);
        }
        let names: BTreeSet<&String> = self.programs.keys().chain(now.programs.keys()).collect();
        let cost = |entry: &Self, name: &String| entry.programs.get(name).copied().unwrap_or(0);
        for name in names {
            comparison.part(name, cost(self, name), cost(&now, name));
        }
    }

    fn by_programs(&self) -> i64 {
        self.programs.values().sum()
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
    use super::super::comparison::Verdict;
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
        budget.record(&place, with("6.12.1"), measurement);
        (budget, place)
    }

    fn with(kernel: &str) -> Conditions {
        let table = format!("kernel = \"{kernel}\"").parse().unwrap();
        Conditions::parse(Some(&Value::Table(table)))
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
        let comparison = budget.compare(&place, &with("6.12.1"), &cost(1020.0, 5100.0, 714.0));
        assert_eq!(comparison.verdict(), Verdict::Within, "{comparison}");
    }

    #[test]
    fn an_excess_names_the_program_that_has_changed() {
        let (budget, place) = budget(&cost(1000.0, 5000.0, 700.0));
        let comparison = budget.compare(&place, &with("6.12.1"), &cost(1035.0, 5100.0, 721.0));
        assert_eq!(comparison.verdict(), Verdict::Over);
        let text = comparison.to_string();
        let line = |begin: &str| {
            text.lines()
                .find(|line| line.trim_start().starts_with(begin))
        };
        assert!(
            line("refused, in the kernel")
                .unwrap()
                .ends_with("+3.5 %  TOO MANY"),
            "{text}"
        );
        assert!(
            line("refused, in total").unwrap().ends_with("+2.0 %"),
            "{text}"
        );
        assert!(line("hook").unwrap().ends_with("+3.0 %"), "{text}");
    }

    #[test]
    fn another_kernel_is_not_judged() {
        let (budget, place) = budget(&cost(1000.0, 5000.0, 700.0));
        let comparison = budget.compare(&place, &with("6.12.2"), &cost(2000.0, 9000.0, 900.0));
        assert_eq!(comparison.verdict(), Verdict::Incomparable);
    }

    #[test]
    fn a_place_without_a_budget_is_not_judged() {
        let (place, cost) = (place("6.12", Mode::Fentry), cost(1.0, 1.0, 1.0));
        let comparison = Budget::default().compare(&place, &with("6.12.1"), &cost);
        assert_eq!(comparison.verdict(), Verdict::Incomparable);
        assert!(comparison.to_string().contains("--record"), "{comparison}");
    }
}
