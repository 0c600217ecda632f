//! The Rust compiler with a core for BPF: the distribution's, whatever its packages are called, or
//! an installed nightly.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Item, Scope, apt};
use crate::{command, ebpf_toolchain};

const NIGHTLY: &str = "rustup toolchain install nightly --profile minimal --component rust-src";

pub(super) fn item() -> Item {
    Item {
        name: "Rust with a core for BPF".to_owned(),
        scope: Scope::Build,
        find: Box::new(|| Some(ebpf_toolchain::find_compiler()?.rustc.display().to_string())),
        install: Box::new(install),
        by_hand: Box::new(|| match packages() {
            Some(packages) => vec![apt::by_hand(&packages)],
            None => vec![NIGHTLY.to_owned()],
        }),
    }
}

fn install() -> Result<()> {
    if apt::is_here() {
        apt::update()?;
    }
    let Some(packages) = packages() else {
        bail!(
            "this system's packages have no Rust with a core for BPF (on Debian 12 and later it is \
             libstd-rust-web-dev-bpf or libstd-rust-dev-bpf). A nightly serves as well:  {NIGHTLY}"
        );
    };
    apt::install(&packages)
}

/// rustc, cargo and the core for BPF, of one series: the plain one if it has a core, else `-web`
/// (which Debian updates in its stable releases for browsers) or the newest with a version.
fn packages() -> Option<Vec<String>> {
    let names = apt::names("libstd-rust");
    let series = |name: &str| {
        let series = name.strip_prefix("libstd-rust")?.strip_suffix("-dev-bpf")?;
        Some(series.to_owned())
    };
    let mut all: Vec<String> = names.iter().filter_map(|name| series(name)).collect();
    all.sort_by_key(|series| (series != "-web", numbers(series)));
    let chosen = all.iter().find(|series| series.is_empty()).or(all.last())?;
    Some(vec![
        format!("rustc{chosen}"),
        format!("cargo{chosen}"),
        format!("libstd-rust{chosen}-dev-bpf"),
    ])
}

/// The numbers in a name, for sorting by version.
pub(super) fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The major version of the LLVM that `rustc` was built with.
pub(super) fn llvm_major(rustc: &Path) -> Result<u32> {
    let mut command = Command::new(rustc);
    let version = command::text(command.arg("-vV").env_remove("LD_LIBRARY_PATH"))?;
    version
        .lines()
        .find_map(|line| {
            line.strip_prefix("LLVM version: ")?
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("{} -vV names no LLVM version", rustc.display()))
}
