//! `bench/budget-user.toml`: how many instructions a record may cost the daemon. In: what was measured. Out: what
//! has become dearer, or a new section of the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::paths;

/// So much more than the budget is noise, in per cent.
const TOLERANCE: f64 = 2.0;

/// Instructions by what they were spent on.
pub(super) type Section = BTreeMap<String, u64>;

type Budget = BTreeMap<String, Section>;

fn file() -> PathBuf {
    paths::repository().join("bench/budget-user.toml")
}

fn read() -> Result<Budget> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("understanding {}", file.display()))
}

/// Prints what was measured beside the budget. Returns whether all of it is within.
pub(super) fn keeps(name: &str, measured: &Section) -> Result<bool> {
    let budget = read()?.remove(name).unwrap_or_default();
    let mut is_within = true;
    println!("\nbudget [{name}], instructions:");
    for (what, &count) in measured {
        let Some(&allowed) = budget.get(what) else {
            println!("  {what:32} {count:>9}  not in the budget: --record enters it");
            is_within = false;
            continue;
        };
        let percent = (count as f64 / allowed as f64 - 1.0) * 100.0;
        let is_over = percent > TOLERANCE;
        let verdict = if is_over { "  TOO MANY" } else { "" };
        println!("  {what:32} {count:>9}  of {allowed:>9}  {percent:+.1} %{verdict}");
        is_within &= !is_over;
    }
    Ok(is_within)
}

/// Makes what was measured the budget.
pub(super) fn record(name: &str, measured: Section) -> Result<()> {
    let mut budget = if file().exists() {
        read()?
    } else {
        Budget::new()
    };
    budget.insert(name.to_owned(), measured);
    let mut text =
        "# Instructions that each thing may cost; `cargo xtask bench … --record` writes this.\n"
            .to_owned();
    for (name, section) in &budget {
        text += &format!("\n[{name}]\n");
        for (what, count) in section {
            text += &format!("{what} = {count}\n");
        }
    }
    let file = file();
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}
