//! `cargo xtask bench`: what tracing costs. One file for each place where it costs something.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod budget;
mod user;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Place {
    /// The daemon: a recorded ring through decoding, attribution, metrics and outputs
    User(user::Options),
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.place {
        Place::User(options) => user::main(options),
    }
}
