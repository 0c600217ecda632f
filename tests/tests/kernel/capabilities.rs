//! The least privileges: those that `deploy/` says are needed are enough, in each hook mode.

use std::process::Command;

use rustix::process::Signal;
use tests::daemon::{self, Tracer};
use tests::facts;
use tests::loopback::{self, free_address};
use tests::suite::Fact;

pub(crate) fn facts() -> Vec<Fact> {
    facts![three_capabilities_are_enough]
}

/// Those without which the daemon refuses to begin; `deploy/` gives it two more for what it tells of others' files.
const NEEDED: &str = "-all,+bpf,+perfmon,+net_admin";

/// tracefs where it is mounted by systemd, and what a unit's `LimitMEMLOCK` does; where that is refused, it is not
/// needed.
const PREPARE: &str =
    "mount -t tracefs tracefs /sys/kernel/tracing && { ulimit -l unlimited; exec \"$@\"; }";

fn three_capabilities_are_enough() {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", PREPARE, "sh", "setpriv"]);
    command.args(["--bounding-set", NEEDED, "--inh-caps", NEEDED]);
    let run = daemon::command(free_address(), "off");
    command.arg(run.get_program()).args(run.get_args());
    let mut tracer = Tracer::spawn(&mut command);
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    let ((), events) = tracer.observe(|| drop(loopback::listener()));
    assert!(
        events
            .iter()
            .any(|event| event.is("listen_opened", std::process::id()))
    );
    tracer.stop(Signal::TERM);
}
