//! What is said to run is what runs, also where names and arguments change at that very moment.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::execs::{Execs, Program};
use tests::folding::Folding;
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    facts![an_exec_tells_the_file_and_the_arguments_that_the_program_itself_has]
}

/// A path that is exchanged, and arguments that are rewritten, while it is executed.
fn an_exec_tells_the_file_and_the_arguments_that_the_program_itself_has() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make_programs(directory.path());
    let tracer = Folding::start(Execs::default(), Execs::fold);
    let programs = race(directory.path(), environment::execs());
    let execs = tracer.stop();
    let mut missing = 0_u64;
    for (number, program) in (0..).zip(&programs) {
        match execs.programs(number) {
            [] => missing += 1,
            [told] => assert_eq!(told, program, "of exec {number}"),
            told => panic!("exec {number} is told {} times", told.len()),
        }
    }
    let (count, lost) = (programs.len(), execs.lost());
    eprintln!("{count} execs: {missing} missing, {lost} losses told");
    assert!(missing <= lost);
    expect_race(&programs);
}

/// Two copies of this program behind two links.
fn make_programs(directory: &Path) {
    for (link, target) in [("one", "a"), ("two", "b")] {
        let target = directory.join(target);
        fs::create_dir(&target).expect("the directory is writable");
        fs::copy(workload::binary(), target.join("program")).expect("there is room");
        symlink(target, directory.join(link)).expect("the directory is writable");
    }
}

/// What the programs told of themselves.
fn race(directory: &Path, count: u32) -> Vec<Program> {
    let directory = directory.to_str().expect("UTF-8");
    let mut workload = Workload::start("race", &[directory, &count.to_string()]);
    let programs = (0..count).map(|number| {
        let mut fact = workload.fact();
        assert_eq!(fact["number"], number);
        serde_json::from_value(fact["program"].take()).expect("a program")
    });
    let programs = programs.collect();
    workload.finish();
    programs
}

/// Both programs have run, and the arguments did change.
#[track_caller]
fn expect_race(programs: &[Program]) {
    let distinct = |of: fn(&Program) -> &String| programs.iter().map(of).collect::<HashSet<_>>();
    assert_eq!(distinct(|program| &program.executable).len(), 2);
    assert!(distinct(|program| &program.argument).len() >= 2);
}
