//! What the daemon costs in user space: `bench replay`, `bench processes`, `bench connections`, run by
//! `cargo xtask bench user`; `bench history`, `bench retain`, by `cargo xtask bench history`. In: how much. Out: figures as one JSON object, on stdout.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde_json::json;

mod allocator;
mod history;
mod memory;
mod population;
mod random;
mod replay;
mod ring;
mod script;
mod wire;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// Measures what the daemon does with the kernel programs' records.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Replays a ring through decoding, attribution, metrics and one output
    Replay {
        /// What makes lines of it
        output: replay::Output,
        /// Records in the ring; a quarter of them only warm it up
        #[arg(long, default_value_t = 1_000_000)]
        records: usize,
    },
    /// Memory of so many living processes
    Processes {
        #[arg(default_value_t = 100_000)]
        count: usize,
    },
    /// Memory of so many open connections
    Connections {
        #[arg(default_value_t = 100_000)]
        count: usize,
    },
    /// Writes the history of a day with so many connections
    History {
        directory: PathBuf,
        #[arg(long, default_value_t = 10_000_000)]
        connections: u64,
    },
    /// Deletes the older half of a history
    Retain { directory: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let figures = match Options::parse().subcommand {
        Subcommands::Replay { output, records } => {
            let figures = replay::run(output, records)?;
            json!({
                "records": figures.records,
                "lines": figures.lines,
                "seconds": figures.seconds,
                "allocations": figures.allocations,
            })
        }
        Subcommands::Processes { count } => memory::processes(count)?,
        Subcommands::Connections { count } => memory::connections(count)?,
        Subcommands::History {
            directory,
            connections,
        } => history::write(&directory, connections)?,
        Subcommands::Retain { directory } => history::retain(&directory)?,
    };
    println!("{figures}");
    Ok(())
}
