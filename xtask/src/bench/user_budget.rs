//! `bench/budget-user.toml`: how many instructions a record may cost the daemon. In: what was measured.
//! Out: what has become dearer, or a new file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use toml::Table;

use super::comparison::Comparison;
use super::conditions::Conditions;
use crate::paths;

const HEADER: &str = "\
# Instructions that a record may cost the daemon, and with what they were counted.
# Written by `cargo xtask bench user --record`.
";

/// Conditions of the counts.
const MEASURED_WITH: &str = "measured_with";

/// Instructions by what they were spent on.
pub(super) type Budget = BTreeMap<String, i64>;

/// What was measured beside the budget.
pub(super) fn compare(measured: &Budget) -> Result<Comparison> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let budget: Table = text
        .parse()
        .with_context(|| format!("understanding {}", file.display()))?;
    let measured_with = Conditions::parse(budget.get(MEASURED_WITH));
    let title = "instructions of the daemon".to_owned();
    let mut comparison = Comparison::new(title, &Conditions::of_replay()?, &measured_with);
    for (what, &count) in measured {
        match budget.get(what).and_then(toml::Value::as_integer) {
            Some(allowed) => comparison.limited(what, allowed, count, 0.0),
            None => comparison.unbudgeted(what, count),
        }
    }
    Ok(comparison)
}

/// Makes what was measured the budget.
pub(super) fn record(measured: &Budget) -> Result<()> {
    let conditions = Conditions::of_replay()?.text();
    let mut text = format!("{HEADER}\n{MEASURED_WITH} = {conditions}\n");
    for (what, count) in measured {
        text += &format!("{what} = {count}\n");
    }
    let file = file();
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

fn file() -> PathBuf {
    paths::repository().join("bench/budget-user.toml")
}
