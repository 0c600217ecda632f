//! `cargo xtask ci`: everything that a change must pass, one announced and timed step after another,
//! then what tracing costs, then all tests. A failed step does not stop the ones behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::test::{self, libtest::Tally};
use crate::{bench, command, ebpf_toolchain, paths, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out the VMs and what tracing costs
    #[arg(long)]
    quick: bool,
}

/// A check, as the output names it.
type Step = (&'static str, fn() -> Result<()>);

/// The steps before the budgets and the tests.
const STEPS: [Step; 5] = [
    ("format", format),
    ("every source file says what it is", headers),
    ("lints", lints),
    ("kernel programs without a warning", kernel_programs),
    ("dependencies' licences and sources", dependencies),
];

/// What came of a step.
struct Outcome {
    name: &'static str,
    result: Result<Tally>,
    took: Duration,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Ci, true)?;
    let mut outcomes: Vec<Outcome> = STEPS
        .map(|(name, work)| Outcome::of(name, || work().map(|()| Tally::SUCCESS)))
        .into();
    if !options.quick {
        outcomes.push(Outcome::of("what tracing costs", bench::check));
    }
    let tests = test::Options::for_ci(options.quick);
    outcomes.push(Outcome::of("tests", || test::run(&tests)));
    println!("\nall steps:");
    outcomes.iter().for_each(Outcome::print);
    let tally: Tally = outcomes.iter().map(Outcome::tally).sum();
    println!("{}", test::closing_line(tally));
    Ok(tally.exit_code())
}

impl Outcome {
    /// Does a step.
    fn of(name: &'static str, work: impl FnOnce() -> Result<Tally>) -> Self {
        let begin = Instant::now();
        let result = command::step(name, work);
        if let Err(error) = &result {
            eprintln!("xtask: {name}: {error:#}");
        }
        Self {
            name,
            result,
            took: begin.elapsed(),
        }
    }

    fn tally(&self) -> Tally {
        *self.result.as_ref().unwrap_or(&Tally::FAILURE)
    }

    /// A line, and its error once more: whoever reads the end of a long log learns what to look for.
    fn print(&self) {
        let word = if self.tally().is_good() {
            "ok"
        } else {
            "FAILED"
        };
        let took = command::seconds(self.took);
        println!("  {:36} {word:6}  {took:>8}", self.name);
        if let Err(error) = &self.result {
            let text = format!("{error:#}");
            text.lines().for_each(|line| println!("    {line}"));
        }
    }
}

fn format() -> Result<()> {
    command::run(&mut command::cargo(&["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    let clippy = ["clippy", "--all-targets", "--features", "xtask/vm-init"];
    command::run(command::cargo(&clippy).args(["--", "--deny", "warnings"]))
}

/// Clippy has no core for BPF; the compiler's own warnings must do. Cargo repeats those of a build
/// that it need not do again.
fn kernel_programs() -> Result<()> {
    let mut build =
        ebpf_toolchain::find()?.build(paths::repository(), &paths::target().join("ebpf"));
    let output = build
        .output()
        .with_context(|| format!("starting {}", command::display(&build)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "they do not build:\n{said}");
    ensure!(
        !said.lines().any(|line| line.starts_with("warning")),
        "warnings:\n{said}"
    );
    Ok(())
}

fn dependencies() -> Result<()> {
    let deny = paths::program("cargo-deny").context("cargo-deny is missing")?;
    let mut deny = std::process::Command::new(deny);
    deny.current_dir(paths::repository()).args([
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ]);
    command::run(&mut deny)
}

/// A reader must learn from the first line what a file is for.
fn headers() -> Result<()> {
    let mut sources = Vec::new();
    collect(paths::repository(), &mut sources)?;
    let mut without = Vec::new();
    for source in sources {
        let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        if !text.starts_with("//!") && !text.starts_with("#!") {
            without.push(source.display().to_string());
        }
    }
    ensure!(without.is_empty(), "without //!: {}", without.join(", "));
    Ok(())
}

fn collect(directory: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                collect(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}
