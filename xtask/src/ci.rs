//! `cargo xtask ci`: everything that a change must pass, one announced and timed step after another,
//! then what tracing costs, then all tests. A failed step does not stop the ones behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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

/// The steps before the tests.
const STEPS: [Step; 5] = [
    ("format", format),
    ("every source file says what it is", headers),
    ("lints", lints),
    ("kernel programs without a warning", kernel_programs),
    ("dependencies' licences and sources", dependencies),
];

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Ci, true)?;
    let mut tally = Tally::default();
    for (name, work) in STEPS {
        tally = tally + test::counted(name, || work().map(|()| Tally::SUCCESS));
    }
    if !options.quick {
        tally = tally + test::counted("what tracing costs", bench::check);
    }
    tally = tally + command::step("tests", || test::run(&test::Options::for_ci(options.quick)))?;
    println!("{}", test::closing_line(tally));
    Ok(tally.exit_code())
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
    for source in &sources {
        let text = fs::read_to_string(source).with_context(|| source.display().to_string())?;
        ensure!(
            text.starts_with("//!") || text.starts_with("#!"),
            "{} opens without //!",
            source.display()
        );
    }
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
