//! What is kept on disk, and what can be asked of it afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::command::{self, Finished};
use tests::daemon::Tracer;
use tests::event::Event;
use tests::loopback;
use tests::suite::Fact;
use tests::wait;
use tests::workload::{self, Workload};
use tests::{environment, facts};

/// Each starts a tracer of its own, which takes an emulated machine half a minute: there are those that depend on the
/// kernel alone.
pub(crate) fn facts() -> Vec<Fact> {
    let everywhere = facts![
        the_history_has_the_same_documents_as_the_output,
        what_was_kept_survives_kill_and_the_last_second_alone_may_be_missing,
    ];
    if environment::in_vm() {
        return everywhere;
    }
    let here = facts![
        a_full_disk_is_counted_and_recovered_from,
        a_store_that_may_only_be_read_is_counted_and_recovered_from,
        a_connection_that_is_gone_is_found_by_its_peer,
        who_reconnected_is_told_and_that_nothing_new_ran,
        a_connection_that_is_open_is_told_as_open,
        bad_questions_are_refused_by_the_word,
        a_corrupt_file_is_set_aside_and_the_others_stay,
    ];
    everywhere.into_iter().chain(here).collect()
}

/// `tracer run` that keeps its history in a directory.
fn keeping(directory: &Path) -> Tracer {
    Tracer::start(&["--history", utf8(directory)])
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A command that asks a history.
fn ask(directory: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(environment::tracer_bin());
    command
        .args(arguments)
        .args(["--history", utf8(directory)])
        .stdout(Stdio::piped());
    command::run(&mut command)
}

/// Its answer, an object a line.
#[track_caller]
fn answer(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments = [arguments, &["-o", "json"]].concat();
    let finished = ask(directory, &arguments);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let lines = finished.stdout.lines();
    let parsed = lines.map(|line| serde_json::from_str(line).expect("a line is an object"));
    parsed.collect()
}

/// Connects to itself so many times, each closed at once. Returns the ports of the connecting ends.
fn connect(count: usize) -> Vec<u16> {
    let (listener, address) = loopback::listener();
    let ports = (0..count).map(|_| {
        let client = std::net::TcpStream::connect(address).expect("it listens");
        let port = client.local_addr().expect("it is connected").port();
        let (mut server, _) = listener.accept().expect("a connection waits");
        server.write_all(b"x").expect("it is connected");
        drop(server);
        port
    });
    ports.collect()
}

/// The actions whose documents can be asked for again.
const ASKED: [(&str, &[&str]); 5] = [
    ("connections", &["connection_closed", "connection_failed"]),
    ("procs", &["process_exec"]),
    ("lookups", &["dns_lookup"]),
    ("raw-sockets", &["socket_opened"]),
    ("detections", &["detection"]),
];

fn the_history_has_the_same_documents_as_the_output() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut tracer = keeping(directory.path());
    tracer.observe(|| {
        connect(3);
        workload::run("refused", &["2", "127.0.0.1:0"]);
        // Which is detected.
        workload::run("raw-sockets", &["here"]);
        command::run(&mut workload::command(
            "exit",
            &["3", "an argument", "\u{fc}\"\\"],
        ));
    });
    let ended = tracer.stop(Signal::TERM);
    expect_replay(&ended.events);
    for (subject, actions) in ASKED {
        let key = |event: &Value| match event.pointer("/tracer/connection_id") {
            Some(id) => id.to_string(),
            None => format!("{}{}", event["process"]["entity_id"], event["@timestamp"]),
        };
        let plain = |event: &Value| {
            let mut event = event.clone();
            event["event"]
                .as_object_mut()
                .expect("an object")
                .remove("sequence");
            event
        };
        // What is still open can be asked for, too.
        let is_asked = |event: &&Value| {
            let action = event.pointer("/event/action").and_then(Value::as_str);
            actions.contains(&action.unwrap_or_default())
        };
        let told = ended.events.iter().map(Event::json).filter(is_asked);
        let told: HashMap<String, Value> = told.map(|event| (key(event), plain(event))).collect();
        let kept = answer(directory.path(), &["query", subject, "--since", "1h"]);
        let kept: HashMap<String, Value> = kept
            .iter()
            .filter(is_asked)
            .map(|event| (key(event), plain(event)))
            .collect();
        assert_eq!(kept.len(), told.len(), "{subject}");
        for (id, event) in &told {
            // What its file is may have been learned after the line and before the row.
            let of_file = ["hash", "package", "build_id", "flags"];
            let without = |event: &Value| {
                let mut event = event.clone();
                for path in ["/process", "", "/tracer", "/tracer/provenance"] {
                    if let Some(object) = event.pointer_mut(path).and_then(Value::as_object_mut) {
                        of_file.iter().for_each(|name| drop(object.remove(*name)));
                    }
                }
                let tracer = event["tracer"].as_object_mut().expect("an object");
                if tracer.get("provenance") == Some(&Value::Object(serde_json::Map::new())) {
                    tracer.remove("provenance");
                }
                event
            };
            let kept = kept.get(id).unwrap_or_else(|| panic!("not kept: {event}"));
            assert_eq!(without(kept), without(event));
        }
        assert!(subject == "lookups" || !told.is_empty(), "{subject}");
    }
}

/// Asserts that what a tracer has written is written again as it was.
fn expect_replay(events: &[Event]) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("events");
    let lines = events.iter().map(|event| format!("{}\n", event.json()));
    fs::write(&path, lines.collect::<String>()).expect("the directory is writable");
    let mut command = Command::new(environment::tracer_bin());
    command
        .args(["replay", utf8(&path), "--no-detect", "-o", "json"])
        .stdout(Stdio::piped());
    let finished = command::run(&mut command);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let replayed = finished.stdout.lines();
    let replayed = replayed.map(|line| serde_json::from_str(line).expect("a line is an object"));
    let replayed: Vec<Value> = replayed.collect();
    assert_eq!(replayed.len(), events.len());
    for (replayed, event) in replayed.iter().zip(events) {
        assert_eq!(replayed, event.json());
    }
}

/// What ended longer than this before a tracer was killed must have been kept. An emulated machine is given more, as
/// its second is not a processor's.
fn loss_limit() -> Duration {
    Duration::from_millis(if environment::in_vm() { 1500 } else { 1000 })
}

fn what_was_kept_survives_kill_and_the_last_second_alone_may_be_missing() {
    let directory = TempDir::new().expect("a temporary directory");
    let (limit, starts) = (loss_limit(), environment::starts());
    let (mut made, mut missing, mut worst) = (0, 0, Duration::ZERO);
    for start in 0..starts {
        let since = jiff::Timestamp::now().to_string();
        let tracer = keeping(directory.path());
        let mut ended = Vec::new();
        let begin = Instant::now();
        wait::until("connections for longer than may be missing", || {
            ended.extend(connect(10).into_iter().map(|port| (port, Instant::now())));
            (begin.elapsed() > limit + limit / 2).then_some(())
        });
        let killed = Instant::now();
        tracer.signal(Signal::KILL);
        let status = tracer.wait(wait::DEADLINE).status;
        assert_eq!(status.code(), None, "it was killed");
        let kept = ends_by_port(directory.path(), &since);
        let old = |at: Instant| killed - at > limit;
        assert!(ended.iter().any(|(_, at)| old(*at)), "some are old enough");
        for (port, at) in &ended {
            // Both ends are here.
            if kept.get(port).is_some_and(|ends| *ends >= 2) {
                continue;
            }
            let before = killed - *at;
            assert!(
                !old(*at),
                "port {port} of start {start} ended {before:?} before the kill"
            );
            missing += 1;
            worst = worst.max(before);
        }
        made += ended.len();
    }
    eprintln!(
        "killed {starts} times: of {made} connections {missing} are missing, the first {worst:?} before the kill"
    );
    // Whoever comes next closes what was left, and all can still be read.
    let next = keeping(directory.path());
    connect(1);
    next.stop(Signal::TERM);
    let finished = ask(directory.path(), &["query", "--since", "1h", "-o", "csv"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(!finished.stderr.contains("cannot be read"), "{finished:#?}");
    let logs = fs::read_dir(directory.path()).expect("it is there");
    let logs = logs.filter(|entry| {
        let name = entry.as_ref().expect("it is there").file_name();
        name.to_string_lossy().starts_with("history-") && name.to_string_lossy().ends_with("-wal")
    });
    assert_eq!(logs.count(), 0, "files that were not closed in order");
}

/// How many ends of own connections have ended since some time, by the port of the initiator.
fn ends_by_port(directory: &Path, since: &str) -> HashMap<u16, usize> {
    let mut ends = HashMap::new();
    for event in answer(directory, &["query", "--since", since]) {
        let is_end = event["event"]["action"] == "connection_closed";
        if is_end && event["process"]["pid"] == std::process::id() {
            let port = event["source"]["port"].as_u64();
            let port = port.and_then(|port| port.try_into().ok());
            *ends.entry(port.expect("it has a port")).or_default() += 1;
        }
    }
    ends
}

/// A file system of its own, until it is dropped.
struct Disk(TempDir);

impl Disk {
    fn new(options: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount(
            "tracer",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            &*options,
        )
        .expect("root can mount");
        Self(directory)
    }

    fn remount(&self, flags: MountFlags, options: &str) {
        mount_remount(self.0.path(), flags, options).expect("root can mount");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open there is about to end.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Sees to it that the history cannot be written, and then that it can be again.
fn expect_recovery(
    disk: &Disk,
    mut tracer: Tracer,
    mut make_work: impl FnMut(usize),
    mend: impl FnOnce(&Disk),
) {
    let mut made = 0;
    wait::until("the tracer to say that it cannot write", || {
        make_work(made);
        made += 1;
        tracer
            .stderr()
            .contains("is missing in the history")
            .then_some(())
    });
    mend(disk);
    wait::until("the tracer to write again", || {
        connect(1);
        tracer
            .stderr()
            .contains("the history is written again")
            .then_some(())
    });
    let first = tracer.events().len();
    let ports = connect(5);
    let lost = |event: &Event| {
        event.action() == "events_lost" && event.text("/tracer/lost/stage") == "history"
    };
    tracer.wait_for("what the history lost", 0, lost);
    let ended = tracer.stop(Signal::TERM);
    assert!(ended.events.len() > first);
    let counted: u64 = ended
        .events
        .iter()
        .filter(|event| lost(event))
        .map(|event| event.number("/tracer/lost/count"))
        .sum();
    let said = ended.stderr.lines().find_map(|line| {
        line.split_once("written again; ")?
            .1
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    assert_eq!(said, Some(counted), "{}", ended.stderr);
    let kept = answer(disk.0.path(), &["query", "--since", "1h"]);
    for port in ports {
        let is_kept = kept.iter().any(|event| event["source"]["port"] == port);
        assert!(is_kept, "port {port}, after it could be written again");
    }
}

fn a_full_disk_is_counted_and_recovered_from() {
    let disk = Disk::new("size=1M");
    let tracer = keeping(disk.0.path());
    let fill = |made: usize| {
        // Something else fills it.
        let path = disk.0.path().join("filling");
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("it opens");
        let _ = file.write_all(&vec![0; 64 << 10]);
        connect(1 + made % 5);
    };
    let mend = |disk: &Disk| {
        fs::remove_file(disk.0.path().join("filling")).expect("it is there");
        disk.remount(MountFlags::empty(), "size=64M");
    };
    expect_recovery(&disk, tracer, fill, mend);
}

fn a_store_that_may_only_be_read_is_counted_and_recovered_from() {
    let disk = Disk::new("size=64M");
    disk.remount(MountFlags::RDONLY, "");
    let tracer = keeping(disk.0.path());
    let work = |_| drop(connect(1));
    let mend = |disk: &Disk| disk.remount(MountFlags::empty(), "");
    expect_recovery(&disk, tracer, work, mend);
}

/// SCENARIOS.md, S1: a process that lives some milliseconds knocks on port 445, a fresh PID each time.
fn a_connection_that_is_gone_is_found_by_its_peer() {
    const KNOCKS: usize = 5;
    let directory = TempDir::new().expect("a temporary directory");
    let tracer = keeping(directory.path());
    let listener = TcpListener::bind("127.44.5.1:445").expect("root may");
    let script = "for i in 1 2 3 4 5; do curl -s --max-time 5 http://127.44.5.1:445/; done; true";
    let mut supervisor = Command::new("sh");
    let mut supervisor = command::Owned::spawn(supervisor.args(["-c", script]));
    for _ in 0..KNOCKS {
        let (mut stream, _) = listener.accept().expect("a connection comes");
        stream.write_all(b"no\r\n").expect("it is connected");
    }
    assert!(supervisor.status().success());
    tracer.stop(Signal::TERM);
    let found = answer(
        directory.path(),
        &["who", "127.44.5.1:445", "--since", "1d"],
    );
    let of = |direction: &str| -> Vec<&Value> {
        let found = found
            .iter()
            .filter(|event| event["network"]["direction"] == direction);
        found
            .filter(|event| event["event"]["action"] == "connection_closed")
            .collect()
    };
    let (knocks, answers) = (of("egress"), of("ingress"));
    assert_eq!(
        (knocks.len(), answers.len()),
        (KNOCKS, KNOCKS),
        "{found:#?}"
    );
    let mut pids: Vec<u64> = knocks
        .iter()
        .map(|event| {
            event["process"]["pid"]
                .as_u64()
                .expect("its owner is known")
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), KNOCKS, "a fresh PID each time");
    for knock in &knocks {
        assert_eq!(knock["process"]["name"], "curl");
        let path = knock["process"]["executable"]
            .as_str()
            .expect("its file is known");
        assert!(path.ends_with("/curl"), "{path}");
        assert_eq!(knock["process"]["user"]["id"], "0");
        let supervisor = knock["tracer"]["lineage"][1]["pid"].as_u64();
        assert_eq!(
            supervisor,
            Some(u64::from(supervisor_pid(&knocks))),
            "the same supervisor"
        );
        assert_eq!(
            knock["tracer"]["fingerprint"],
            knocks[0]["tracer"]["fingerprint"]
        );
    }
    for answer in answers {
        assert_eq!(answer["process"]["pid"], std::process::id());
    }
    let table = ask(
        directory.path(),
        &["who", "127.44.5.1", "--since", "1d", "-o", "table"],
    );
    assert!(table.stdout.starts_with("Opened"), "{table:#?}");
    assert_eq!(table.stdout.lines().count(), 1 + 2 * KNOCKS, "{table:#?}");
    assert!(
        table.stderr.contains("10 in all; 0 failed; 2 lineages"),
        "{table:#?}"
    );
}

fn supervisor_pid(knocks: &[&Value]) -> u32 {
    let pid = knocks[0]["tracer"]["lineage"][1]["pid"].as_u64();
    pid.and_then(|pid| pid.try_into().ok())
        .expect("it has a parent")
}

/// SCENARIOS.md, S3: a client that was left open reconnects, and no new program has run.
fn who_reconnected_is_told_and_that_nothing_new_ran() {
    let directory = TempDir::new().expect("a temporary directory");
    let tracer = keeping(directory.path());
    let (listener, address) = loopback::listener();
    let mut client = Workload::start("reconnect", &["5", &address.to_string()]);
    client.go();
    client.fact();
    // The commands that will ask have run before, too.
    wait::until("something to be kept", || {
        let asked = ask(
            directory.path(),
            &["talkers", "--since", "1h", "-o", "json"],
        );
        (asked.code == Some(0)).then_some(())
    });
    let since = jiff::Timestamp::now().to_string();
    drop(listener.accept().expect("a connection comes"));
    client.fact();
    drop(listener);
    for _ in 0..3 {
        client.go();
        assert_eq!(client.fact()["errno"], 111);
    }
    let listener = TcpListener::bind(address).expect("it was free");
    client.go();
    client.fact();
    drop(listener.accept().expect("a connection comes"));
    client.fact();
    let pid = client.pid();
    client.finish();
    tracer.stop(Signal::TERM);
    let arguments = [
        "talkers",
        "--since",
        &since,
        "--min-conns",
        "1",
        "--pid",
        &pid.to_string(),
    ];
    let talkers = answer(directory.path(), &arguments);
    assert_eq!(talkers.len(), 1, "{talkers:#?}");
    let counts = &talkers[0]["tracer"]["connections"];
    assert_eq!(
        (&counts["count"], &counts["failed"]),
        (&5.into(), &3.into()),
        "{counts}"
    );
    let started = talkers[0]["process"]["start"]
        .as_str()
        .expect("its start is known");
    assert!(started < since.as_str(), "{started} is before {since}");
    let timeline = answer(
        directory.path(),
        &["query", "--since", &since, "--pid", &pid.to_string()],
    );
    let timeline: Vec<_> = timeline
        .iter()
        .map(|event| {
            (
                event["event"]["action"].as_str(),
                event["error"]["code"].as_str(),
            )
        })
        .collect();
    let (closed, failed) = (Some("connection_closed"), Some("connection_failed"));
    let refused = (failed, Some("ECONNREFUSED"));
    let expected = [(closed, None), refused, refused, refused, (closed, None)];
    assert_eq!(timeline, expected);
    let own = std::process::id().to_string();
    let new = [
        "query",
        "procs",
        "--first-seen",
        "--since",
        &since,
        "--tree",
        &own,
    ];
    assert_eq!(answer(directory.path(), &new), Vec::<Value>::new());
}

fn a_connection_that_is_open_is_told_as_open() {
    let directory = TempDir::new().expect("a temporary directory");
    let tracer = keeping(directory.path());
    let (listener, address) = loopback::listener();
    let client = std::net::TcpStream::connect(address).expect("it listens");
    let server = listener.accept().expect("a connection waits").0;
    let port = client.local_addr().expect("it is connected").port();
    let opened = || {
        let port = port.to_string();
        let asked = ask(
            directory.path(),
            &["query", "--since", "1h", "--port", &port, "-o", "json"],
        );
        let events = asked.stdout.lines().map(|line| {
            let event: Value = serde_json::from_str(line).expect("a line is an object");
            event["event"]["action"]
                .as_str()
                .expect("it has an action")
                .to_owned()
        });
        let mut actions: Vec<_> = events.collect();
        actions.sort();
        actions
    };
    // While the daemon runs, and its files are in use; until the first of them is there, there is nothing to ask.
    wait::until("both ends to be kept", || {
        (opened() == ["connection_accepted", "connection_opened"]).then_some(())
    });
    tracer.stop(Signal::TERM);
    assert_eq!(opened(), ["connection_accepted", "connection_opened"]);
    drop((client, server));
}

fn bad_questions_are_refused_by_the_word() {
    let directory = TempDir::new().expect("a temporary directory");
    let tracer = keeping(directory.path());
    connect(1);
    tracer.stop(Signal::TERM);
    for (arguments, words) in [
        (&["--since", "soon"][..], &["'soon'", "--since"][..]),
        (
            &["--since", "1m", "--until", "1h"],
            &["--since is later than --until"],
        ),
        (
            &["--sql", "SELECT colour FROM connections"],
            &["no such column", "«colour»", "character 8"],
        ),
        (
            &["--sql", "SELECT 1 FROM contraptions"],
            &["no such table", "contraptions"],
        ),
        (
            &["--sql", "DELETE FROM connections"],
            &["«DELETE»", "SELECT"],
        ),
        (
            &["--sql", "SELECT 1; SELECT 2"],
            &["one question at a time"],
        ),
        (
            &["--sql", "SELECT * FORM connections"],
            &["syntax error", "«FORM»"],
        ),
        (
            &["--sql", "WITH x AS (SELECT 1) DELETE FROM connections"],
            &["connections"],
        ),
        (&["contraptions"], &["'contraptions'"]),
    ] {
        let finished = ask(directory.path(), &[&["query"], arguments].concat());
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:#?}");
        for word in words {
            assert!(
                finished.stderr.contains(word),
                "no {word:?} in {finished:#?}"
            );
        }
        assert_eq!(finished.stdout, "");
    }
    let empty = TempDir::new().expect("a temporary directory");
    let finished = ask(empty.path(), &["query"]);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(
        finished.stderr.contains("there is no history in"),
        "{finished:#?}"
    );
}

fn a_corrupt_file_is_set_aside_and_the_others_stay() {
    let directory = TempDir::new().expect("a temporary directory");
    let run = || {
        let tracer = keeping(directory.path());
        let ports = connect(2);
        tracer.stop(Signal::TERM);
        ports
    };
    let files = || {
        let entries = fs::read_dir(directory.path()).expect("it is there");
        let names = entries.map(|entry| entry.expect("it is there").path());
        let mut files: Vec<_> = names
            .filter(|path| utf8(path).contains("/history-"))
            .collect();
        files.sort();
        files
    };
    run();
    let first = files().pop().expect("a file");
    fs::write(&first, vec![b'x'; 8192]).expect("root can write");
    let ports = run();
    let kept = answer(directory.path(), &["query", "--since", "1h"]);
    for port in ports {
        assert!(
            kept.iter().any(|event| event["source"]["port"] == port),
            "{port}"
        );
    }
    assert_eq!(files()[0], first.with_extension("corrupt"));
}
