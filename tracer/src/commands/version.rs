//! `tracer version`: what this is, for bug reports.

use std::env::consts::{ARCH, OS};

/// Version of the tracer.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn version() -> String {
    format!("tracer {VERSION} ({})\n", target())
}

/// What it was built for, e.g. `x86_64-linux-gnu`.
pub fn target() -> String {
    let libc = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    format!("{ARCH}-{OS}-{libc}")
}
