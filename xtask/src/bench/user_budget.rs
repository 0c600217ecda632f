//! `bench/budget-user.toml`: how many instructions a record may cost the daemon. In: what was measured.
//! Out: what has become dearer, or a new file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::paths;

/// So much more than the budget is noise, in per cent.
const TOLERANCE: f64 = 2.0;

/// Instructions by what they were spent on.
pub(super) type Budget = BTreeMap<String, u64>;

fn file() -> PathBuf {
    paths::repository().join("bench/budget-user.toml")
}

fn read() -> Result<Budget> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("understanding {}", file.display()))
}

/// Prints what was measured beside the budget. Returns whether all of it is within.
pub(super) fn keeps(measured: &Budget) -> Result<bool> {
    let budget = read()?;
    let mut is_within = true;
    println!("\nbudget, instructions:");
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
pub(super) fn record(measured: &Budget) -> Result<()> {
    let mut text =
        "# Instructions that a record may cost the daemon; `cargo xtask bench user --record` writes this.\n\n"
            .to_owned();
    for (what, count) in measured {
        text += &format!("{what} = {count}\n");
    }
    let file = file();
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}
