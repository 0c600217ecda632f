//! Running other programs: what goes in is a `Command`, what comes out an error that names it, or
//! what it printed. Their talk goes to stderr: stdout belongs to what the user asked for.

use std::ffi::OsStr;
use std::fs;
use std::io::{IsTerminal as _, stdin};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// The cargo that runs us, in the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(paths::repository());
    // What `cargo run` tells us about ourselves is no business of other packages.
    for (name, _) in env::vars_os() {
        let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if begins("CARGO_PKG_") || begins("CARGO_MANIFEST_") || begins("CARGO_BIN_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs to the end with its output on our stderr; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .context("duplicating stderr")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(stderr)
        .status()
        .with_context(|| format!("starting {}", display(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", display(command));
    }
    Ok(())
}

/// Runs to the end and returns what it wrote to stdout; fails unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", display(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            display(command),
            output.status,
            said.trim_end()
        );
    }
    Ok(output.stdout)
}

/// As [`output`], as text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).with_context(|| format!("output of {}", display(command)))
}

/// The command as one would type it, its environment left out.
pub(crate) fn display(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command that runs `program` as root with `environment`: as we are, or through sudo. `None`
/// without sudo.
pub(crate) fn as_root(program: &OsStr, environment: &[(&str, &OsStr)]) -> Option<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(environment.iter().copied());
        return Some(command);
    }
    let mut sudo = Command::new(paths::program("sudo")?);
    // Nobody is there to type a password unless stdin is a terminal.
    if !stdin().is_terminal() {
        sudo.arg("-n");
    }
    sudo.arg("env");
    for (name, value) in environment {
        let mut assignment = OsStr::new(name).to_owned();
        assignment.push("=");
        assignment.push(value);
        sudo.arg(assignment);
    }
    sudo.arg(program);
    Some(sudo)
}

/// Announces a step on stderr, does it, and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("xtask: {what} …");
    let begin = Instant::now();
    let result = work();
    let elapsed = seconds(begin.elapsed());
    match &result {
        Ok(_) => eprintln!("xtask: {what}: done in {elapsed}"),
        Err(_) => eprintln!("xtask: {what}: FAILED after {elapsed}"),
    }
    result
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
