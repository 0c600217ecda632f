//! QEMU, in which the guests run: where the machine has none, Debian 12's with the shared libraries that it
//! needs, unpacked into the tools rather than installed. So it stands in the way of no other package (backports'
//! `qemu-utils` and the release's `qemu-system-x86` exclude one another), and is the one that the budgets were
//! recorded with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};

use super::{Item, Scope, apt, debian, tools};
use crate::paths;

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";
/// The package that has it, and its suite.
const PACKAGE: &str = "qemu-system-x86";
const SUITE: &str = "bookworm";

/// Starts it with the libraries beside it, some of which lie in a directory of their own.
const START: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
libraries=$root/usr/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$libraries:$root/lib/x86_64-linux-gnu:$libraries/pulseaudio \
    exec "$root/usr/bin/qemu-system-x86_64" "$@"
"#;

pub(super) fn item() -> Item {
    Item {
        name: "QEMU".to_owned(),
        scope: Scope::Tests,
        find: Box::new(|| Some(paths::program(PROGRAM)?.display().to_string())),
        install: Box::new(install),
        by_hand: Box::new(|| vec![apt::by_hand(&[PACKAGE.to_owned()])]),
    }
}

fn install() -> Result<()> {
    let partial = tools::partial("qemu")?;
    debian::unpack_with_dependencies(&[PACKAGE], SUITE, &partial)?;
    let start = partial.join("start");
    fs::write(&start, START).with_context(|| format!("writing {}", start.display()))?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", start.display()))?;
    let installed = tools::publish(&partial, "tools/qemu")?;
    tools::link(&installed.join("start"), PROGRAM)
}
