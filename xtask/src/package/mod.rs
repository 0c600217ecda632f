//! What is handed out: one static program, and what stands beside it. In goes this workspace, out come files in
//! `target/package` and what is packed of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{artifacts, command, paths};

pub(crate) mod deb;
pub(crate) mod image;
mod licences;

/// The shells for which there are completions, and what a file with them is called.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "tracer"),
    ("zsh", "_tracer"),
    ("fish", "tracer.fish"),
];

/// What is handed out, prepared in a directory.
pub(crate) struct Contents {
    /// `tracer`, `LICENSES`, `man/`, `bash/`, `zsh/`, `fish/`.
    pub(crate) directory: PathBuf,
    /// Of the program.
    pub(crate) version: String,
}

impl Contents {
    /// Builds the program, and has it tell its manual and its completions.
    pub(crate) fn prepare() -> Result<Self> {
        let directory = paths::target().join("package");
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        let tracer = directory.join("tracer");
        let manual = directory.join("man");
        create(&manual)?;
        fs::copy(artifacts::static_tracer()?, &tracer).context("copying tracer")?;
        command::run(Command::new(&tracer).arg("man").arg(&manual))?;
        for (shell, name) in COMPLETIONS {
            let script = command::output(Command::new(&tracer).args(["completions", shell]))?;
            create(&directory.join(shell))?;
            write(&directory.join(shell).join(name), &script)?;
        }
        let metadata = metadata()?;
        write(
            &directory.join("LICENSES"),
            licences::text(&metadata)?.as_bytes(),
        )?;
        Ok(Self {
            version: version(&metadata)?,
            directory,
        })
    }
}

/// What cargo knows of the workspace and of what it depends on.
fn metadata() -> Result<Value> {
    let mut cargo = command::cargo(&["metadata", "--locked", "--format-version", "1"]);
    cargo.args(["--filter-platform", &host()?]);
    serde_json::from_slice(&command::output(&mut cargo)?).context("cargo's metadata")
}

/// The target that rustc builds for unless told otherwise, e.g. `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Result<String> {
    let said = command::text(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

fn version(metadata: &Value) -> Result<String> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours = packages.iter().find(|package| package["name"] == "tracer");
    let version = ours.and_then(|package| package["version"].as_str());
    Ok(version.context("tracer has no version")?.to_owned())
}

/// When the last commit was made, in seconds since 1970: files that are handed out are as old as that.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.current_dir(paths::repository());
    let told = command::text(git.args(["log", "-1", "--format=%ct"]))?;
    Ok(told.trim().to_owned())
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).with_context(|| path.display().to_string())
}
