//! `cargo xtask deb`: a package for Debian and Ubuntu.
//!
//! In: this workspace; what the package has in it stands in `tracer/Cargo.toml`. Out: a `.deb`. The program is
//! static: the package depends on nothing that a Debian system could lack.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use super::{Contents, epoch};
use crate::{command, paths, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Packages, !options.no_setup)?;
    println!("{}", build(&Contents::prepare()?, "1")?.display());
    Ok(ExitCode::SUCCESS)
}

/// Packs it, as this revision of the version.
pub(crate) fn build(contents: &Contents, revision: &str) -> Result<PathBuf> {
    let package = contents
        .directory
        .join(format!("tracer_{}-{revision}.deb", contents.version));
    let program = paths::program("cargo-deb").context("cargo-deb is missing")?;
    let mut cargo_deb = Command::new(program);
    cargo_deb.current_dir(paths::repository());
    cargo_deb.env("SOURCE_DATE_EPOCH", epoch()?);
    cargo_deb.args(["--package", "tracer", "--no-build", "--no-strip", "--quiet"]);
    cargo_deb.args(["--locked", "--deb-revision", revision, "--output"]);
    command::run(cargo_deb.arg(&package))?;
    Ok(package)
}
