//! What the tracer says about processes and connections on a real kernel, in one hook mode.
//!
//! In: `TRACER_BIN`, `TRACER_HOOK_MODE`, `TRACER_CONNECTIONS`, `TRACER_MIX`, `TRACER_PROCESSES`, `TRACER_EXECS`,
//! `TRACER_VM`, `TRACER_BY_MODE` (see `tests::environment`), and root. Without a hook mode every test is listed
//! as ignored. Ground truth comes from the workloads, which are processes of this same binary. Most tests look
//! at one common run, because starting a tracer costs seconds on an emulated machine.

mod belonging;
mod birth;
mod capabilities;
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
mod history;
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
mod stories;
mod tls;
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
    let is_wanted = |decided| decided == By::Mode || !environment::by_mode_alone();
    let trials = subjects()
        .into_iter()
        .filter(|(_, decided, _)| is_wanted(*decided))
        .flat_map(|(subject, _, facts)| suite::trials(subject, facts, can_run))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    common::abandon();
    tls::abandon();
    if can_run {
        suite::print_times();
    }
    conclusion.exit_code()
}

/// What decides whether the tests of a subject pass, beside the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The kernel, and the hook mode.
    Mode,
    /// The kernel: every mode has the same hooks for it, or none.
    Kernel,
}

/// The common run's own end comes after everything that looks at it.
fn subjects() -> Vec<(&'static str, By, Vec<Fact>)> {
    vec![
        ("lineage", By::Mode, lineage::facts()),
        ("birth", By::Kernel, birth::facts()),
        ("ledger", By::Mode, ledger::facts()),
        ("failures", By::Mode, failures::facts()),
        ("ownership", By::Mode, ownership::facts()),
        ("io_uring", By::Mode, io_uring::facts()),
        ("fast_open", By::Mode, fast_open::facts()),
        ("mptcp", By::Mode, mptcp::facts()),
        ("kernel_owned", By::Mode, kernel_owned::facts()),
        ("datagrams", By::Mode, datagrams::facts()),
        ("lookups", By::Mode, lookups::facts()),
        ("tls", By::Mode, tls::facts()),
        ("passed", By::Mode, passed::facts()),
        ("listeners", By::Mode, listeners::facts()),
        ("processes", By::Kernel, processes::facts()),
        ("executed", By::Kernel, executed::facts()),
        ("hostile", By::Kernel, hostile::facts()),
        ("cause", By::Mode, cause::facts()),
        ("belonging", By::Kernel, belonging::facts()),
        ("containers", By::Kernel, containers::facts()),
        ("files", By::Kernel, files::facts()),
        ("resets", By::Mode, resets::facts()),
        ("raw_sockets", By::Mode, raw_sockets::facts()),
        ("metrics", By::Kernel, metrics::facts()),
        ("own_traffic", By::Mode, own_traffic::facts()),
        ("daemon", By::Kernel, ss::facts_of_the_daemon()),
        ("tree", By::Kernel, tree::facts()),
        ("secrets", By::Kernel, secrets::facts()),
        ("common", By::Mode, common::facts()),
        ("floods", By::Mode, datagrams::facts_of_floods()),
        ("mix", By::Mode, mix::facts()),
        ("crowds", By::Kernel, crowds::facts()),
        ("races", By::Kernel, races::facts()),
        ("doctor", By::Mode, doctor::facts()),
        ("capabilities", By::Mode, capabilities::facts()),
        ("trace", By::Kernel, trace::facts()),
        ("endings", By::Kernel, endings::facts()),
        ("existing", By::Mode, existing::facts()),
        ("ss", By::Kernel, ss::facts()),
        ("stories", By::Kernel, stories::facts()),
        ("history", By::Kernel, history::facts()),
    ]
}
