//! `cargo xtask bench peers`: what a user would take instead of `tracer`, in the same guest and with the
//! same workloads: what it costs, and how much of what happened it tells. A guest for each tool, one
//! after the other; out comes a table.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{guest, kernel};
use crate::setup::kernels::Kernel;
use crate::setup::peers::Peers;
use crate::{command, paths, setup, vm};

/// What `bench-kernel peer` knows (bench/src/kernel/peers/tool.rs), ours first.
const TOOLS: [&str; 6] = [
    "tracer",
    "tcplife",
    "tcptracer",
    "tcpconnect",
    "execsnoop",
    "bpftrace",
];

const WORKLOADS: [&str; 3] = ["connection", "refused", "process"];

/// bpftrace brings a compiler.
const MEMORY: &str = "3G";

/// The script that bpftrace runs, here and there.
const SCRIPT: (&str, &str) = ("bench/connections.bt", "/usr/share/connections.bt");

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The kernel of the VM matrix
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// One tool, instead of all
    #[arg(long, value_parser = TOOLS)]
    tool: Option<String>,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Tests, !options.no_setup)?;
    setup::ensure(setup::Scope::Peers, !options.no_setup)?;
    let (kernel, peers) = (Kernel::find(&options.kernel)?, Peers::find()?);
    let ours = kernel::programs()?;
    let tools = options
        .tool
        .as_ref()
        .map_or(TOOLS.to_vec(), |tool| vec![tool]);
    let rows: Vec<_> = tools
        .iter()
        .map(|tool| (tool, measure(tool, &kernel, &peers, &ours)))
        .collect();
    println!("\nkernel {}; {}\n", kernel.version(), peers.versions());
    println!("{}", header());
    for (tool, row) in &rows {
        match row {
            Ok(row) => println!("{row}"),
            Err(error) => println!("{tool:11}FAILED: {error:#}"),
        }
    }
    println!("\n{NOTES}");
    Ok(match rows.iter().all(|(_, row)| row.is_ok()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A tool's line, from a guest of its own.
fn measure(tool: &str, kernel: &Kernel, peers: &Peers, ours: &[vm::Program]) -> Result<String> {
    let programs = [ours, &files(tool, peers)?].concat();
    let name = format!("peers-{}-{tool}", kernel.label);
    let command = [guest::PROGRAM, "peer", tool].map(Into::into).to_vec();
    let result = command::step(&format!("measuring {tool}"), || {
        guest::measure(kernel, &name, &programs, command, MEMORY)
    })?;
    let result = serde_json::from_str(&result).context("the measurement is no JSON")?;
    row(tool, &result).with_context(|| format!("the measurement of {tool}"))
}

/// What the guest needs to run a tool.
fn files(tool: &str, peers: &Peers) -> Result<Vec<vm::Program>> {
    if tool == TOOLS[0] {
        return Ok(Vec::new());
    }
    let mut files = vec![vm::Program {
        here: peers.program(tool)?,
        there: format!("/usr/bin/{tool}").into(),
        libraries: peers.libraries(),
    }];
    if tool == "bpftrace" {
        files.push(vm::Program {
            here: paths::repository().join(SCRIPT.0),
            there: SCRIPT.1.into(),
            libraries: Vec::new(),
        });
    }
    Ok(files)
}

const NOTES: &str = "\
connection, refused, process: instructions that an operation takes more while the tool runs and writes to a
  file on tmpfs.
told: of the events that the tool claims to tell of these, in rounds of hundreds of operations in a tenth of
  a second / of operations every 10 ms / of a round during which the tool stands still. (An event counts if a
  line names process and port, or parent and program.) -: it claims none.
first: from its start to the first thing that it tells, in seconds of a clock that counts instructions.";

/// How operations came, as `bench-kernel peer` names it.
const CONDITIONS: [&str; 3] = ["burst", "slow", "held_off"];

fn header() -> String {
    let workloads = WORKLOADS.map(|workload| format!("{workload:>11} {:>14}", "told, %"));
    format!("{:11}{}{:>8}{:>8}", "", workloads.join(""), "MiB", "first")
}

/// A tool's line.
fn row(tool: &str, result: &Value) -> Result<String> {
    let mut row = format!("{tool:11}");
    for workload in WORKLOADS {
        let rounds = |condition: &str| median(&result[condition][workload]);
        let added = rounds("running")? - rounds("bare")?;
        let shares = CONDITIONS.map(|condition| share(&result[condition][workload]));
        let shares = shares.into_iter().collect::<Result<Vec<_>>>()?;
        let told = match shares.contains(&None) {
            true => "-".to_owned(),
            false => shares
                .into_iter()
                .flatten()
                .map(percent)
                .collect::<Vec<_>>()
                .join("/"),
        };
        row += &format!("{added:>11.0} {told:>14}");
    }
    let resident = number(&result["resident"])? / f64::from(1 << 20);
    let first = number(&result["first"])?;
    Ok(format!("{row}{resident:>8.1}{first:>8.2}"))
}

/// What a tool told, of what it claims to tell; `None` if it claims nothing.
fn share(counts: &Value) -> Result<Option<f64>> {
    let (expected, told) = (number(&counts["expected"])?, number(&counts["told"])?);
    Ok((expected > 0.0).then(|| told / expected))
}

/// Rounded down: what is not all does not look like it.
fn percent(share: f64) -> String {
    ((share * 1000.0).floor() / 10.0).to_string()
}

fn median(rounds: &Value) -> Result<f64> {
    let rounds = rounds.as_array().context("no rounds")?;
    let mut rounds = rounds.iter().map(number).collect::<Result<Vec<f64>>>()?;
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().context("no rounds")
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("not a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_added_and_how_much_is_told() {
        let rounds = |cost: f64| serde_json::json!([cost, cost, cost + 1.0]);
        let of_all = |value: Value| -> Value {
            WORKLOADS
                .map(|workload| (workload.to_owned(), value.clone()))
                .into_iter()
                .collect()
        };
        let mut burst = of_all(serde_json::json!({"expected": 1000, "told": 995}));
        burst["process"] = serde_json::json!({"expected": 0, "told": 0});
        let result = serde_json::json!({
            "bare": of_all(rounds(1000.0)), "running": of_all(rounds(1500.0)),
            "burst": burst, "slow": of_all(serde_json::json!({"expected": 10, "told": 10})),
            "held_off": of_all(serde_json::json!({"expected": 9, "told": 3})),
            "resident": 3 << 20, "first": 0.5,
        });
        let row = row("tool", &result).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let told = ["500", "99.5/100/33.3"];
        assert_eq!(
            words,
            [
                &["tool"],
                &told[..],
                &told[..],
                &["500", "-", "3.0", "0.50"]
            ]
            .concat()
        );
    }
}
