//! `cargo xtask bench kernel`: boots a guest whose clock counts instructions for each kernel and mode,
//! lets `bench-kernel` measure there, prints a table, and fails where the budget is exceeded.

use std::fs;
use std::io::{BufRead as _, BufReader, pipe};
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::budget::{Budget, place};
use super::comparison::Verdict;
use super::conditions::Conditions;
use super::measurement::Measurement;
use crate::setup::kernels::Kernel;
use crate::test::matrix::Mode;
use crate::{artifacts, command, setup, vm};

const PROGRAM: &str = "bench-kernel";
const PROGRAM_THERE: &str = "/usr/bin/bench-kernel";

/// The kernels whose costs have a budget.
const LABELS: [&str; 2] = ["6.1", "6.12"];

/// The kernel and mode that `cargo xtask ci` has time for.
const CHECKED: (&str, Mode) = ("6.12", Mode::Fentry);

/// A guest that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One kernel of the VM matrix, instead of 6.1 and 6.12
    #[arg(long)]
    kernel: Option<String>,
    /// One hook mode, instead of all
    #[arg(long)]
    mode: Option<Mode>,
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
            let measurement = measure_step(&kernel, mode, &programs)?;
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
    vm::programs(artifacts::bench_program(PROGRAM)?, PROGRAM_THERE)
}

/// The budget of the one kernel and mode that every change is held against.
pub(super) fn check(programs: &[vm::Program]) -> Result<Verdict> {
    let (label, mode) = CHECKED;
    let kernel = Kernel::find(label)?;
    let measurement = measure_step(&kernel, mode, programs)?;
    let conditions = Conditions::of_guest(&kernel)?;
    let comparison = Budget::read()?.compare(&place(label, mode), &conditions, &measurement);
    println!("\n{comparison}");
    Ok(comparison.verdict())
}

fn measure_step(kernel: &Kernel, mode: Mode, programs: &[vm::Program]) -> Result<Measurement> {
    let what = format!(
        "measuring on {} ({}), {mode}",
        kernel.label,
        kernel.version()
    );
    command::step(&what, || measure(kernel, mode, programs))
}

/// Measures in one guest. What it says meanwhile goes to our stderr.
fn measure(kernel: &Kernel, mode: Mode, programs: &[vm::Program]) -> Result<Measurement> {
    let name = format!("bench-{}-{mode}", kernel.label);
    let guest = vm::Guest {
        kernel,
        name: name.clone(),
        programs,
        environment: Vec::new(),
        command: vec![PROGRAM_THERE.into(), mode.to_string().into()],
        clock: vm::Clock::Instructions,
        deadline: DEADLINE,
    };
    let (reader, writer) = pipe().context("making a pipe")?;
    let listener = thread::spawn(move || {
        let mut result = None;
        for line in BufReader::new(reader).lines() {
            let line = line?;
            if line.starts_with('{') {
                result = Some(line);
            } else {
                eprintln!("  {line}");
            }
        }
        std::io::Result::Ok(result)
    });
    let status = guest.run(Stdio::null(), Stdio::from(writer))?;
    let result = listener.join().expect("the listener does not panic");
    let result = result.context("reading what the guest says")?;
    if status != 0 {
        bail!("the measurement failed with status {status}");
    }
    let result = result.context("the measurement has no result")?;
    let kept = vm::directory()?.join(format!("{name}.json"));
    fs::write(&kept, &result).with_context(|| format!("writing {}", kept.display()))?;
    Measurement::parse(&result)
}
