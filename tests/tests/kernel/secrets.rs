//! Secrets among arguments reach no output.

use std::process::{Command, Stdio};

use tests::expectations::only;
use tests::suite::Fact;
use tests::workload::{self, FLAG, Workload};
use tests::{command, environment, facts};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        the_secret_of_a_process_appears_in_no_line,
        the_secret_of_an_older_process_is_not_told,
    ]
}

const SECRET: &str = "correct-horse-battery-staple";

fn the_secret_of_a_process_appears_in_no_line() {
    let url = format!("https://tom:{SECRET}@example.org/");
    let arguments = ["0", "--password", SECRET, &url];
    let (pid, events) = common::observe(|| {
        let mut child = workload::command("exit", &arguments)
            .spawn()
            .expect("it starts");
        child.wait().expect("an own child");
        child.id()
    });
    let exec = only(&events, "process_exec", pid);
    let binary = workload::binary();
    let binary = binary.to_str().expect("UTF-8");
    let url = "https://tom:***@example.org/";
    exec.expect(
        "/process/args",
        vec![binary, FLAG, "exit", "0", "--password", "***", url],
    );
    assert!(exec.words("/tracer/flags").contains(&"args_masked"));
    only(&events, "process_exit", pid);
    let telling = events
        .iter()
        .find(|event| event.to_string().contains(SECRET));
    assert!(telling.is_none(), "{}", telling.expect("it is one"));
}

fn the_secret_of_an_older_process_is_not_told() {
    let mut waiting = Workload::start("wait", &["--token", SECRET]);
    waiting.fact();
    let mut tree = Command::new(environment::tracer_bin());
    tree.args(["tree", "--socket", "off", &waiting.pid().to_string()]);
    let told = command::run(tree.stdout(Stdio::piped()));
    waiting.kill();
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.stdout.contains("--token ***"), "{}", told.stdout);
    assert!(!told.stdout.contains(SECRET), "{}", told.stdout);
}
