//! Prometheus and promtool, unpacked into the tools rather than installed: the package would start a
//! service on this machine.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Item, Scope, apt, tools};
use crate::{command, paths};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

pub(super) fn item() -> Item {
    Item {
        name: "Prometheus".to_owned(),
        scope: Scope::Tests,
        find: Box::new(|| {
            let all: Option<Vec<_>> = PROGRAMS.iter().map(|name| paths::program(name)).collect();
            Some(all?[0].display().to_string())
        }),
        install: Box::new(install),
        by_hand: Box::new(|| vec![apt::by_hand(&["prometheus".to_owned()])]),
    }
}

fn install() -> Result<()> {
    anyhow::ensure!(
        apt::is_here(),
        "no apt-get here: put prometheus and promtool into PATH"
    );
    if apt::names("prometheus").is_empty() {
        apt::update()?;
    }
    let partial = tools::partial("prometheus")?;
    let download = || {
        let mut apt = Command::new("apt-get");
        command::run(
            apt.args(["--quiet", "download", "prometheus"])
                .current_dir(&partial),
        )
    };
    // Lists that are older than the mirror name files that are gone.
    download().or_else(|_| apt::update().and_then(|()| download()))?;
    let package = super::debian::only_package_in(&partial)?;
    super::debian::unpack(&package, &partial)?;
    std::fs::remove_file(&package).with_context(|| format!("removing {}", package.display()))?;
    let installed = tools::publish(&partial, "tools/prometheus")?;
    PROGRAMS
        .iter()
        .try_for_each(|name| tools::link(&installed.join("usr/bin").join(name), name))
}
