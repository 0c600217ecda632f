//! `cargo xtask bench kernel`: boots a guest whose clock counts instructions for each kernel and mode,
//! lets `bench-kernel` measure there, prints a table, and fails where the budget is exceeded.

use std::process::ExitCode;

use anyhow::Result;

use super::budget::{Budget, place};
use super::comparison::{Comparison, Verdict};
use super::conditions::Conditions;
use super::guest;
use super::measurement::Measurement;
use crate::setup::kernels::Kernel;
use crate::test::matrix::Mode;
use crate::{artifacts, command, setup, vm};

/// The kernels whose costs have a budget.
const LABELS: [&str; 2] = ["6.1", "6.12"];

/// The kernel and mode that `cargo xtask ci` has time for.
const CHECKED: (&str, Mode) = ("6.12", Mode::Fentry);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One kernel of the VM matrix, instead of 6.1 and 6.12
    #[arg(long)]
    kernel: Option<String>,
    /// One hook mode, instead of all
    #[arg(long)]
    mode: Option<Mode>,
    /// One workload, instead of all: a quick look
    #[arg(long, conflicts_with = "record")]
    workload: Option<String>,
    /// Make what is measured the budget
    #[arg(long)]
    record: bool,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Tests, !options.no_setup)?;
    let labels = match &options.kernel {
        Some(label) => vec![label.as_str()],
        None => LABELS.to_vec(),
    };
    let modes = options.mode.map_or(Mode::ALL.to_vec(), |mode| vec![mode]);
    let programs = programs()?;
    let mut budget = Budget::read()?;
    let mut verdict = Verdict::Within;
    for label in labels {
        let kernel = Kernel::find(label)?;
        for &mode in &modes {
            let workload = options.workload.as_deref();
            let measurement = measure_step(&kernel, mode, workload, &programs)?;
            println!("\n{label} ({}), {mode}\n{measurement}", kernel.version());
            let (place, conditions) = (place(label, mode), Conditions::of_guest(&kernel)?);
            if options.record {
                budget.record(&place, conditions, &measurement);
                budget.write()?;
            } else {
                let comparison = budget.compare(&place, &conditions, &measurement);
                println!("{comparison}");
                verdict = verdict.and(comparison.verdict());
            }
        }
    }
    Ok(verdict.exit_code())
}

/// Builds what goes into the guests.
pub(super) fn programs() -> Result<Vec<vm::Program>> {
    vm::programs(artifacts::bench_program("bench-kernel")?, guest::PROGRAM)
}

/// The budget of the one kernel and mode that every change is held against.
pub(super) fn check(programs: &[vm::Program]) -> Result<Comparison> {
    let (label, mode) = CHECKED;
    let kernel = Kernel::find(label)?;
    let measurement = measure_step(&kernel, mode, None, programs)?;
    let conditions = Conditions::of_guest(&kernel)?;
    let comparison = Budget::read()?.compare(&place(label, mode), &conditions, &measurement);
    println!("\n{comparison}");
    Ok(comparison)
}

fn measure_step(
    kernel: &Kernel,
    mode: Mode,
    workload: Option<&str>,
    programs: &[vm::Program],
) -> Result<Measurement> {
    let what = format!(
        "measuring on {} ({}), {mode}",
        kernel.label,
        kernel.version()
    );
    command::step(&what, || measure(kernel, mode, workload, programs))
}

/// Measures in one guest.
fn measure(
    kernel: &Kernel,
    mode: Mode,
    workload: Option<&str>,
    programs: &[vm::Program],
) -> Result<Measurement> {
    let name = format!("bench-{}-{mode}", kernel.label);
    let mut command = vec![guest::PROGRAM.into(), mode.to_string().into()];
    command.extend(workload.map(Into::into));
    let result = guest::measure(kernel, &name, programs, command, vm::MEMORY)?;
    Measurement::parse(&result)
}
