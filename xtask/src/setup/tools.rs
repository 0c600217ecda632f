//! The directory of tools in the cache: each has a directory that names its version, and a symbolic
//! link in `tools/bin`. Directories arrive complete, by one rename.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

use crate::{command, paths};

const PARTIAL: &str = "partial-";

/// A directory to prepare something in; [`publish`] moves it to its place.
pub(super) fn partial(name: &str) -> Result<PathBuf> {
    let path = paths::cache()?.join(format!("{PARTIAL}{}-{name}", process::id()));
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Removes what interrupted runs have left.
pub(super) fn remove_partial() -> Result<()> {
    let cache = paths::cache()?;
    for entry in fs::read_dir(&cache).with_context(|| format!("reading {}", cache.display()))? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PARTIAL.as_bytes())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Moves a prepared directory to `place` below the cache, replacing what was there.
pub(super) fn publish(partial: &Path, place: &str) -> Result<PathBuf> {
    let place = paths::cache()?.join(place);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    remove(&place)?;
    fs::rename(partial, &place).with_context(|| format!("renaming to {}", place.display()))?;
    Ok(place)
}

/// Links `tools/bin/NAME` to `program`, replacing what was there at once.
pub(super) fn link(program: &Path, name: &str) -> Result<()> {
    let bin = paths::cache()?.join("tools/bin");
    fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    let next = bin.join(format!(".{name}-{}", process::id()));
    remove(&next)?;
    symlink(program, &next).with_context(|| format!("linking {}", next.display()))?;
    fs::rename(&next, bin.join(name)).with_context(|| format!("linking {name}"))
}

/// Builds a crate's program into the tools, as `place`.
pub(super) fn cargo_install(
    name: &str,
    version: &str,
    place: &str,
    arguments: &[String],
    environment: &[(&str, String)],
) -> Result<()> {
    let partial = partial(name)?;
    let target = partial.join("target");
    let mut cargo = command::cargo(&["install", name, "--locked", "--version"]);
    cargo
        .arg(format!("={version}"))
        .args(arguments)
        .arg("--root")
        .arg(&partial)
        .env("CARGO_TARGET_DIR", &target)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command::run(&mut cargo)?;
    remove(&target)?;
    let installed = publish(&partial, &format!("tools/{place}"))?;
    link(&installed.join("bin").join(name), name)
}

/// Removes whatever is at `path`, if anything is.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_symlink() || path.is_file() {
        fs::remove_file(path)
    } else {
        fs::remove_dir_all(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
