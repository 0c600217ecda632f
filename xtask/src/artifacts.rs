//! What this workspace builds for us: the `tracer` binary, test programs, the guest's init.
//! Cargo says where each one is.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{command, ebpf_toolchain, paths};

/// `tracer`, as released, with the kernel programs in it. These are begun at once: cargo would leave
/// them to the end, when there is nothing else to do meanwhile.
pub(crate) fn tracer() -> Result<PathBuf> {
    let mut programs =
        ebpf_toolchain::find()?.build(paths::repository(), &paths::target().join("ebpf"));
    let programs = programs
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let tracer = build(&["build", "--release", "--package", "tracer"], "tracer");
    // The build script of `tracer` waits for the same build, and says what is wrong with it.
    programs
        .and_then(|mut programs| programs.wait())
        .context("building the kernel programs")?;
    tracer
}

/// The same for any system of this architecture, linked with all that it needs: no library, no loader. Only the
/// last step differs from [`tracer`]: what it is made of is built once.
pub(crate) fn static_tracer() -> Result<PathBuf> {
    tracer()?;
    let package = [
        "rustc",
        "--release",
        "--package",
        "tracer",
        "--bin",
        "tracer",
    ];
    let flags = [
        "--",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ];
    build_with(&package, &flags, "tracer")
}

/// A measuring program of the package `bench`.
pub(crate) fn bench_program(name: &str) -> Result<PathBuf> {
    build(
        &["build", "--release", "--package", "bench", "--bin", name],
        name,
    )
}

/// A test program of the package `tests`, to be run by itself.
pub(crate) fn test_program(name: &str) -> Result<PathBuf> {
    build(
        &["test", "--no-run", "--package", "tests", "--test", name],
        name,
    )
}

/// PID 1 of the guests.
pub(crate) fn vm_init() -> Result<PathBuf> {
    let package = ["--package", "xtask", "--features", "vm-init"];
    build(
        &[&["build"], &package[..], &["--bin", "vm-init"]].concat(),
        "vm-init",
    )
}

/// Builds, and returns the executable of the target of that name.
fn build(arguments: &[&str], name: &str) -> Result<PathBuf> {
    build_with(arguments, &[], name)
}

/// The same with arguments for the compiler.
fn build_with(arguments: &[&str], flags: &[&str], name: &str) -> Result<PathBuf> {
    let mut cargo = command::cargo(arguments);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.args(flags);
    let output = cargo.stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed",
        command::display(&cargo)
    );
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("{} built no executable {name}", command::display(&cargo)))
}
