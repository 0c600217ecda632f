//! Lineage by birth: who forked whom, whatever became of the forker and whoever is the parent now.

use std::iter::repeat_n;

use tests::event::Event;
use tests::expectations::{expect_count, select};
use tests::facts;
use tests::procfs::Process;
use tests::suite::Fact;
use tests::workload::{self, Workload};

use crate::common;
use crate::lineage::expect_lineage;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_daemon_that_forked_twice_descends_from_both_who_left,
        a_subreaper_is_no_ancestor_of_those_that_it_takes_in,
        children_of_vfork_and_posix_spawn_descend_from_their_forker,
        a_child_with_its_forkers_parent_descends_from_its_forker,
        exec_by_any_thread_and_fork_by_any_thread_are_those_of_the_process,
        ancestors_that_end_from_the_eldest_on_stay_ancestors,
        ancestors_that_end_from_the_youngest_on_stay_ancestors,
        ancestors_that_end_in_disorder_stay_ancestors,
        twenty_generations_are_told_one_by_one,
    ]
}

/// Goes these ways (see `tests::workload`), and expects the whole line in every event of the last generation, which
/// connects `count` times.
#[track_caller]
fn expect_line(ways: &[&str], count: usize) {
    let (pids, events) = common::observe(|| {
        let mut workload = Workload::start("born", &[&[""], ways].concat());
        let fact = workload.fact();
        workload.finish();
        let pids = fact["pids"].as_array().expect("a list").iter();
        let pid = |pid: &serde_json::Value| u32::try_from(pid.as_u64().expect("a number"));
        pids.map(|value| pid(value).expect("a PID"))
            .collect::<Vec<_>>()
    });
    let line = line(&pids);
    let last = pids[pids.len() - 1];
    expect_count(&events, "connection_failed", last, count);
    for event in select(&events, "connection_failed", last) {
        expect_lineage(event, &line);
        expect_births(event, pids.len());
    }
}

/// The last generation, those before it, and the ancestors of all.
fn line(pids: &[u32]) -> Vec<Process> {
    let binary = workload::binary();
    let generation = |(index, pid): (usize, &u32)| Process {
        pid: *pid,
        name: format!("born-{index}"),
        parent: 0,
        executable: binary.to_str().expect("UTF-8").to_owned(),
    };
    let generations = pids.iter().enumerate().map(generation).rev();
    let ancestors = Process::chain(std::process::id());
    generations.chain(ancestors).collect()
}

#[track_caller]
fn expect_births(event: &Event, count: usize) {
    for entry in &event.list("/tracer/lineage")[..count] {
        assert_eq!(entry["relation"], "birth", "in {event}");
        assert_eq!(entry["provenance"], "kernel", "in {event}");
    }
}

fn a_daemon_that_forked_twice_descends_from_both_who_left() {
    expect_line(&["leave", "setsid", "leave"], 1);
}

fn a_subreaper_is_no_ancestor_of_those_that_it_takes_in() {
    expect_line(&["reaper", "fork", "leave", "leave", "fork"], 1);
}

fn children_of_vfork_and_posix_spawn_descend_from_their_forker() {
    expect_line(&["vfork", "spawn", "vfork"], 1);
}

fn a_child_with_its_forkers_parent_descends_from_its_forker() {
    expect_line(&["fork", "sibling", "fork"], 1);
}

fn exec_by_any_thread_and_fork_by_any_thread_are_those_of_the_process() {
    expect_line(&["thread-exec", "thread-fork", "exec", "thread-exec"], 1);
}

fn ancestors_that_end_from_the_eldest_on_stay_ancestors() {
    expect_line(&["reaper", "stay", "stay", "stay", "stay", "end=1,2,3"], 4);
}

fn ancestors_that_end_from_the_youngest_on_stay_ancestors() {
    expect_line(&["stay", "stay", "stay", "stay", "end=3,2,1"], 4);
}

fn ancestors_that_end_in_disorder_stay_ancestors() {
    expect_line(&["stay", "stay", "stay", "stay", "end=2,1,3"], 4);
}

fn twenty_generations_are_told_one_by_one() {
    let ways: Vec<_> = repeat_n(["fork", "leave"], 9).flatten().collect();
    expect_line(&[&["reaper"], &*ways, &["vfork"]].concat(), 1);
}
