//! The real-kernel tests on this machine, in each mode that its kernel's configuration allows.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

use super::libtest::Tally;
use super::matrix::Mode;
use super::{Extent, KERNEL, PACKAGES, Row, SURROUNDINGS, Verdict, tee};
use crate::package::{Contents, deb, image};
use crate::{artifacts, command, paths};

/// Loopback connections that a test makes here.
const CONNECTIONS: &str = "10000";

/// How many connections of every kind a mix has, how often a tracer is started under load, how many processes begin in
/// a test of many, and how often a program is executed while it is being changed.
const fn amounts(extent: Extent) -> [(&'static str, &'static str); 4] {
    let [mix, starts, processes, execs] = match extent {
        Extent::Ci | Extent::Full => ["100000", "5", "10000", "1000"],
        Extent::Nightly => ["1000000", "200", "100000", "100000"],
    };
    [
        ("TRACER_MIX", mix),
        ("TRACER_STARTS", starts),
        ("TRACER_PROCESSES", processes),
        ("TRACER_EXECS", execs),
    ]
}

/// Runs the tests in every mode, and those of bad surroundings; a row for each.
pub(super) fn run(extent: Extent, filter: Option<&str>) -> Result<Vec<Row>> {
    let amounts = amounts(extent);
    let (modes, why) = modes();
    println!("\nthis machine, kernel {}: {why}", release());
    let tracer = artifacts::tracer()?;
    let [kernel, surroundings] = [KERNEL, SURROUNDINGS].map(artifacts::test_program);
    let (kernel, surroundings) = (kernel?, surroundings?);
    let mut rows = Vec::new();
    let mut add = |place: &str, mode, verdict| {
        rows.push(Row {
            place: place.to_owned(),
            mode,
            verdict,
        });
    };
    for mode in Mode::ALL {
        let verdict = if modes.contains(&mode) {
            println!("\nreal-kernel tests on this machine, {mode}");
            Verdict::timed(|| run_as_root(&kernel, &tracer, Some(mode), amounts, filter))?
        } else {
            Verdict::Refused(why.clone())
        };
        add("this machine", Some(mode), verdict);
    }
    println!("\nbad input and bad surroundings, on this machine");
    let verdict = Verdict::timed(|| run_as_root(&surroundings, &tracer, None, amounts, filter))?;
    add("this machine, bad surroundings", None, verdict);
    println!("\nimage and package, on this machine");
    let verdict = Verdict::timed(|| packages(filter))?;
    add("this machine, image and package", None, verdict);
    Ok(rows)
}

/// Makes what is handed out, and has it tested.
fn packages(filter: Option<&str>) -> Result<Tally> {
    let contents = Contents::prepare()?;
    let made = image::build(&contents)?;
    let again = image::build(&contents)?;
    ensure!(
        made.digest == again.digest,
        "an image that is made twice differs"
    );
    let packages = ["1", "2"].map(|revision| deb::build(&contents, revision));
    let [first, second] = packages;
    let packages = env::join_paths([first?, second?]).context("paths without colons")?;
    let (tests, path) = (artifacts::test_program(PACKAGES)?, paths::search_path());
    let tracer = contents.directory.join("tracer");
    let environment: [(&str, &OsStr); 4] = [
        ("TRACER_BIN", tracer.as_os_str()),
        ("TRACER_IMAGE", made.path.as_os_str()),
        ("TRACER_PACKAGES", &packages),
        ("PATH", &path),
    ];
    let mut command = command::as_root(tests.as_os_str(), &environment)
        .context("the tests of the image need root, and there is no sudo")?;
    command.args(filter);
    command.current_dir(paths::repository().join("tests"));
    Ok(tee(&mut command)?.or_nothing_ran(filter))
}

fn run_as_root(
    tests: &Path,
    tracer: &Path,
    mode: Option<Mode>,
    amounts: [(&str, &str); 4],
    filter: Option<&str>,
) -> Result<Tally> {
    let (mode, path) = (mode.map(|mode| mode.to_string()), paths::search_path());
    let mut environment: Vec<(&str, &OsStr)> = vec![
        ("TRACER_BIN", tracer.as_os_str()),
        ("TRACER_CONNECTIONS", CONNECTIONS.as_ref()),
        ("PATH", &path),
    ];
    environment.extend(amounts.map(|(name, amount)| (name, amount.as_ref())));
    environment.extend(mode.iter().map(|mode| ("TRACER_HOOK_MODE", mode.as_ref())));
    let mut command = command::as_root(tests.as_os_str(), &environment)
        .context("the real-kernel tests need root, and there is no sudo")?;
    command.arg("--test-threads=1").args(filter);
    command.current_dir(paths::repository().join("tests"));
    Ok(tee(&mut command)?.or_nothing_ran(filter))
}

/// The modes that this kernel's configuration allows, and what in it decides.
fn modes() -> (Vec<Mode>, String) {
    const KPROBES: &str = "CONFIG_KPROBES";
    let Some(configuration) = configuration() else {
        return (
            Mode::ALL.to_vec(),
            "its configuration is not to be read: all modes".to_owned(),
        );
    };
    let unset = format!("# {KPROBES} is not set");
    if configuration.lines().any(|line| line == unset) {
        return (
            vec![Mode::Tracepoint],
            format!("{KPROBES} is not set: tracepoint mode alone"),
        );
    }
    (Mode::ALL.to_vec(), format!("{KPROBES} is set: all modes"))
}

/// The running kernel's configuration, as far as it is published.
fn configuration() -> Option<String> {
    let published = Path::new("/proc/config.gz");
    if published.exists() {
        return command::text(Command::new("gzip").arg("-dc").arg(published)).ok();
    }
    fs::read_to_string(format!("/boot/config-{}", release())).ok()
}

/// The running kernel's release.
fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}
