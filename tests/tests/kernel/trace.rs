//! `tracer trace -- COMMAND`: what the command's tree does, and nothing else.

use std::fs;
use std::process::Command;

use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::{expect_count, expect_no_loss};
use tests::suite::Fact;
use tests::wait::DEADLINE;
use tests::workload::{FLAG, Workload, binary};
use tests::{environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    facts![a_traced_command_shows_its_tree_and_nothing_else]
}

fn a_traced_command_shows_its_tree_and_nothing_else() {
    let mut background = Workload::start("connect-until-told", &[]);
    background.fact();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let facts = directory.path().join("facts");
    let script = format!(
        "{} {FLAG} refused 5 127.0.0.1:0 > {}; true",
        binary().display(),
        facts.display()
    );
    let mut command = Command::new(environment::tracer_bin());
    command.args([
        "trace",
        "-o",
        "json",
        "--hook-mode",
        environment::hook_mode().as_str(),
    ]);
    let tracer = Tracer::spawn(command.args(["--", "sh", "-c", &script]));
    let pid = tracer.pid();
    let ended = tracer.wait(DEADLINE);
    background.go();
    let unseen = background.pid();
    background.finish();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        fs::read_to_string(&facts).is_ok_and(|told| told.contains("errno")),
        "the command did not run"
    );
    let failed: Vec<_> = ended
        .events
        .iter()
        .filter(|event| event.action() == "connection_failed")
        .collect();
    assert_eq!(failed.len(), 5);
    let shell = failed[0].number("/process/parent/pid");
    let stranger = ended
        .events
        .iter()
        .find(|event| !event.descends_from(u32::try_from(shell).expect("a PID")));
    assert!(
        stranger.is_none(),
        "{}",
        stranger.map_or_else(String::new, Event::to_string)
    );
    expect_count(&ended.events, "connection_opened", unseen, 0);
    expect_count(&ended.events, "connection_opened", pid, 0);
    expect_no_loss(&ended.events);
}
