//! `tracer doctor`: what it says must hold in the mode under test.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::suite::Fact;
use tests::{command, environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        doctor_names_the_hook_of_each_moment,
        doctor_names_the_hook_on_handshakes_if_asked,
    ]
}

/// What it says of this mode.
fn report(arguments: &[&str]) -> Value {
    let mut doctor = Command::new(environment::tracer_bin());
    let mode = environment::hook_mode().as_str();
    doctor.args(["doctor", "-o", "json", "--hook-mode", mode]);
    let finished = command::run(doctor.args(arguments).stdout(Stdio::piped()));
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let report: Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
    assert_eq!(report["would_run"], true, "{report:#}");
    assert_eq!(report["hook_mode"], mode, "{report:#}");
    report
}

fn handshakes(report: &Value) -> Option<&Value> {
    let mut moments = report["moments"].as_array().expect("a list").iter();
    moments.find(|moment| moment["moment"] == "client_hello")
}

fn doctor_names_the_hook_on_handshakes_if_asked() {
    let report = report(&["--tls"]);
    let handshakes = handshakes(&report).expect("it is among the moments");
    let hooks = handshakes["chosen"].as_array();
    assert!(
        hooks.is_some_and(|hooks| hooks.len() == 1),
        "{handshakes:#}"
    );
    assert_eq!(handshakes["essential"], false);
}

fn doctor_names_the_hook_of_each_moment() {
    let report = report(&[]);
    assert!(handshakes(&report).is_none(), "{report:#}");
    let moments = report["moments"].as_array().expect("a list");
    let essential = moments.iter().filter(|moment| moment["essential"] == true);
    let mut names = Vec::new();
    for moment in essential {
        let hooks = moment["chosen"].as_array();
        assert!(hooks.is_some_and(|hooks| !hooks.is_empty()), "{moment:#}");
        names.push(moment["moment"].as_str().expect("a name"));
    }
    assert_eq!(
        names,
        ["fork", "exec", "exit", "connect", "accept", "state"],
        "{report:#}"
    );
    let seen = report["check"]["seen"].as_array().expect("a list");
    // Root may open a raw socket, with which that hook is checked.
    for name in names.into_iter().chain(["raw_socket"]) {
        assert!(seen.contains(&name.into()), "{name} in {report:#}");
    }
    assert_eq!(
        report["check"]["sockets"]["reason"],
        Value::Null,
        "{report:#}"
    );
}
