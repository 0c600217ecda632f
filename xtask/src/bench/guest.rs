//! A guest whose clock counts instructions, in which `bench-kernel` measures. In: what it is to measure.
//! Out: its one line of JSON. What it says meanwhile goes to our stderr.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, pipe};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::setup::kernels::Kernel;
use crate::vm;

/// Where the guest has what measures.
pub(super) const PROGRAM: &str = "/usr/bin/bench-kernel";

/// A guest that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(900);

/// Runs the command in a guest. Its result is also kept beside the guest's console, under `name`.
pub(super) fn measure(
    kernel: &Kernel,
    name: &str,
    programs: &[vm::Program],
    command: Vec<OsString>,
    memory: &'static str,
) -> Result<String> {
    let guest = vm::Guest {
        kernel,
        name: name.to_owned(),
        programs,
        environment: Vec::new(),
        command,
        clock: vm::Clock::Instructions,
        memory,
        deadline: DEADLINE,
    };
    let (reader, writer) = pipe().context("making a pipe")?;
    let listener = thread::spawn(move || {
        let mut result = None;
        for line in BufReader::new(reader).lines() {
            let line = line?;
            if line.starts_with('{') {
                result = Some(line);
            } else {
                eprintln!("  {line}");
            }
        }
        std::io::Result::Ok(result)
    });
    let status = guest.run(Stdio::null(), Stdio::from(writer))?;
    let result = listener.join().expect("the listener does not panic");
    let result = result.context("reading what the guest says")?;
    if status != 0 {
        bail!("the measurement failed with status {status}");
    }
    let result = result.context("the measurement has no result")?;
    let kept = vm::directory()?.join(format!("{name}.json"));
    fs::write(&kept, &result).with_context(|| format!("writing {}", kept.display()))?;
    Ok(result)
}
