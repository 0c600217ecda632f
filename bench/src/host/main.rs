//! What `cargo xtask bench host` runs as root: what the tracer leaves of this machine's rates, how late it
//! tells of something, how often it wakes, and what it takes when nothing happens.
//!
//! In: the tracer's path and a hook mode. Out: one JSON object on stdout, as
//! `xtask/src/bench/host.rs` reads it: numbers by measurement, one a round. A machine has other things
//! to do, so rounds with the tracer and without it take turns, and each pair makes one number.

mod daemon;
mod idle;
mod latency;
mod load;
mod processors;
mod shares;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use daemon::Tracer;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let tracer = Tracer {
        program: arguments
            .next()
            .map(PathBuf::from)
            .context("which tracer?")?,
        mode: arguments.next().context("which hook mode?")?,
    };
    eprintln!("latency of a lone event");
    let latency = latency::measure(&tracer)?;
    eprintln!("when nothing happens");
    let idle = idle::measure(&tracer)?;
    let shares = shares::measure(&tracer)?;
    println!(
        "{}",
        json!({"latency": latency, "idle": idle, "shares": shares})
    );
    Ok(())
}
