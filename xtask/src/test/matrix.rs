//! Which hook modes there are, and which of them each kernel offers: `tests/matrix.toml`.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use crate::paths;
use crate::setup::kernels::LABELS;

/// How tracer sees what a BTF raw tracepoint does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    Fentry,
    Kprobe,
    Tracepoint,
}

impl Mode {
    /// All modes.
    pub(crate) const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// One place of the matrix: a mode on a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) label: &'static str,
    pub(crate) mode: Mode,
    pub(crate) offer: Offer,
}

/// Whether and when a cell is tested.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// By `cargo xtask ci`, too.
    Always,
    /// The same, but there only what the mode decides.
    ByMode,
    /// By `cargo xtask test` and `nightly`.
    Full,
    /// Never, for this reason.
    Refused(String),
}

/// All cells, oldest kernel first.
pub(crate) fn read() -> Result<Vec<Cell>> {
    let path = paths::repository().join("tests/matrix.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Cell>> {
    let table: Table = text.parse()?;
    if let Some(unknown) = table.keys().find(|label| !LABELS.contains(&label.as_str())) {
        bail!("kernel {unknown} is none of {}", LABELS.join(", "));
    }
    let mut cells = Vec::new();
    for label in LABELS {
        for mode in Mode::ALL {
            let value = table.get(label).and_then(|row| row.get(mode.to_string()));
            let offer = match value.and_then(Value::as_str) {
                Some("ci") => Offer::Always,
                Some("ci, by mode") => Offer::ByMode,
                Some("full") => Offer::Full,
                Some(reason) => Offer::Refused(reason.to_owned()),
                None => bail!("{label}: {mode} has neither \"ci\" nor \"full\" nor a reason"),
            };
            cells.push(Cell { label, mode, offer });
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_repository_covers_every_kernel_and_mode() {
        assert_eq!(read().unwrap().len(), LABELS.len() * Mode::ALL.len());
    }

    #[test]
    fn a_missing_mode_is_an_error_that_names_it() {
        let error = parse("[\"5.10\"]\nfentry = \"ci\"\nkprobe = \"no\"\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "5.10: tracepoint has neither \"ci\" nor \"full\" nor a reason"
        );
    }
}
