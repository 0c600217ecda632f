//! `cargo xtask test`: unit and replay tests, then the real-kernel tests on this machine and in the
//! VM matrix, one row of the summary each. Anything that failed, or skipped itself, fails all.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{command, setup};
use libtest::Tally;
use matrix::Mode;

mod guests;
mod host;
pub(crate) mod libtest;
pub(crate) mod matrix;
mod unprivileged;

/// The test programs of the package `tests` that need root and a real kernel: what the tracer says in
/// one hook mode, and how it bears bad surroundings. Under a plain `cargo test` they list their tests
/// as ignored.
pub(crate) const KERNEL: &str = "kernel";
const SURROUNDINGS: &str = "surroundings";
/// And of what is handed out: the image and the package.
const PACKAGES: &str = "packages";

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Leave the VMs out
    #[arg(long)]
    quick: bool,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
    #[arg(skip)]
    extent: Extent,
}

/// How much of what there is to test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What a change has to pass within half an hour.
    Ci,
    /// Every cell of the matrix.
    #[default]
    Full,
    /// The same, with as many connections and starts as take an hour.
    Nightly,
}

impl Options {
    /// What a change has to pass, without the VMs if it is to be quick.
    pub(crate) fn for_ci(quick: bool) -> Self {
        Self {
            quick,
            extent: Extent::Ci,
            ..Self::default()
        }
    }

    /// The same with as much of everything as takes an hour.
    pub(crate) fn nightly(self) -> Self {
        Self {
            extent: Extent::Nightly,
            ..self
        }
    }
}

/// One line of the summary.
struct Row {
    place: String,
    mode: Option<Mode>,
    verdict: Verdict,
}

enum Verdict {
    Ran(Tally, Duration),
    /// The kernel does not offer this mode, for this reason.
    Refused(String),
    /// Only a fuller run includes it.
    Left,
}

impl Verdict {
    fn timed(run: impl FnOnce() -> Result<Tally>) -> Result<Self> {
        let begin = Instant::now();
        Ok(Self::Ran(run()?, begin.elapsed()))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.map_or_else(String::new, |mode| mode.to_string());
        write!(f, "{:32} {mode:10}  ", self.place)?;
        match &self.verdict {
            Verdict::Refused(reason) => write!(f, "not offered: {reason}"),
            Verdict::Left => f.write_str("left to `cargo xtask test` and `nightly`"),
            Verdict::Ran(tally, time) => {
                let word = if tally.is_good() { "ok" } else { "FAILED" };
                let Tally {
                    passed,
                    failed,
                    ignored,
                } = tally;
                write!(f, "{word:6}  {passed:4} passed {failed:3} failed")?;
                if *ignored > 0 {
                    write!(f, " {ignored:3} skipped")?;
                }
                write!(f, "  {:>8}", command::seconds(*time))
            }
        }
    }
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let tally = run(options)?;
    println!("{}", closing_line(tally));
    Ok(tally.exit_code())
}

/// Runs everything and prints the summary.
pub(crate) fn run(options: &Options) -> Result<Tally> {
    setup::ensure(setup::Scope::Tests, !options.no_setup)?;
    let filter = options.filter.as_deref();
    let mut rows = vec![unprivileged::run(filter)?];
    rows.extend(host::run(options.extent, filter)?);
    if !options.quick {
        rows.extend(guests::run(options.extent, filter)?);
    }
    println!("\nsummary:");
    rows.iter().for_each(|row| println!("  {row}"));
    let tally = rows.iter().map(|row| match row.verdict {
        Verdict::Ran(tally, _) => tally,
        Verdict::Refused(_) | Verdict::Left => Tally::default(),
    });
    let tally: Tally = tally.sum();
    if tally == Tally::default() {
        println!("nothing ran: no test's name contains the filter");
        return Ok(Tally::FAILURE);
    }
    Ok(tally)
}

/// The last line of `test` and `ci`.
pub(crate) fn closing_line(tally: Tally) -> String {
    let Tally {
        passed,
        failed,
        ignored,
    } = tally;
    let skipped = if ignored > 0 {
        format!(", {ignored} skipped")
    } else {
        String::new()
    };
    format!("\n{passed} passed, {failed} failed{skipped}")
}

/// Runs a test program, passing on what it prints.
fn tee(command: &mut Command) -> Result<Tally> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command::display(command)))?;
    let mut output = String::new();
    let mut reader = BufReader::new(child.stdout.take().context("no pipe from the tests")?);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .context("reading the tests' output")?
        > 0
    {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        output += &text;
        line.clear();
    }
    let status = child.wait().context("waiting for the tests")?;
    Ok(Tally::read(&output, status.success()))
}
