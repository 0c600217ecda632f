//! What each kernel program takes, by the kernel's own count, in the `fdinfo` of its descriptor
//! (bpf_prog_show_fdinfo, kernel/bpf/syscall.c). Names come from the kernel's symbols, by the program's
//! tag: what the kernel keeps elsewhere is cut after 15 characters.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::workload::Workload;

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const SYMBOLS: &str = "/proc/sys/net/core/bpf_jit_kallsyms";

/// Nanoseconds and runs, by tag.
type Counts = BTreeMap<String, (u64, u64)>;

/// Makes the kernel name programs among its symbols, if they are loaded from now on.
pub(crate) fn name_them() -> Result<()> {
    fs::write(SYMBOLS, "1").context(SYMBOLS)
}

/// A round while the tracer stands still and the kernel counts: by program, instructions and runs for
/// one operation.
pub(crate) fn count(workload: &mut Workload, daemon: &Daemon) -> Result<Value> {
    workload.rest();
    let done = workload.done;
    fs::write(STATS, "1").context(STATS)?;
    let before = counts(daemon)?;
    daemon.stopped(|| workload.timed())?;
    let after = counts(daemon)?;
    fs::write(STATS, "0").context(STATS)?;
    let operations = f64::from(workload.done - done);
    let names = names()?;
    let mut programs = json!({});
    for (tag, (time, runs)) in after {
        let (time_before, runs_before) = before.get(&tag).copied().unwrap_or_default();
        let each = |count: u64| count as f64 / operations;
        let runs = each(runs - runs_before);
        // What runs now and then has nothing to do with the workload.
        if runs >= 0.5 {
            let name = names.get(&tag).unwrap_or(&tag);
            programs[name] = json!({"instructions": each(time - time_before), "runs": runs});
        }
    }
    Ok(programs)
}

fn counts(daemon: &Daemon) -> Result<Counts> {
    let mut counts = Counts::new();
    let directory = format!("/proc/{}/fdinfo", daemon.id());
    for entry in fs::read_dir(&directory).context("the tracer has ended")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let value = |key: &str| {
            let mut lines = text.lines();
            Some(lines.find_map(|line| line.strip_prefix(key))?.trim())
        };
        let number = |key: &str| value(key)?.parse::<u64>().ok();
        if let (Some(tag), Some(time), Some(runs)) = (
            value("prog_tag:"),
            number("run_time_ns:"),
            number("run_cnt:"),
        ) {
            let (time_of_tag, runs_of_tag) = counts.entry(tag.to_owned()).or_default();
            *time_of_tag += time;
            *runs_of_tag += runs;
        }
    }
    Ok(counts)
}

/// Names by tag: a symbol is `bpf_prog_TAG_NAME`. Programs of the same code have the same tag, which stands
/// for the first of them.
fn names() -> Result<HashMap<String, String>> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?;
    let programs = symbols.lines().filter_map(|line| {
        let symbol = line.split_whitespace().nth(2)?;
        symbol.strip_prefix("bpf_prog_")?.split_once('_')
    });
    let mut names = HashMap::new();
    for (tag, name) in programs {
        let first = names.entry(tag.to_owned()).or_insert(name.to_owned());
        if name < first.as_str() {
            name.clone_into(first);
        }
    }
    Ok(names)
}
