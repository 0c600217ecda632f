//! Many processes at once, and one after the other under the same PIDs: each is of its own parent.

use std::time::Duration;

use serde_json::Value;
use tests::births::Births;
use tests::folding::Folding;
use tests::suite::Fact;
use tests::workload::Workload;
use tests::{environment, expectations, facts, metrics, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        every_life_of_a_pid_is_a_process_of_its_own,
        a_crowd_of_short_processes_has_no_unknown_parent_and_stays_within_the_table,
    ]
}

fn every_life_of_a_pid_is_a_process_of_its_own() {
    let tracer = Folding::start(Births::new(), Births::fold);
    let fact = run("lives", environment::processes());
    let births = tracer.stop();
    let pids: Vec<u32> = serde_json::from_value(fact["lives"].clone()).expect("a list of PIDs");
    assert!(!pids.is_empty());
    let verdict = births.compare_lives(expectations::pid(&fact, "forker"), &pids);
    eprintln!("{} lives: {verdict:?}", pids.len());
    verdict.expect_truth();
    assert!(
        births.of_unknown_parents(&common::own_name()) <= verdict.lost,
        "{verdict:?}"
    );
}

fn a_crowd_of_short_processes_has_no_unknown_parent_and_stays_within_the_table() {
    let tracer = Folding::start(Births::new(), Births::fold);
    let fact = run("crowd", environment::processes() / 2);
    let page = tracer.page();
    let births = tracer.stop();
    let count = fact["count"].as_u64().expect("a number");
    assert!(count > 0);
    let verdict = births.compare_crowd(expectations::pid(&fact, "forker"), count);
    eprintln!("a crowd of {count}: {verdict:?}");
    verdict.expect_truth();
    assert!(
        births.of_unknown_parents(&common::own_name()) <= verdict.lost,
        "{verdict:?}"
    );
    let gauge = |name| metrics::sum(&page, name, &[]).expect("it is there");
    assert!(gauge("tracer_process_table_entries") <= 65_536.0);
    let evictions = gauge("tracer_process_table_evictions_total");
    // Those of the last ten seconds fit; a million would not.
    assert!(evictions == 0.0 || count > 60_000, "{evictions}");
}

/// What a workload that makes `count` processes tells in the end.
fn run(name: &str, count: u32) -> Value {
    let mut workload = Workload::start(name, &[&count.to_string()]);
    let limit = wait::DEADLINE + Duration::from_millis(count.into());
    let fact = workload.fact_within(limit);
    workload.finish();
    fact
}
