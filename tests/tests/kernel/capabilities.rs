//! The least privileges: those that `deploy/` says are needed are enough, in each hook mode.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::command;
use tests::daemon::{self, Tracer};
use tests::environment::{self, HookMode};
use tests::facts;
use tests::loopback::{self, free_address};
use tests::suite::Fact;

pub(crate) fn facts() -> Vec<Fact> {
    let mut facts = facts![the_needed_capabilities_are_enough];
    if wants_sys_admin() {
        facts.extend(facts![perf_events_that_are_refused_are_told]);
    }
    facts
}

/// Those without which the daemon refuses to begin; `deploy/` gives it two more for what it tells of others' files.
const NEEDED: &str = "-all,+bpf,+perfmon,+net_admin";

/// Whether this kernel refuses perf events, as only Debian's and Ubuntu's do, and this mode needs them.
fn wants_sys_admin() -> bool {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let level = paranoid
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    let has_perf_events = environment::hook_mode_if_any() != Some(HookMode::Fentry);
    level.is_some_and(|level| level > 2) && has_perf_events
}

/// tracefs where it is mounted by systemd, and what a unit's `LimitMEMLOCK` does; where that is refused, it is not
/// needed.
const PREPARE: &str =
    "mount -t tracefs tracefs /sys/kernel/tracing && { ulimit -l unlimited; exec \"$@\"; }";

fn the_needed_capabilities_are_enough() {
    let more = if wants_sys_admin() { ",+sys_admin" } else { "" };
    let mut tracer = Tracer::spawn(&mut with(&format!("{NEEDED}{more}")));
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    let ((), events) = tracer.observe(|| drop(loopback::listener()));
    let own = std::process::id();
    assert!(events.iter().any(|event| event.is("listen_opened", own)));
    tracer.stop(Signal::TERM);
}

fn perf_events_that_are_refused_are_told() {
    let finished = command::run(with(NEEDED).stdout(Stdio::null()));
    assert_eq!(finished.code, Some(3), "{finished:#?}");
    for word in ["CAP_SYS_ADMIN", "kernel.perf_event_paranoid"] {
        assert!(finished.stderr.contains(word), "{finished:#?}");
    }
}

/// The daemon with these capabilities.
fn with(set: &str) -> Command {
    let mut command = Command::new("unshare");
    // By its path: busybox, which has the first program in a guest, would take its own shell and its own setpriv.
    command.args(["--mount", "/bin/sh", "-c", PREPARE, "sh", "setpriv"]);
    command.args(["--bounding-set", set, "--inh-caps", set]);
    let run = daemon::command(free_address(), "off");
    command.arg(run.get_program()).args(run.get_args());
    command
}
