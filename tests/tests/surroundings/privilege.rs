//! Privileges and kernel features that are missing: status 3, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use tests::daemon::Tracer;
use tests::environment::{self, HookMode};
use tests::facts;
use tests::suite::Fact;
use tests::workload;

use crate::failing::{expect_failure, expect_words_for_users, run, run_arguments};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_user_without_privilege_learns_which_capabilities_are_missing,
        root_without_bpf_learns_that_it_is_missing,
        root_without_perfmon_learns_that_it_is_missing,
        root_without_net_admin_learns_that_it_is_missing,
        a_kernel_without_btf_is_named_with_what_to_do,
        each_hook_mode_serves_or_says_why_not_and_what_to_do,
    ]
}

/// Nobody, as every distribution numbers it.
const NOBODY: u32 = 65534;

/// A copy of the tracer where everyone may run it.
fn for_everyone() -> (TempDir, Command) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open.clone()).expect("the directory is ours");
    let copy = directory.path().join("tracer");
    fs::copy(environment::tracer_bin(), &copy).expect("the directory is writable");
    fs::set_permissions(&copy, open).expect("the file is ours");
    let command = Command::new(copy);
    (directory, command)
}

fn a_user_without_privilege_learns_which_capabilities_are_missing() {
    let (_directory, mut command) = for_everyone();
    command
        .args(run_arguments())
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    expect_failure(&mut command, 3, &["CAP_BPF", "CAP_PERFMON"]);
}

/// `tracer run` by a root that lacks capabilities, as setpriv(1) names them.
fn without(capabilities: &[&str]) -> Command {
    let dropped: Vec<_> = capabilities
        .iter()
        .map(|capability| format!("-{capability}"))
        .collect();
    let dropped = dropped.join(",");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &dropped, "--inh-caps", &dropped]);
    command.arg(environment::tracer_bin()).args(run_arguments());
    command
}

// CAP_SYS_ADMIN stands in for each of the others, so that it has to go as well.

fn root_without_bpf_learns_that_it_is_missing() {
    let finished = expect_failure(&mut without(&["sys_admin", "bpf"]), 3, &["CAP_BPF"]);
    assert!(
        !finished.stderr.contains("CAP_PERFMON"),
        "that one is there: {finished:#?}"
    );
}

fn root_without_perfmon_learns_that_it_is_missing() {
    let finished = expect_failure(&mut without(&["sys_admin", "perfmon"]), 3, &["CAP_PERFMON"]);
    assert!(
        !finished.stderr.contains("CAP_BPF"),
        "that one is there: {finished:#?}"
    );
}

fn root_without_net_admin_learns_that_it_is_missing() {
    let finished = expect_failure(&mut without(&["net_admin"]), 3, &["CAP_NET_ADMIN"]);
    assert!(
        !finished.stderr.contains("CAP_BPF") && !finished.stderr.contains("CAP_PERFMON"),
        "those are there: {finished:#?}"
    );
}

fn a_kernel_without_btf_is_named_with_what_to_do() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let tracer = environment::tracer_bin();
    let [empty, tracer] =
        [empty.path(), &tracer].map(|path| path.to_str().expect("paths here are UTF-8"));
    let mut command = workload::command("with-mount", &[empty, "/sys/kernel/btf", tracer]);
    command.args(run_arguments());
    expect_failure(
        &mut command,
        3,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
    );
}

/// Which modes there are depends on the kernel; that the others fail in order does not.
fn each_hook_mode_serves_or_says_why_not_and_what_to_do() {
    let served = HookMode::ALL
        .into_iter()
        .filter(|mode| serves_or_fails_in_order(*mode));
    assert!(
        served.count() > 0,
        "no mode serves: nothing could be tested on this machine"
    );
}

/// Whether a mode serves; if not, it must have failed with status 3 and advice.
#[track_caller]
fn serves_or_fails_in_order(mode: HookMode) -> bool {
    let mut tracer = Tracer::spawn(&mut run(&["--hook-mode", mode.as_str()]));
    if tracer.becomes_ready() {
        let ended = tracer.stop(Signal::TERM);
        expect_words_for_users(&ended.stderr);
        return true;
    }
    drop(tracer);
    let mut again = run(&["--hook-mode", mode.as_str()]);
    expect_failure(&mut again, 3, &[mode.as_str(), "--hook-mode"]);
    false
}
