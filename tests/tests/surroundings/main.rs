//! Bad input and bad surroundings: the tracer says what is wrong, ends with the right status, and
//! leaves nothing behind.
//!
//! In: `TRACER_BIN`; without it every test is listed as ignored. Most tests need root, to make the
//! surroundings bad or to get as far as the fault.

mod failing;
mod input;
mod output;
mod privilege;
mod replay;
mod service;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use tests::suite::trials;
use tests::{environment, workload};

fn main() -> ExitCode {
    workload::run_if_asked();
    let mut arguments = Arguments::from_args();
    // Each test compares what the kernel holds before and after it.
    arguments.test_threads = Some(1);
    let anyone = environment::tracer_bin_if_any().is_some();
    let root = anyone && environment::is_root();
    let trials = trials("input", input::facts(), anyone)
        .chain(trials("replay", replay::facts(), anyone))
        .chain(trials("privilege", privilege::facts(), root))
        .chain(trials("output", output::facts(), root))
        .chain(trials("service", service::facts(), root));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
