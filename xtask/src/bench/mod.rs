//! `cargo xtask bench`: what tracing costs. One file a kind of measurement; what comes out is compared
//! with `bench/budget.toml`.

use std::process::ExitCode;

use anyhow::Result;

mod budget;
mod kernel;
mod measurement;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommands {
    /// Instructions that tracing adds to connections, processes and system calls, in emulated machines
    Kernel(kernel::Options),
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.subcommand {
        Subcommands::Kernel(options) => kernel::main(options),
    }
}
