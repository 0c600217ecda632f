//! Who started it, all the way up: compared with the chain of parents that /proc shows.

use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use tests::event::Event;
use tests::expectations::{only, port};
use tests::http::OneAnswer;
use tests::procfs::{self, Process};
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{environment, facts, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        curl_in_nested_shells_shows_every_ancestor_in_order,
        an_entity_id_is_the_same_in_every_event_and_can_be_decoded,
        a_process_began_when_the_kernel_says,
    ]
}

fn curl_in_nested_shells_shows_every_ancestor_in_order() {
    let server = OneAnswer::listen();
    let url = format!("http://{}/", server.address);
    // Each `true` keeps a shell from becoming its last command.
    let script =
        format!("bash -c 'sh -c \"curl -sS --noproxy 127.0.0.1 {url}; true\"; true'; true");
    let (opened, ancestors) = common::run(|tracer| {
        let first = tracer.events().len();
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .spawn()
            .expect("sh starts");
        let curl = wait::until("curl to start", || {
            descendant(shell.id(), &["bash", "sh", "curl"])
        });
        let opened = tracer.wait_for("curl connects", first, |event| {
            event.is("connection_opened", curl)
        });
        let ancestors = Process::chain(curl);
        server.answer();
        assert!(shell.wait().expect("sh is an own child").success());
        (opened, ancestors)
    });
    opened.expect(
        "/process/args",
        vec!["curl", "-sS", "--noproxy", "127.0.0.1", &url],
    );
    opened.expect(
        "/process/command_line",
        format!("curl -sS --noproxy 127.0.0.1 {url}"),
    );
    opened.expect("/process/user/id", "0");
    expect_lineage(&opened, &ancestors);
}

/// The descendant along a path of names, once each of them is what it is to become.
fn descendant(pid: u32, names: &[&str]) -> Option<u32> {
    let Some((name, deeper)) = names.split_first() else {
        return Some(pid);
    };
    let child = procfs::children(pid)
        .into_iter()
        .find(|child| child.name == *name)?;
    descendant(child.pid, deeper)
}

#[track_caller]
pub(crate) fn expect_lineage(event: &Event, ancestors: &[Process]) {
    let lineage = event.list("/tracer/lineage");
    let shown: Vec<_> = lineage.iter().map(|entry| entry["pid"].clone()).collect();
    let expected: Vec<_> = ancestors.iter().map(|process| process.pid).collect();
    assert_eq!(shown, expected, "in {event}");
    for (entry, process) in lineage.iter().zip(ancestors) {
        assert_eq!(entry["name"], process.name, "in {event}");
        assert_eq!(
            entry["executable"].as_str().unwrap_or_default(),
            process.executable,
            "in {event}"
        );
    }
    event.expect("/tracer/lineage_complete", true);
    event.expect("/tracer/lineage_text", lineage_text(event, ancestors));
    for (pointer, process) in [
        ("/process", &ancestors[0]),
        ("/process/parent", &ancestors[1]),
    ] {
        event.expect(&format!("{pointer}/pid"), process.pid);
        event.expect(&format!("{pointer}/name"), process.name.as_str());
        event.expect(
            &format!("{pointer}/executable"),
            process.executable.as_str(),
        );
    }
    event.expect("/process/entity_id", lineage[0]["entity_id"].clone());
    event.expect("/process/parent/entity_id", lineage[1]["entity_id"].clone());
}

/// The names, with a mark where only the present parent is known.
fn lineage_text(event: &Event, ancestors: &[Process]) -> String {
    let mut text = ancestors[0].name.clone();
    for (descendant, ancestor) in event.list("/tracer/lineage").iter().zip(&ancestors[1..]) {
        text += match descendant["relation"].as_str() {
            Some("birth") => " ← ",
            Some("present") => " ←? ",
            other => panic!("relation {other:?} in {event}"),
        };
        text += &ancestor.name;
    }
    text
}

fn an_entity_id_is_the_same_in_every_event_and_can_be_decoded() {
    let (pid, events) = common::observe(|| workload::run("refused", &["1", "127.0.0.1:0"]).0);
    let exec = only(&events, "process_exec", pid);
    let entity_id = exec.text("/process/entity_id");
    for action in ["connection_failed", "process_exit"] {
        let event = only(&events, action, pid);
        event.expect("/process/entity_id", entity_id);
        event.expect("/process/start", exec.text("/process/start"));
    }
    let decode = &mut Command::new(environment::tracer_bin());
    let decoded = tests::command::run(decode.args(["decode-id", entity_id]).stdout(Stdio::piped()));
    assert_eq!(decoded.code, Some(0), "{decoded:#?}");
    let mut words = decoded
        .stdout
        .split(|character: char| !character.is_ascii_digit());
    assert!(
        words.any(|word| word == pid.to_string()),
        "no {pid} in {decoded:#?}"
    );
    let url_safe =
        |character: char| character.is_ascii_alphanumeric() || "-._~".contains(character);
    assert!(entity_id.chars().all(url_safe), "{entity_id}");
}

fn a_process_began_when_the_kernel_says() {
    let ((pid, started), events) = common::observe(|| {
        let mut server = Workload::start("listen", &["127.0.0.1:0"]);
        assert!(port(&server.fact()) > 0);
        let started = procfs::started(server.pid());
        server.go();
        server.fact();
        let pid = server.pid();
        server.finish();
        (pid, started)
    });
    let shown: Timestamp = only(&events, "listen_opened", pid)
        .text("/process/start")
        .parse()
        .expect("RFC 3339");
    // /proc counts in ticks of 10 ms, and two clocks are read one after the other.
    let difference = shown.duration_since(started).abs();
    assert!(
        difference < SignedDuration::from_millis(50),
        "{shown} is not {started}"
    );
}
