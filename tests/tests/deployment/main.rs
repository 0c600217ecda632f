//! What `deploy/` has for those who run the tracer, as far as it can be checked without installing it: manifests,
//! rules and alerts, the dashboard, the unit.

mod manifests;
mod queries;
mod unit;

use std::path::PathBuf;
use std::process::Command;

/// A file below `deploy/`.
fn path(name: &str) -> PathBuf {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    PathBuf::from(deploy).join(name)
}

fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a command wrote, which must succeed.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said.into_owned()
}
