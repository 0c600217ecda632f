//! What the daemon costs in user space: `bench replay`, `bench processes`, `bench connections`, run by
//! `cargo xtask bench user`. In: how much. Out: figures as one JSON object, on stdout.

use clap::{Parser, Subcommand};
use serde_json::json;

mod allocator;
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
    };
    println!("{figures}");
    Ok(())
}
