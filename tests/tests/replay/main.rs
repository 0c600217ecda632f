//! Replays the scenarios of `tests/replay/*.txt`: events above the line `---`, below it what the
//! state concludes from them. `TRACER_BLESS=1` writes down what it concludes now; read the
//! difference before you believe it.

mod dns;
mod hello;
mod random;
mod raw_socket;
mod recorded;
mod scenario;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use scenario::{Scenario, Step};
use text::Transcript;
use tracer::detect::Engine;
use tracer::detect::settings::Settings;
use tracer::detect::sink::Detecting;
use tracer::event::ProcessKey;
use tracer::filter::Filter;
use tracer::process::inventory::ExistingProcess;
use tracer::state::State;

const SEPARATOR: &str = "---\n";

#[test]
fn scenarios_end_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {}", folder.display());
    let bless = std::env::var_os("TRACER_BLESS").is_some();
    let failed: Vec<String> = files.iter().filter_map(|file| check(file, bless)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Replays one file. Returns what is wrong with it.
fn check(file: &Path, bless: bool) -> Option<String> {
    let name = file.file_name().unwrap().to_string_lossy();
    let written = fs::read_to_string(file).unwrap();
    let (events, expected) = written.split_once(SEPARATOR).unwrap_or((&written, ""));
    let scenario = match scenario::parse(events) {
        Ok(scenario) => scenario,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let actual = replay(&scenario, &scenario.inventory);
    for order in permutations(&scenario.inventory) {
        let other = replay(&scenario, &order);
        if other != actual {
            let order: Vec<u32> = order.iter().map(|process| process.key.tgid).collect();
            return Some(format!(
                "{name}: differs with the inventory as {order:?}:\n{other}"
            ));
        }
    }
    if actual == expected {
        return None;
    }
    if bless {
        fs::write(file, format!("{events}{SEPARATOR}{actual}")).unwrap();
        return None;
    }
    Some(format!("{name}: expected\n{expected}but got\n{actual}"))
}

fn replay(scenario: &Scenario, inventory: &[ExistingProcess]) -> String {
    let mut state = State::new(scenario.limits);
    let settings = Settings::default().check().unwrap();
    let engine = scenario.detect.then(|| Engine::new(settings));
    let all = Filter::hiding(ProcessKey {
        tgid: 0,
        start_ns: 0,
    });
    let mut transcript = Detecting::new(Transcript::default(), engine, all);
    for (id, path) in &scenario.cgroups {
        state.cgroup(*id, path);
    }
    state.inventory(scenario.inventory_at, inventory.to_vec());
    for step in &scenario.steps {
        match step {
            Step::Event(event) => state.event(event, &mut transcript),
            Step::Advance(time) => {
                state.advance(*time, &mut transcript);
                state.settle(*time, usize::MAX, &mut transcript);
                transcript.advance(*time);
            }
            Step::Compare(snapshot) => state.compare(snapshot.clone()),
        }
    }
    state.drain(&mut transcript);
    transcript.into_inner().end(&state.counters())
}

/// Every order of a small inventory, and the reverse of a large one.
fn permutations(inventory: &[ExistingProcess]) -> Vec<Vec<ExistingProcess>> {
    if inventory.len() > 5 {
        return vec![inventory.iter().rev().cloned().collect()];
    }
    let Some((first, rest)) = inventory.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in permutations(rest) {
        for place in 0..=order.len() {
            let mut order = order.clone();
            order.insert(place, first.clone());
            all.push(order);
        }
    }
    all
}
