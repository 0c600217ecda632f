//! Other people's tracers, to measure ours beside: Debian's packages with the shared libraries that they
//! need, unpacked into `peers` of the cache and installed nowhere. `versions` says which packages these are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::{Item, Scope, debian, tools};
use crate::paths;

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
    let partial = tools::partial("peers")?;
    let unpacked = debian::unpack_with_dependencies(&PACKAGES, SUITE, &partial)?;
    let asked = unpacked
        .iter()
        .filter(|[name, _]| PACKAGES.contains(&name.as_str()));
    let versions: String = asked
        .map(|[name, version]| format!("{name} {version}\n"))
        .collect();
    fs::write(partial.join("versions"), versions).context("writing the packages' versions")?;
    tools::publish(&partial, "peers")?;
    Ok(())
}
