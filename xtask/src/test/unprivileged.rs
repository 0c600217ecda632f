//! The tests that need neither root nor a particular kernel: unit and replay tests, and examples in
//! documentation. They are what a plain `cargo test` runs, without the programs that could only say
//! there that they ignore everything.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{KERNEL, PACKAGES as HANDED_OUT, Row, SURROUNDINGS, Verdict, tee};
use crate::{command, paths};

/// Everything but the kernel programs, which no host can run.
const PACKAGES: [&str; 3] = ["--workspace", "--exclude", "tracer-ebpf"];

/// Runs them all; one row.
pub(super) fn run(filter: Option<&str>) -> Result<Row> {
    println!("unit and replay tests");
    let mut programs = vec!["--lib".to_owned(), "--bins".to_owned()];
    for target in test_targets()? {
        programs.extend(["--test".to_owned(), target]);
    }
    let verdict = Verdict::timed(|| {
        let tests = cargo_test(&programs, filter)?.or_nothing_ran(filter);
        Ok(tests + cargo_test(&["--doc".to_owned()], filter)?)
    })?;
    Ok(Row {
        place: "unit and replay tests".to_owned(),
        mode: None,
        verdict,
    })
}

fn cargo_test(what: &[String], filter: Option<&str>) -> Result<super::Tally> {
    let mut cargo = command::cargo(&["test", "--no-fail-fast"]);
    cargo
        .args(PACKAGES)
        .args(what)
        .args(filter)
        .env("PATH", paths::search_path());
    for variable in ["TRACER_BIN", "TRACER_HOOK_MODE"] {
        cargo.env_remove(variable);
    }
    tee(&mut cargo)
}

/// The names of all integration tests in the workspace but the privileged ones.
fn test_targets() -> Result<Vec<String>> {
    let mut cargo = command::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value =
        serde_json::from_slice(&command::output(&mut cargo)?).context("cargo's metadata")?;
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let targets = items(&metadata["packages"])
        .into_iter()
        .flat_map(|package| items(&package["targets"]));
    let is_test = |target: &Value| items(&target["kind"]).contains(&Value::from("test"));
    let names = targets
        .filter(is_test)
        .filter_map(|target| Some(target["name"].as_str()?.to_owned()));
    Ok(names
        .filter(|name| name != KERNEL && name != SURROUNDINGS && name != HANDED_OUT)
        .collect())
}
