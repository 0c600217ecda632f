//! `cargo xtask run`: sets up what is missing, builds, and becomes `tracer run`. Events go to stdout,
//! everything else to stderr; the exit status is tracer's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{artifacts, command, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
    /// Arguments of `tracer run`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Build, !options.no_setup)?;
    let tracer = artifacts::tracer()?;
    let mut command = command::as_root(tracer.as_os_str(), &[])
        .context("tracer needs root, and there is no sudo: run this as root")?;
    let error = command.arg("run").args(&options.arguments).exec();
    Err(error).with_context(|| format!("starting {}", tracer.display()))
}
