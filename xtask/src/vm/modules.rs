//! Kernel modules for a guest: out of a kernel's tree those that are asked for, with what they
//! depend on, uncompressed, in the order in which they can be loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;

/// A module, ready to be loaded.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) contents: Vec<u8>,
}

/// Reads `names` from the tree; a name that is not there is built in, or this kernel lacks it.
pub(super) fn read(tree: &Path, names: &[&str]) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    walk(&tree.join("kernel"), &mut files)?;
    let mut modules = Vec::new();
    for name in names {
        add(name, &files, &mut modules)?;
    }
    Ok(modules)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Adds a module behind those that it depends on.
fn add(name: &str, files: &[PathBuf], modules: &mut Vec<Module>) -> Result<()> {
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let is_it = |file: &&PathBuf| {
        let file_name = file.file_name().unwrap_or_default().to_string_lossy();
        file_name.split_once('.').is_some_and(|(stem, suffix)| {
            stem.replace('-', "_") == name && suffix.starts_with("ko")
        })
    };
    let Some(file) = files.iter().find(is_it) else {
        return Ok(());
    };
    let contents = uncompressed(file)?;
    for dependency in dependencies(&contents) {
        add(&dependency, files, modules)?;
    }
    modules.push(Module {
        name: name.to_owned(),
        contents,
    });
    Ok(())
}

fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => command::output(Command::new("xz").arg("-dc").arg(file)),
        Some("zst") => command::output(Command::new("zstd").arg("-dc").arg(file)),
        _ => fs::read(file).with_context(|| format!("reading {}", file.display())),
    }
}

/// The `depends=` line of a module's `.modinfo` section: names with commas between them.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let begin = module.windows(KEY.len()).position(|window| window == KEY);
    let value = begin.map_or(&[][..], |begin| &module[begin + KEY.len()..]);
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_modules_own_information() {
        let module = b"ELF\0license=GPL\0depends=inet_diag,a-b\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["inet_diag", "a_b"]);
        assert_eq!(
            dependencies(b"ELF\0depends=\0name=x\0"),
            Vec::<String>::new()
        );
        assert_eq!(dependencies(b"ELF"), Vec::<String>::new());
    }
}
