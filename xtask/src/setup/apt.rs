//! The machine's package manager: what it offers, and installing from it without a question asked.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

use crate::{command, paths};

/// Whether this machine has apt.
pub(super) fn is_here() -> bool {
    paths::program("apt-get").is_some()
}

/// The line that one would type to install `packages`.
pub(super) fn by_hand(packages: &[String]) -> String {
    let sudo = if command::is_root() { "" } else { "sudo " };
    format!(
        "{sudo}apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

/// Installs `packages`, after updating the lists once in this process.
pub(super) fn install(packages: &[String]) -> Result<()> {
    if !is_here() {
        bail!(
            "no apt-get here; with this system's own means, install: {}",
            packages.join(" ")
        );
    }
    update()?;
    // A run that was killed may have left packages unpacked but not configured.
    command::run(as_root("dpkg")?.args(["--configure", "-a"]))?;
    command::run(
        apt_get()?
            // Debian's own `rustup` conflicts with its `rustc-web`: nothing is removed behind your back.
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args([
                "-o",
                "Dpkg::Options::=--force-confold",
                "-o",
                "Dpkg::Use-Pty=0",
            ])
            .args(packages),
    )
    .with_context(|| format!("by hand: {}", by_hand(packages)))
}

/// Updates the package lists, once in this process.
pub(super) fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_none() {
        command::run(apt_get()?.arg("update"))?;
        DONE.get_or_init(|| ());
    }
    Ok(())
}

/// The names of known packages that begin with `prefix`.
pub(super) fn names(prefix: &str) -> Vec<String> {
    let listed = command::text(Command::new("apt-cache").args(["pkgnames", prefix]));
    listed
        .map(|names| names.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn apt_get() -> Result<Command> {
    let mut apt = as_root("apt-get")?;
    apt.args(["--quiet", "-o", "DPkg::Lock::Timeout=600"]);
    Ok(apt)
}

/// In a process group of its own, so that Ctrl-C does not stop dpkg between two packages.
fn as_root(program: &str) -> Result<Command> {
    let environment = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("NEEDRESTART_SUSPEND", "1"),
    ];
    let environment = environment.map(|(name, value)| (name, OsStr::new(value)));
    let mut command = command::as_root(OsStr::new(program), &environment)
        .context("packages are missing and there is no sudo: run `cargo xtask setup` as root")?;
    command.process_group(0);
    Ok(command)
}
