//! The same day as Parquet, read by DuckDB: what a store made for analysis takes for the same questions. In: the
//! export. Out: a table; or why there is none, since it needs a Python that has the module `duckdb`.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::super::target::line;
use super::{Day, RARE, figures, number};
use crate::command;

/// Asks, best of some, without the time that an interpreter needs to start.
const SCRIPT: &str = include_str!("parquet.py");

/// What stands below the figures of the history.
pub(super) fn compare(day: &Day) -> Result<String> {
    let Some(python) = python() else {
        return Ok(
            "DuckDB is left out: neither $PYTHON nor python3 has it (`pip install duckdb`)"
                .to_owned(),
        );
    };
    let asked = command::step("asking DuckDB", || {
        let mut ask = Command::new(&python);
        ask.args(["-c", SCRIPT]).arg(day.parquet());
        figures(ask.args([day.time("last_ten_minutes")?, RARE]))
    })?;
    table(&asked)
}

fn table(asked: &Value) -> Result<String> {
    let rows = number(asked, "rows")?;
    let per_row = |name| Ok::<_, anyhow::Error>(number(asked, name)? / rows);
    let version = asked["version"].as_str().unwrap_or("of unknown version");
    let mut table = vec![format!(
        "The same day as Parquet, asked by DuckDB {version} on all processors:"
    )];
    for (what, figure, unit) in [
        ("on disk", per_row("bytes")?, "bytes/connection"),
        (
            "of that, identifiers",
            per_row("bytes_of_identifiers")?,
            "bytes/connection",
        ),
        ("talkers of 10 min", number(asked, "talkers")?, "ms"),
        ("who, of the day, a rare peer", number(asked, "who")?, "ms"),
        ("by program, of the day", number(asked, "by_program")?, "ms"),
    ] {
        table.push(line(what, figure, unit, None));
    }
    Ok(table.join("\n"))
}

/// A Python that has the module.
fn python() -> Option<OsString> {
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(&python).args(["-c", "import duckdb"]).output();
    output.ok()?.status.success().then_some(python)
}
