//! What Prometheus gets: counts that agree with the events, in a form that it takes.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tests::daemon::Tracer;
use tests::event::Event;
use tests::http;
use tests::metrics::sum;
use tests::suite::Fact;
use tests::{environment, facts, wait, workload};

use crate::{common, prometheus};

pub(crate) fn facts() -> Vec<Fact> {
    let mut facts = facts![metrics_count_what_the_events_tell, health_is_told];
    if !environment::in_vm() {
        facts.extend(facts![promtool_finds_nothing_to_criticize]);
        facts.extend(prometheus::facts());
    }
    facts
}

fn page(address: SocketAddr) -> String {
    let response = http::get(address, "/metrics").expect("the tracer serves metrics");
    assert_eq!(response.status, 200);
    response.body
}

/// Both sides are read until they agree: the host does not stand still between the two.
fn metrics_count_what_the_events_tell() {
    common::run(|tracer| {
        tracer.observe(|| {
            let address = workload::run("refused", &["20", "127.0.0.1:0"]).1;
            assert_eq!(address["errno"], libc::ECONNREFUSED);
        });
        let mut differences = Vec::new();
        let agreed = wait::within(wait::DEADLINE, || {
            let page = page(tracer.metrics());
            differences = differ(&page, tracer);
            differences.is_empty().then_some(())
        });
        assert!(
            agreed.is_some(),
            "metrics and events do not agree: {differences:?}"
        );
    });
}

/// Each count that the metrics and the events tell differently: name, metrics, events.
fn differ(page: &str, tracer: &mut Tracer) -> Vec<(String, f64, usize)> {
    let own = common::own_name();
    let events = tracer.events();
    let count =
        |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    let metric = |name, labels: &[(&str, &str)]| sum(page, name, labels).unwrap_or(0.0);
    let told_lost = events
        .iter()
        .filter(|event| event.action() == "events_lost")
        .map(|event| event.number("/tracer/lost/count"));
    let told_lost: u64 = told_lost.sum();
    let mut counts = vec![(
        "lost".to_owned(),
        metric("tracer_events_lost_total", &[]),
        usize::try_from(told_lost).expect("few"),
    )];
    for action in [
        "process_exec",
        "process_exit",
        "connection_closed",
        "listen_opened",
    ] {
        let labels = [("action", action)];
        counts.push((
            action.to_owned(),
            metric("tracer_events_total", &labels),
            count(&|event| event.action() == action),
        ));
    }
    for (action, direction, outcome) in OUTCOMES {
        let labels = [
            ("direction", direction),
            ("outcome", outcome),
            ("process", own.as_str()),
        ];
        let all = metric("tracer_connections_total", &labels[..2]);
        counts.push((
            action.to_owned(),
            all,
            count(&|event| event.action() == action),
        ));
        let ours = metric("tracer_connections_total", &labels);
        let told = count(&|event| {
            event.action() == action && event.get("/process/name") == Some(&own.as_str().into())
        });
        counts.push((format!("{action} of {own}"), ours, told));
    }
    counts.retain(|(_, metric, events)| *metric != f64::from(u32::try_from(*events).expect("few")));
    counts
}

/// As which a connection is counted when it is told by an action.
const OUTCOMES: [(&str, &str, &str); 3] = [
    ("connection_opened", "egress", "success"),
    ("connection_accepted", "ingress", "success"),
    ("connection_failed", "egress", "failure"),
];

fn health_is_told() {
    let address = common::run(|tracer| tracer.metrics());
    for path in ["/livez", "/readyz", "/"] {
        let response = http::get(address, path).expect("the tracer serves health");
        assert_eq!(response.status, 200, "{path}: {}", response.body);
    }
    let absent = http::get(address, "/nothing").expect("the tracer serves health");
    assert_eq!(absent.status, 404);
}

fn promtool_finds_nothing_to_criticize() {
    let page = page(common::run(|tracer| tracer.metrics()));
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let promtool = promtool
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool is installed: Debian's package `prometheus`");
    let mut stdin = promtool.stdin.take().expect("stdin is a pipe");
    stdin.write_all(page.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool
        .wait_with_output()
        .expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{}: {said}",
        output.status
    );
}
