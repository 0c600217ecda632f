//! What is asked of Prometheus: every query is one, and asks for nothing that the tracer does not tell.
//!
//! In: `deploy/prometheus`, `deploy/grafana`, and the metrics as they are published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use regex_lite::Regex;
use serde_json::Value;

use crate::{path, read, succeed};

const METRICS: &str = include_str!("../../goldens/metrics.txt");

/// What the library tells of each process that has metrics, which the golden file leaves out: it varies.
const OF_PROCESS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// What Prometheus, or how it is told to scrape, adds to each series.
const TARGET_LABELS: [&str; 3] = ["instance", "job", "node"];

/// Series of a metric: the values of each label.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Every metric that there can be: what the tracer tells, what rules make of it, and `up`.
fn metrics() -> BTreeMap<String, Labels> {
    let mut metrics: BTreeMap<String, Labels> = BTreeMap::new();
    let label = Regex::new(r#"([a-z_]+)="([^"]*)""#).expect("it is one");
    for line in METRICS.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = metrics.entry(name.to_owned()).or_default();
        for found in label.captures_iter(labels) {
            let values = known.entry(found[1].to_owned()).or_default();
            values.insert(found[2].to_owned());
        }
    }
    for name in OF_PROCESS {
        metrics.insert(name.to_owned(), Labels::new());
    }
    for name in ["up", "ALERTS"] {
        metrics.insert(name.to_owned(), Labels::new());
    }
    for (name, query) in rules("prometheus/rules.yaml", "record") {
        // A recorded series has at most the labels of what it is made of.
        let labels = named(&query).flat_map(|name| metrics.get(&name).cloned().unwrap_or_default());
        let labels = labels.collect();
        metrics.insert(name, labels);
    }
    metrics
}

/// The rules of a file that have this key: its value and the query.
fn rules(name: &str, key: &str) -> Vec<(String, String)> {
    let file: Value = serde_yaml_ng::from_str(&read(name)).expect("it is YAML");
    let groups = file["groups"].as_array().expect("it has groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    let told = |rule: Value, key: &str| rule[key].as_str().map(str::to_owned);
    rules
        .filter_map(|rule| Some((told(rule.clone(), key)?, told(rule, "expr")?)))
        .collect()
}

/// Every query of the dashboard with its panel, and Grafana's variables replaced as it would.
fn dashboard() -> Vec<(String, String)> {
    let file: Value = serde_json::from_str(&read("grafana/tracer.json")).expect("it is JSON");
    let mut queries = Vec::new();
    for panel in file["panels"].as_array().expect("it has panels") {
        let title = panel["title"].as_str().expect("a panel has a title");
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        assert_eq!(targets.is_empty(), panel["type"] == "row", "{title}");
        for target in targets {
            let query = target["expr"].as_str().expect("a target has a query");
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$__interval", "1m");
            queries.push((title.to_owned(), query.replace("$instance", ".*")));
        }
    }
    queries
}

fn all_queries() -> Vec<(String, String)> {
    let mut queries = dashboard();
    queries.extend(rules("prometheus/rules.yaml", "record"));
    queries.extend(rules("prometheus/alerts.yaml", "alert"));
    queries
}

/// The names of the metrics in a query.
fn named(query: &str) -> impl Iterator<Item = String> {
    let name = Regex::new(r"\b(?:tracer|process)[_:][a-z0-9_:]+|\bup\b").expect("it is one");
    // Not what stands in matchers.
    let matchers = Regex::new(r"\{[^}]*\}").expect("it is one");
    let bare = matchers.replace_all(query, "").into_owned();
    let found: Vec<_> = name
        .find_iter(&bare)
        .map(|found| found.as_str().to_owned())
        .collect();
    found.into_iter()
}

/// What a query asks for that is not told, each in words.
fn unknown(query: &str, metrics: &BTreeMap<String, Labels>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut labels = Labels::new();
    for name in named(query) {
        match metrics.get(&name) {
            Some(of_metric) => labels.extend(of_metric.clone()),
            None => unknown.push(format!("metric {name}")),
        }
    }
    let is_label = |label: &str| labels.contains_key(label) || TARGET_LABELS.contains(&label);
    let matcher = Regex::new(r#"([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)""#).expect("it is one");
    for found in matcher.captures_iter(query) {
        let (label, operator, value) = (&found[1], &found[2], &found[3]);
        if !is_label(label) {
            unknown.push(format!("label {label}"));
        }
        let of_label = labels.get(label);
        let is_told = |value: &str| of_label.is_none_or(|values| values.contains(value));
        let is_plain = !value.contains(['.', '*', '+']);
        let mut wanted: Vec<&str> = value.split('|').collect();
        if matches!(operator, "=" | "!=") {
            wanted = vec![value];
        }
        if is_plain && !wanted.iter().all(|value| is_told(value)) {
            unknown.push(format!("{label}={value}"));
        }
    }
    let grouping = Regex::new(r"\b(?:by|without)\s*\(([^)]*)\)").expect("it is one");
    for found in grouping.captures_iter(query) {
        let labels = found[1]
            .split(',')
            .map(str::trim)
            .filter(|label| *label != "le");
        unknown.extend(
            labels
                .filter(|label| !is_label(label))
                .map(|label| format!("label {label}")),
        );
    }
    unknown
}

#[test]
fn each_query_asks_for_what_is_told() {
    let metrics = metrics();
    let queries = all_queries();
    assert!(queries.len() > 30, "{}", queries.len());
    for (place, query) in queries {
        let asked = named(&query).count();
        assert!(asked > 0, "«{place}» asks for nothing of ours: {query}");
        let unknown = unknown(&query, &metrics);
        assert!(unknown.is_empty(), "«{place}»: {unknown:?} in {query}");
    }
}

#[test]
fn what_is_not_told_is_found() {
    let metrics = metrics();
    for (query, expected) in [
        (
            "rate(tracer_connection_total[5m])",
            "metric tracer_connection_total",
        ),
        (r#"tracer_connections_active{way="egress"}"#, "label way"),
        (
            r#"tracer_connections_active{direction="out"}"#,
            "direction=out",
        ),
        ("sum by (pid) (tracer_listeners_active)", "label pid"),
        (
            "tracer:connections_failed:rate5m > 1",
            "metric tracer:connections_failed:rate5m",
        ),
    ] {
        assert_eq!(unknown(query, &metrics), [expected]);
    }
}

#[test]
fn promtool_takes_the_rules_and_each_query_of_the_dashboard() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("dashboard.json");
    let rules: Vec<Value> = dashboard()
        .iter()
        .enumerate()
        .map(|(number, (_, query))| {
            let record = format!("dashboard:query:{number}");
            serde_json::json!({"record": record, "expr": query})
        })
        .collect();
    // JSON is YAML.
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, groups.to_string()).expect("the directory is ours");
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "rules"])
        .arg(path("prometheus/rules.yaml"));
    let said = succeed(promtool.arg(path("prometheus/alerts.yaml")).arg(&file));
    assert!(
        said.contains(&format!("{} rules found", rules.len())),
        "{said}"
    );
}

#[test]
fn each_alert_is_raised_when_it_should_be() {
    let tests = read("prometheus/tests.yaml");
    for (alert, _) in rules("prometheus/alerts.yaml", "alert") {
        let test = format!("alertname: {alert}\n");
        assert!(tests.contains(&test), "no test of {alert}");
    }
    let mut promtool = Command::new("promtool");
    let said = succeed(
        promtool
            .args(["test", "rules"])
            .arg(path("prometheus/tests.yaml")),
    );
    assert!(said.contains("SUCCESS"), "{said}");
}
