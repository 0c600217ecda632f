//! Connections of every kind at full speed: each is told, or counted as lost, and none under a wrong name.

use std::time::{Duration, Instant};

use tests::account::{Account, Verdict};
use tests::folding::Folding;
use tests::suite::Fact;
use tests::workload::{Workload, mix::truth};
use tests::{bpf, environment, expectations, facts, metrics, wait};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        every_connection_of_a_mix_is_told_or_counted_as_lost_and_none_under_a_wrong_name,
        connections_that_end_early_leave_no_entry_in_any_map_or_table,
    ]
}

fn every_connection_of_a_mix_is_told_or_counted_as_lost_and_none_under_a_wrong_name() {
    expect_truth(&run("all", environment::mix()));
}

fn connections_that_end_early_leave_no_entry_in_any_map_or_table() {
    expect_truth(&run("ends", environment::mix()));
}

#[track_caller]
fn expect_truth(verdict: &Verdict) {
    let examples = verdict.examples.join("\n");
    assert_eq!(verdict.wrong, 0, "ends are told wrongly:\n{examples}");
    assert!(
        verdict.incomplete <= verdict.lost,
        "{} ends are incomplete and {} losses told:\n{examples}",
        verdict.incomplete,
        verdict.lost
    );
}

/// Makes `count` connections under a tracer of their own, which must have forgotten all of them afterwards:
/// those whose close was lost, too, once it has compared itself with the kernel.
fn run(choice: &str, count: u32) -> Verdict {
    let tracer = Folding::start(Account::new(count), Account::fold);
    wait::until("the sockets that were there to be in the table", || {
        let runs = metrics::sum(&tracer.page(), "tracer_comparison_runs_total", &[]);
        runs.filter(|&runs| runs >= 2.0)
    });
    let before = Held::by(&tracer);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("its name is UTF-8");
    let limit = wait::DEADLINE + Duration::from_millis(count.into());
    let begin = Instant::now();
    let mut workload = Workload::start("mix", &[&count.to_string(), choice, path]);
    let listener = expectations::pid(&workload.fact_within(limit), "listener");
    let took = begin.elapsed();
    workload.finish();
    let mut after = before.clone();
    let forgotten = wait::within(wait::DEADLINE, || {
        after = Held::by(&tracer);
        after.is_no_more_than(&before).then_some(())
    });
    assert!(forgotten.is_some(), "before {before:?}, after {after:?}");
    let page = tracer.page();
    let account = tracer.stop();
    let mut owners = vec![[0; 2]; count as usize];
    let note = |index: u32, end: truth::End, pid| owners[index as usize][end as usize] = pid;
    truth::read(directory.path(), note).expect("the truth can be read");
    let verdict = account.compare(choice, &owners, listener);
    eprintln!(
        "{count} connections ({choice}) in {took:.1?}: {} ends to be told, {} incomplete, {} wrong; lost: {}",
        verdict.told,
        verdict.incomplete,
        verdict.wrong,
        losses(&page)
    );
    verdict
}

/// What was lost, by where.
fn losses(page: &str) -> String {
    let stages = ["ring", "hook", "decode", "table", "sink"].map(|stage| {
        let lost = metrics::sum(page, "tracer_events_lost_total", &[("stage", stage)]);
        format!("{} {stage}", lost.unwrap_or(0.0))
    });
    stages.join(", ")
}

/// What a tracer holds that could leak.
#[derive(Clone, Debug)]
struct Held {
    entries: f64,
    maps: Vec<(String, usize)>,
}

impl Held {
    fn by<T: Send + 'static>(tracer: &Folding<T>) -> Held {
        let entries = metrics::sum(&tracer.page(), "tracer_connection_table_entries", &[]);
        Held {
            entries: entries.expect("the gauge is there"),
            maps: bpf::entries_held_by(tracer.pid()),
        }
    }

    fn is_no_more_than(&self, other: &Held) -> bool {
        let pairs = || self.maps.iter().zip(&other.maps);
        self.entries <= other.entries
            && self.maps.len() == other.maps.len()
            && pairs().all(|(after, before)| after.0 == before.0 && after.1 <= before.1)
    }
}
