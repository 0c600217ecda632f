//! What the tracer says about processes and connections on a real kernel, in one hook mode.
//!
//! In: `TRACER_BIN`, `TRACER_HOOK_MODE`, `TRACER_CONNECTIONS`, `TRACER_MIX`,
//! `TRACER_PROCESSES`, `TRACER_EXECS`, `TRACER_VM` (see `tests::environment`), and root. Without a hook mode every test is listed as ignored. Ground
//! truth comes from the workloads, which are processes of this same binary. Most tests look at one
//! common run, because starting a tracer costs seconds on an emulated machine.

mod belonging;
mod birth;
mod cause;
mod common;
mod containers;
mod crowds;
mod datagrams;
mod doctor;
mod endings;
mod executed;
mod existing;
mod failures;
mod fast_open;
mod files;
mod hostile;
mod io_uring;
mod kernel_owned;
mod ledger;
mod lineage;
mod listeners;
mod lookups;
mod metrics;
mod mix;
mod mptcp;
mod own_traffic;
mod ownership;
mod passed;
mod processes;
mod prometheus;
mod races;
mod raw_sockets;
mod resets;
mod secrets;
mod ss;
mod trace;
mod tree;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use tests::suite::{self, Fact};
use tests::{environment, workload};

fn main() -> ExitCode {
    workload::run_if_asked();
    let mut arguments = Arguments::from_args();
    // The workloads of one test are the background noise of another, and a child ends with the
    // thread that started it: the common run must not.
    arguments.test_threads = Some(1);
    let can_run = environment::hook_mode_if_any().is_some();
    let subjects = subjects().into_iter();
    let trials = subjects
        .flat_map(|(subject, facts)| suite::trials(subject, facts, can_run))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    common::abandon();
    if can_run {
        suite::print_times();
    }
    conclusion.exit_code()
}

/// The common run's own end comes after everything that looks at it.
fn subjects() -> Vec<(&'static str, Vec<Fact>)> {
    vec![
        ("lineage", lineage::facts()),
        ("birth", birth::facts()),
        ("ledger", ledger::facts()),
        ("failures", failures::facts()),
        ("ownership", ownership::facts()),
        ("io_uring", io_uring::facts()),
        ("fast_open", fast_open::facts()),
        ("mptcp", mptcp::facts()),
        ("kernel_owned", kernel_owned::facts()),
        ("datagrams", datagrams::facts()),
        ("lookups", lookups::facts()),
        ("passed", passed::facts()),
        ("listeners", listeners::facts()),
        ("processes", processes::facts()),
        ("executed", executed::facts()),
        ("hostile", hostile::facts()),
        ("cause", cause::facts()),
        ("belonging", belonging::facts()),
        ("containers", containers::facts()),
        ("files", files::facts()),
        ("resets", resets::facts()),
        ("raw_sockets", raw_sockets::facts()),
        ("metrics", metrics::facts()),
        ("own_traffic", own_traffic::facts()),
        ("daemon", ss::facts_of_the_daemon()),
        ("tree", tree::facts()),
        ("secrets", secrets::facts()),
        ("common", common::facts()),
        ("floods", datagrams::facts_of_floods()),
        ("mix", mix::facts()),
        ("crowds", crowds::facts()),
        ("races", races::facts()),
        ("doctor", doctor::facts()),
        ("trace", trace::facts()),
        ("endings", endings::facts()),
        ("existing", existing::facts()),
        ("ss", ss::facts()),
    ]
}
