//! `cargo xtask bench`: what tracing costs. One file a kind of measurement; what comes out is compared
//! with the budgets in `bench/`.

use std::process::ExitCode;

use anyhow::Result;

mod budget;
mod kernel;
mod measurement;
mod user;
mod user_budget;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommands {
    /// Instructions that tracing adds to connections, processes and system calls, in emulated machines
    Kernel(kernel::Options),
    /// The daemon: a made-up ring through decoding, attribution, metrics and outputs
    User(user::Options),
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.subcommand {
        Subcommands::Kernel(options) => kernel::main(options),
        Subcommands::User(options) => user::main(options),
    }
}
