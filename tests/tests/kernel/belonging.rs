//! What a process belongs to: container, pod, login, terminal, PID namespace.

use std::process::Command;

use rustix::process::Signal;
use tests::cgroups::{self, Cgroup};
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{expect_no_loss, only, pid, select};
use tests::suite::Fact;
use tests::wait::DEADLINE;
use tests::workload::{self, FLAG, Workload};
use tests::{environment, facts};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    let mut facts = facts![
        the_first_program_of_a_container_is_in_it_and_so_are_its_children,
        a_connection_tells_the_container_of_its_process,
        a_process_that_is_moved_is_in_the_container_from_then_on,
        a_cgroup_made_again_is_known_again,
        a_process_that_is_older_than_the_tracer_is_in_its_container,
        a_filter_shows_the_processes_of_one_container,
        the_pid_in_another_pid_namespace_is_told,
        users_of_another_user_namespace_have_no_names,
        a_login_and_its_terminal_are_told,
    ];
    if cgroups::is_v1() {
        facts.extend(facts![
            a_cgroup_of_version_2_does_not_count_beside_version_1
        ]);
    } else {
        facts.extend(facts![a_child_made_right_in_a_container_is_in_it]);
    }
    facts
}

const UID: &str = "0d4a5b1c-1111-2222-3333-444455556666";

/// A container's ID for each test, so that none is another's.
fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// The cgroup of a container of a pod, as the kubelet and containerd name it.
fn path(id: &str) -> String {
    let uid = UID.replace('-', "_");
    let slices = "kubepods.slice/kubepods-burstable.slice";
    format!("{slices}/kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope")
}

/// The arguments of a workload that is given a command: `first`, and a workload of its own.
fn with_command<'a>(first: &'a str, binary: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&[first, binary, FLAG], rest].concat()
}

fn binary() -> String {
    let binary = workload::binary();
    binary
        .to_str()
        .expect("a path of this workspace is UTF-8")
        .to_owned()
}

#[track_caller]
fn expect_in(event: &Event, id: &str) {
    event.expect("/container/id", id);
    event.expect("/container/runtime", "containerd");
    event.expect("/orchestrator/resource/type", "pod");
    event.expect("/orchestrator/resource/id", UID);
    event.expect("/tracer/cgroup", format!("/{}", path(id)));
    event.expect("/tracer/systemd/unit", format!("cri-containerd-{id}.scope"));
    // Its root directory is this one, whose names count for it once the file that it runs has been read.
    let name = event.get("/process/user/name");
    assert!(name.is_none_or(|name| name == "root"), "{event}");
}

fn expect_outside(event: &Event) {
    event.expect_absent("/container");
    event.expect_absent("/orchestrator");
}

fn the_first_program_of_a_container_is_in_it_and_so_are_its_children() {
    let id = id('a');
    let ((pid, _cgroup), events) = common::observe(|| {
        let cgroup = Cgroup::make(&path(&id));
        let script = ["-c", "/bin/true; exit 0"];
        let arguments = [&[cgroup.directory(), "/bin/sh"][..], &script].concat();
        let mut child = workload::command("enter-cgroup", &arguments)
            .spawn()
            .expect("a child");
        assert!(child.wait().expect("a child can be waited for").success());
        (child.id(), cgroup)
    });
    let execs = select(&events, "process_exec", pid);
    assert_eq!(execs.len(), 2);
    expect_outside(execs[0]);
    expect_in(execs[1], &id);
    expect_in(only(&events, "process_exit", pid), &id);
    let child = events
        .iter()
        .find(|event| event.get("/process/parent/pid") == Some(&pid.into()))
        .expect("the shell has a child");
    assert_eq!(child.action(), "process_exec");
    expect_in(child, &id);
}

fn a_connection_tells_the_container_of_its_process() {
    let id = id('b');
    let binary = binary();
    let ((pid, _cgroup), events) = common::observe(|| {
        let cgroup = Cgroup::make(&path(&id));
        let refused = ["refused", "1", "127.0.0.1:0"];
        let arguments = with_command(cgroup.directory(), &binary, &refused);
        let (pid, _) = workload::run("enter-cgroup", &arguments);
        (pid, cgroup)
    });
    expect_in(only(&events, "connection_failed", pid), &id);
}

fn a_process_that_is_moved_is_in_the_container_from_then_on() {
    let id = id('c');
    let ((pid, _cgroup), events) = common::observe(|| {
        let cgroup = Cgroup::make(&path(&id));
        let mut workload = Workload::start("refused-when-told", &["2"]);
        workload.fact();
        let pid = workload.pid();
        workload.go();
        workload.fact();
        cgroup.attach(pid);
        workload.go();
        workload.fact();
        workload.finish();
        (pid, cgroup)
    });
    let failed = select(&events, "connection_failed", pid);
    assert_eq!(failed.len(), 2);
    expect_outside(failed[0]);
    expect_in(failed[1], &id);
}

fn a_cgroup_made_again_is_known_again() {
    let id = id('d');
    let binary = binary();
    let run = || {
        let cgroup = Cgroup::make(&path(&id));
        let arguments = with_command(cgroup.directory(), &binary, &["exit", "0"]);
        let mut child = workload::command("enter-cgroup", &arguments)
            .spawn()
            .expect("a child");
        assert!(child.wait().expect("a child can be waited for").success());
        child.id()
    };
    let (pids, events) = common::observe(|| [run(), run()]);
    for pid in pids {
        expect_in(only(&events, "process_exit", pid), &id);
    }
}

fn a_process_that_is_older_than_the_tracer_is_in_its_container() {
    let id = id('f');
    let binary = binary();
    let cgroup = Cgroup::make(&path(&id));
    let refused = ["refused-when-told", "1"];
    let arguments = with_command(cgroup.directory(), &binary, &refused);
    let mut workload = Workload::start("enter-cgroup", &arguments);
    workload.fact();
    let pid = workload.pid();
    let mut tracer = Tracer::start(&[]);
    let ((), events) = tracer.observe(|| {
        workload.go();
        workload.fact();
        workload.finish();
    });
    let failed = only(&events, "connection_failed", pid);
    failed.expect("/tracer/provenance/process", "procfs");
    expect_in(failed, &id);
    expect_no_loss(&tracer.stop(Signal::TERM).events);
    drop(cgroup);
}

fn a_filter_shows_the_processes_of_one_container() {
    let id = id('9');
    let binary = binary();
    let cgroup = Cgroup::make(&path(&id));
    let inner = with_command(cgroup.directory(), &binary, &["exit", "0"]);
    let mut command = Command::new(environment::tracer_bin());
    command.args(["trace", "-o", "json", "--hook-mode"]);
    command.args([
        environment::hook_mode().as_str(),
        "--container",
        &id[..6],
        "--",
    ]);
    command.args([&binary, FLAG, "enter-cgroup"]).args(inner);
    let ended = Tracer::spawn(&mut command).wait(DEADLINE);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let actions: Vec<_> = ended.events.iter().map(Event::action).collect();
    assert_eq!(actions, ["process_exec", "process_exit"]);
    for event in &ended.events {
        expect_in(event, &id);
    }
}

/// The child does nothing but end, so that only its fork can tell.
fn a_child_made_right_in_a_container_is_in_it() {
    let id = id('e');
    let ((parent, child, _cgroup), events) = common::observe(|| {
        let cgroup = Cgroup::make(&path(&id));
        let (parent, fact) = workload::run("clone-into-cgroup", &[cgroup.directory()]);
        (parent, pid(&fact, "child"), cgroup)
    });
    let exit = only(&events, "process_exit", child);
    exit.expect("/process/exit_code", 3);
    exit.expect("/process/parent/pid", parent);
    expect_in(exit, &id);
    expect_outside(only(&events, "process_exit", parent));
}

fn a_cgroup_of_version_2_does_not_count_beside_version_1() {
    let id = id('e');
    let v1 = Cgroup::make("tracer-test.service");
    let binary = binary();
    let ((pid, _cgroup), events) = common::observe(|| {
        let root = cgroups::v2_root().expect("it is mounted beside version 1");
        let cgroup = Cgroup::make_in(&root, &path(&id));
        let inner = with_command(cgroup.directory(), &binary, &["exit", "0"]);
        let outer = [&["enter-cgroup"], &inner[..]].concat();
        let arguments = with_command(v1.directory(), &binary, &outer);
        let mut child = workload::command("enter-cgroup", &arguments)
            .spawn()
            .expect("a child");
        assert!(child.wait().expect("a child can be waited for").success());
        (child.id(), cgroup)
    });
    let exit = only(&events, "process_exit", pid);
    exit.expect("/tracer/cgroup", "/tracer-test.service");
    exit.expect("/tracer/systemd/unit", "tracer-test.service");
    expect_outside(exit);
}

fn the_pid_in_another_pid_namespace_is_told() {
    let binary = binary();
    let ((parent, child), events) = common::observe(|| {
        let arguments = with_command("pid", &binary, &["exit", "0"]);
        let (parent, fact) = workload::run("in-namespace", &arguments);
        (parent, pid(&fact, "child"))
    });
    for action in ["process_exec", "process_exit"] {
        only(&events, action, child).expect("/process/namespace_pid", 1);
    }
    only(&events, "process_exit", parent).expect_absent("/process/namespace_pid");
}

fn users_of_another_user_namespace_have_no_names() {
    let binary = binary();
    let ((parent, child), events) = common::observe(|| {
        let arguments = with_command("user", &binary, &["exit", "0"]);
        let (parent, fact) = workload::run("in-namespace", &arguments);
        (parent, pid(&fact, "child"))
    });
    // Elsewhere PID 1 may have another root directory than this.
    if environment::in_vm() {
        only(&events, "process_exec", parent).expect("/process/user/name", "root");
    }
    let exec = only(&events, "process_exec", child);
    exec.expect("/process/user/id", "0");
    exec.expect_absent("/process/user/name");
}

fn a_login_and_its_terminal_are_told() {
    let binary = binary();
    let ((pid, fact), events) = common::observe(|| {
        let arguments = with_command("12345", &binary, &["exit", "0"]);
        workload::run("log-in", &arguments)
    });
    let exit = only(&events, "process_exit", pid);
    let tty = fact["tty"].as_u64().expect("a number");
    // As new_encode_dev, include/linux/kdev_t.h.
    exit.expect("/process/tty/char_device/major", tty >> 8 & 0xfff);
    exit.expect(
        "/process/tty/char_device/minor",
        tty & 0xff | tty >> 12 & 0xf_ff00,
    );
    if fact["login_uid"].is_null() {
        exit.expect_absent("/process/login_user");
        exit.expect_absent("/tracer/session_id");
    } else {
        exit.expect("/process/login_user/id", "12345");
        exit.expect_absent("/process/login_user/name");
        exit.expect("/tracer/session_id", fact["session_id"].clone());
    }
    let begun = select(&events, "process_exec", pid)[0];
    begun.expect_absent("/process/tty");
    begun.expect_absent("/process/login_user");
}
