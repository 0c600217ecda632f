//! Other people's tracers, to measure ours beside: Debian's packages with the shared libraries that they
//! need, unpacked into `peers` of the cache and installed nowhere. libc alone is the machine's, as in
//! every guest. `versions` says which packages these are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::debian::{self, Archive};
use super::{Item, Scope, tools};
use crate::{command, paths};

/// What is asked for; its dependencies come with it.
const PACKAGES: [&str; 2] = ["libbpf-tools", "bpftrace"];

/// What a user of Debian 12 gets.
const SUITE: &str = "bookworm";

/// Where the packages have programs and libraries.
const PROGRAMS: [&str; 2] = ["usr/sbin", "usr/bin"];
const LIBRARIES: [&str; 3] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/llvm-14/lib",
];

/// The directory in the cache, complete.
pub(crate) struct Peers {
    directory: PathBuf,
}

impl Peers {
    /// Where set-up has put them.
    pub(crate) fn find() -> Result<Self> {
        let peers = Self {
            directory: paths::cache()?.join("peers"),
        };
        ensure!(
            peers.directory.join("versions").is_file(),
            "the other tracers are missing:  cargo xtask setup --peers"
        );
        Ok(peers)
    }

    /// A program of theirs.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let places = PROGRAMS.map(|place| self.directory.join(place).join(name));
        let found = places.into_iter().find(|program| program.is_file());
        found.with_context(|| format!("{name} is not in {}", PACKAGES.join(" or ")))
    }

    /// Where their shared libraries are.
    pub(crate) fn libraries(&self) -> Vec<PathBuf> {
        LIBRARIES.map(|place| self.directory.join(place)).into()
    }

    /// What was asked for, each with its version.
    pub(crate) fn versions(&self) -> String {
        let versions = fs::read_to_string(self.directory.join("versions")).unwrap_or_default();
        versions.lines().collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn item() -> Item {
    Item {
        name: format!("other tracers ({})", PACKAGES.join(", ")),
        scope: Scope::Peers,
        find: Box::new(|| Peers::find().ok().map(|peers| peers.versions())),
        install: Box::new(install),
        by_hand: Box::new(|| {
            vec!["cargo xtask setup --peers    # unpacks packages, installs none".to_owned()]
        }),
    }
}

fn install() -> Result<()> {
    let archive = Archive::open()?;
    let partial = tools::partial("peers")?;
    let downloads = tools::partial("peers-packages")?;
    archive.download_with_dependencies(&PACKAGES, SUITE, &downloads)?;
    let mut versions = String::new();
    for package in packages_in(&downloads)? {
        let [name, version] = describe(&package)?;
        if name == "libc6" {
            continue;
        }
        debian::unpack(&package, &partial)?;
        if PACKAGES.contains(&name.as_str()) {
            versions += &format!("{name} {version}\n");
        }
    }
    fs::write(partial.join("versions"), versions).context("writing the packages' versions")?;
    tools::remove(&downloads)?;
    tools::publish(&partial, "peers")?;
    Ok(())
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("reading {}", directory.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// A package's name and version.
fn describe(package: &Path) -> Result<[String; 2]> {
    let mut show = Command::new("dpkg-deb");
    show.args(["--show", "--showformat", "${Package} ${Version}"]);
    let shown = command::text(show.arg(package))?;
    let (name, version) = shown
        .split_once(' ')
        .with_context(|| format!("{} has no version", package.display()))?;
    Ok([name, version].map(str::to_owned))
}
