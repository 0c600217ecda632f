//! What is said to run is what runs, also where names and arguments change at that very moment.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::execs::{Execs, Program};
use tests::folding::Folding;
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    facts![an_exec_tells_the_file_and_arguments_that_run_while_names_are_exchanged]
}

/// Once through links that are exchanged, and once by a name whose file is, while the arguments are being rewritten.
fn an_exec_tells_the_file_and_arguments_that_run_while_names_are_exchanged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make_programs(directory.path());
    let tracer = Folding::start(Execs::default(), Execs::fold);
    let count = environment::execs();
    let linked = race(directory.path(), ["one", "two"], 0..count);
    let renamed = race(
        directory.path(),
        ["a/program", "b/program"],
        count..2 * count,
    );
    let execs = tracer.stop();
    // The path of a file that is being renamed depends on the moment.
    let without_path = |program: &Program| Program {
        executable: String::new(),
        ..program.clone()
    };
    let missing = compare(&execs, 0, &linked, Program::clone)
        + compare(&execs, count, &renamed, without_path);
    let lost = execs.lost();
    eprintln!("2 * {count} execs: {missing} missing, {lost} losses told");
    assert!(missing <= lost);
}

/// Compares what is told of execs from number `first` on, as far as it is `certain`, with what each program told of itself;
/// how many are missing.
#[track_caller]
fn compare(
    execs: &Execs,
    first: u32,
    programs: &[Program],
    certain: fn(&Program) -> Program,
) -> u64 {
    expect_changes(programs);
    let mut missing = 0;
    for (number, program) in (first..).zip(programs) {
        match execs.programs(number) {
            [] => missing += 1,
            [told] => assert_eq!(certain(told), certain(program), "of exec {number}"),
            told => panic!("exec {number} is told {} times", told.len()),
        }
    }
    missing
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

/// Executes a program while these names are exchanged; what each told of itself.
fn race(directory: &Path, [one, two]: [&str; 2], numbers: Range<u32>) -> Vec<Program> {
    let directory = directory.to_str().expect("UTF-8");
    let [first, end] = [numbers.start, numbers.end].map(|number| number.to_string());
    let mut workload = Workload::start("race", &[directory, &first, &end, one, two]);
    let programs = numbers.map(|number| {
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
fn expect_changes(programs: &[Program]) {
    let inodes: HashSet<_> = programs.iter().map(|program| program.inode).collect();
    let arguments: HashSet<_> = programs.iter().map(|program| &program.argument).collect();
    assert_eq!(inodes.len(), 2);
    assert!(arguments.len() >= 2);
}
