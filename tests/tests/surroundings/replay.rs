//! Recorded events, replayed by the program: what goes in comes out, and what is no event is told and counted.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tests::command::{self, Finished};
use tests::facts;
use tests::suite::Fact;
use tracer::output::action::Action;

use crate::failing::{expect_failure, expect_words_for_users, tracer};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        what_is_detected_is_told_and_decides_the_status,
        what_was_written_is_written_again,
        what_comes_from_a_pipe_is_read_too,
        lines_for_people_have_the_times_of_the_recording,
        filters_are_those_of_trace,
        lines_that_are_no_events_are_told_and_counted_and_all_others_replayed,
        a_file_whose_end_is_missing_is_replayed_up_to_it,
        a_file_without_any_event_is_a_failure,
        a_file_that_is_not_there_is_named_and_nothing_is_written,
        an_export_becomes_the_same_history,
        a_history_is_replayed_as_it_is_exported,
        a_history_that_is_there_is_not_added_to,
        two_hosts_make_no_history,
        metrics_tell_what_had_been_counted,
    ]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name)
}

fn events() -> String {
    fs::read_to_string(golden("events.json")).expect("the golden file is there")
}

/// `-e` with every kind of event, since forks are not shown otherwise.
fn every_kind() -> String {
    Action::ALL.map(Action::name).join(",")
}

/// `tracer` that must do what it was asked for; what it says.
#[track_caller]
fn done(arguments: &[&str]) -> String {
    let finished = run(arguments);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

/// Without looking for anything: that is another test's.
fn run(arguments: &[&str]) -> Finished {
    let mut command = tracer(arguments);
    if arguments.first() == Some(&"replay") {
        command.arg("--no-detect");
    }
    command.env("TZ", "UTC").stdout(Stdio::piped());
    let finished = command::run(&mut command);
    expect_words_for_users(&finished.stderr);
    finished
}

/// A file in a directory of its own.
fn file(content: &[u8]) -> (TempDir, String) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("recording");
    fs::write(&path, content).expect("the directory is writable");
    let path = utf8(&path).to_owned();
    (directory, path)
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn what_was_written_is_written_again() {
    let (path, events) = (golden("events.json"), events());
    let path = utf8(&path);
    assert_eq!(done(&["replay", path, "-e", &every_kind()]), events);
    let twice = done(&["replay", path, path, "-e", &every_kind()]);
    let count = twice.lines().count();
    assert_eq!(count, 2 * events.lines().count());
    let directory = TempDir::new().expect("a temporary directory");
    let out = directory.path().join("out");
    let said = done(&[
        "replay",
        path,
        "-e",
        &every_kind(),
        "--output-file",
        utf8(&out),
    ]);
    assert_eq!(said, "");
    assert_eq!(fs::read_to_string(&out).expect("it was written"), events);
}

fn what_is_detected_is_told_and_decides_the_status() {
    let path = golden("events.json");
    let finished =
        command::run(tracer(&["replay", utf8(&path), "-e", "detection"]).stdout(Stdio::piped()));
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    let lines = finished.stdout.lines();
    let rules: Vec<String> = lines
        .map(|line| serde_json::from_str::<Value>(line).expect("an object a line"))
        .filter(|event| event["event"]["action"] == "detection")
        .map(|event| event["rule"]["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    // Found in it; and recorded, though nothing else in it leads to them.
    for rule in ["raw_socket", "beacon", "lookalike_name"] {
        assert!(rules.contains(&rule.to_owned()), "{rules:?}");
    }
    let count = format!("tracer: {} detections\n", rules.len());
    assert_eq!(finished.stderr, count);
}

fn what_comes_from_a_pipe_is_read_too() {
    let path = golden("events.json");
    let mut command = tracer(&["replay", "-", "--no-detect", "-e", &every_kind()]);
    let input = File::open(path).expect("the golden file is there");
    let output = command
        .stdin(input)
        .output()
        .expect("the tracer can be started");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), events());
}

fn lines_for_people_have_the_times_of_the_recording() {
    let path = golden("events.json");
    for format in ["compact", "wide"] {
        let expected = fs::read_to_string(golden(&format!("{format}.txt")));
        let shown = done(&["replay", utf8(&path), "-o", format, "-e", &every_kind()]);
        assert_eq!(shown, expected.expect("the golden file is there"));
    }
}

/// Names of what is shown.
fn actions(lines: &str) -> Vec<String> {
    let action = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("a line is an object");
        event["event"]["action"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    lines.lines().map(action).collect()
}

fn filters_are_those_of_trace() {
    let path = golden("events.json");
    let shown = |arguments: &[&str]| {
        let arguments = [&["replay", utf8(&path)], arguments].concat();
        let mut actions = actions(&done(&arguments));
        // Losses are never filtered out.
        actions.retain(|action| action != "events_lost");
        actions
    };
    assert!(!shown(&[]).contains(&"process_fork".to_owned()));
    let lookups = shown(&["-e", "dns_lookup", "--comm", "curl"]);
    assert_eq!(lookups, ["dns_lookup"; 2]);
    let tree = shown(&["--tree", "4210", "-e", "process_exec,process_exit"]);
    assert_eq!(tree, ["process_exec", "process_exit"]);
    let peers = shown(&["--peer", "2001:db8::/32", "-e", "connection_accepted"]);
    assert_eq!(peers, ["connection_accepted"]);
    assert_eq!(shown(&["--pid", "1"]), [""; 0]);
}

fn lines_that_are_no_events_are_told_and_counted_and_all_others_replayed() {
    let events = events();
    let lines: Vec<_> = events.lines().collect();
    let mut content = format!("{}\nnot JSON\n{{\"half\":\n", lines[1]);
    content += &format!("{}\n", lines[7].replace("\"port\":443", "\"port\":\"x\""));
    content += &format!("{}\n\n", lines[2]);
    let mut content = content.into_bytes();
    content.extend(std::iter::repeat_n(b'x', 2 << 20));
    content.extend_from_slice(b"\n\xff\xfe\n");
    writeln!(content, "{}", lines[3]).expect("memory can be written");
    (0..20).for_each(|_| content.extend_from_slice(b"again\n"));
    let (_directory, path) = file(&content);
    let finished = run(&["replay", &path]);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let lost = "events_lost";
    let expected = [
        "process_exec",
        lost,
        "process_exec",
        lost,
        "process_exec",
        lost,
    ];
    assert_eq!(actions(&finished.stdout), expected, "{finished:#?}");
    let counts = finished.stdout.lines().filter_map(|line| {
        let event: Value = serde_json::from_str(line).expect("a line is an object");
        let lost = &event["tracer"]["lost"];
        (lost["stage"] == "replay").then(|| lost["count"].as_u64())
    });
    assert!(counts.eq([3, 2, 20].map(Some)), "{finished:#?}");
    for (number, words) in [
        (2, "column 1: expected a JSON object"),
        (3, "column 8: EOF"),
        (4, "invalid type: string \"x\", expected u16"),
        (7, "it has more than 1048576 bytes"),
        (8, "column 1"),
        (14, "column 1"),
    ] {
        let told = finished
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix(&format!("tracer: {path}:{number}: ")));
        assert!(
            told.is_some_and(|it| it.contains(words)),
            "{number}: {finished:#?}"
        );
    }
    assert!(!finished.stderr.contains(&format!("{path}:15:")));
    let sum = "25 lines are no events and were left out (15 more than are named)";
    assert!(finished.stderr.contains(sum), "{finished:#?}");
}

fn a_file_whose_end_is_missing_is_replayed_up_to_it() {
    let events = events();
    let end = events.trim_end().len();
    // The last line needs no end.
    let (_directory, path) = file(&events.as_bytes()[..end]);
    assert_eq!(done(&["replay", &path, "-e", &every_kind()]), events);
    let (_directory, path) = file(&events.as_bytes()[..end - 100]);
    let finished = run(&["replay", &path, "-e", &every_kind()]);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let whole = events.lines().count() - 1;
    let (replayed, rest) = finished.stdout.split_at(
        events
            .lines()
            .take(whole)
            .map(|line| line.len() + 1)
            .sum::<usize>(),
    );
    assert!(events.starts_with(replayed));
    assert_eq!(actions(rest), ["events_lost"]);
    assert!(finished.stderr.contains(&format!(":{}: column", whole + 1)));
}

fn a_file_without_any_event_is_a_failure() {
    let (_directory, path) = file(b"\x1b[31mred\n");
    let finished = run(&["replay", &path]);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert_eq!(actions(&finished.stdout), ["events_lost"]);
    assert!(!finished.stderr.contains('\u{1b}'), "{finished:#?}");
    let (_directory, empty) = file(b"");
    assert_eq!(done(&["replay", &empty]), "");
}

fn a_file_that_is_not_there_is_named_and_nothing_is_written() {
    let path = golden("events.json");
    let arguments = ["replay", utf8(&path), "/no/such/file"];
    expect_failure(&mut tracer(&arguments), 1, &["/no/such/file"]);
    expect_failure(&mut tracer(&["replay"]), 2, &["<FILE>"]);
}

const SUBJECTS: [&str; 7] = [
    "connections",
    "procs",
    "listeners",
    "flows",
    "lookups",
    "raw-sockets",
    "losses",
];

/// All that a history has of a kind, as documents.
fn query(subject: &str, history: &Path) -> String {
    let since = ["--since", "2020-01-01"];
    let history = ["--history", utf8(history), "-o", "json"];
    done(&[&["query", subject][..], &since, &history].concat())
}

fn an_export_becomes_the_same_history() {
    let directory = TempDir::new().expect("a temporary directory");
    let [first, second, exported] =
        ["first", "second", "exported"].map(|it| directory.path().join(it));
    let path = golden("events.json");
    let said = done(&["replay", utf8(&path), "--history", utf8(&first)]);
    assert_eq!(said, "", "nobody asked for lines");
    let export = ["export", "--format", "ndjson", "--history", utf8(&first)];
    done(&[&export[..], &["--output-file", utf8(&exported)]].concat());
    done(&["replay", utf8(&exported), "--history", utf8(&second)]);
    for subject in SUBJECTS {
        let documents = query(subject, &first);
        assert!(!documents.is_empty(), "{subject}");
        assert_eq!(documents, query(subject, &second), "{subject}");
    }
    // What had ended is told as it was written first.
    let without_number = |line: &str| {
        let mut event: Value = serde_json::from_str(line).expect("a line is an object");
        let members = event["event"].as_object_mut().expect("an object");
        members.remove("sequence");
        event
    };
    let written: Vec<Value> = events().lines().map(without_number).collect();
    for subject in ["connections", "procs", "lookups", "raw-sockets", "losses"] {
        for line in query(subject, &second).lines() {
            let document = without_number(line);
            let is_open = document["event"]["action"] == "connection_existing";
            assert!(is_open || written.contains(&document), "{line}");
        }
    }
}

fn a_history_is_replayed_as_it_is_exported() {
    let directory = TempDir::new().expect("a temporary directory");
    let history = directory.path().join("history");
    let path = golden("events.json");
    done(&["replay", utf8(&path), "--history", utf8(&history)]);
    let export = done(&["export", "--format", "ndjson", "--history", utf8(&history)]);
    assert_eq!(done(&["replay", utf8(&history)]), export);
    let files = fs::read_dir(&history).expect("it was made");
    let files = files.map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = files
        .filter(|path| utf8(path).contains("history-"))
        .collect();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    assert_eq!(done(&["replay", utf8(file)]), export);
}

fn a_history_that_is_there_is_not_added_to() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = golden("events.json");
    let arguments = ["replay", utf8(&path), "--history", utf8(directory.path())];
    done(&arguments);
    expect_failure(
        &mut tracer(&arguments),
        2,
        &[utf8(directory.path()), "--history"],
    );
}

fn two_hosts_make_no_history() {
    let (directory, other) = file(events().replace("node-1", "node-2").as_bytes());
    let path = golden("events.json");
    let history = directory.path().join("history");
    let arguments = ["replay", utf8(&path), &other, "--history", utf8(&history)];
    expect_failure(&mut tracer(&arguments), 1, &["node-1", "node-2"]);
    let lines = done(&["replay", utf8(&path), &other]);
    assert!(lines.contains("node-1") && lines.contains("node-2"));
}

fn metrics_tell_what_had_been_counted() {
    let path = golden("events.json");
    let exposition = done(&[
        "replay",
        utf8(&path),
        "--metrics",
        "-",
        "--metrics-process",
        "curl",
    ]);
    for line in [
        "tracer_events_total{action=\"process_fork\"} 1",
        "tracer_events_total{action=\"connection_closed\"} 4",
        "tracer_events_lost_total{stage=\"ring\"} 17",
        "tracer_datagrams_total{direction=\"transmit\"} 1000",
        "tracer_connections_total{direction=\"egress\",family=\"ipv4\",outcome=\"success\",process=\"curl\"} 1",
    ] {
        assert!(
            exposition.lines().any(|it| it == line),
            "{line} in {exposition}"
        );
    }
}
