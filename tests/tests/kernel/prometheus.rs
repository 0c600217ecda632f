//! Debian's Prometheus scrapes the tracer; it decides what a metrics page is.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::command::{self, Owned};
use tests::lines::Lines;
use tests::loopback::{self, free_address};
use tests::suite::Fact;
use tests::{facts, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        prometheus_scrapes_the_metrics,
        prometheus_takes_the_rules_and_raises_an_alert,
    ]
}

fn prometheus_scrapes_the_metrics() {
    let prometheus = Prometheus::scraping(common::run(|tracer| tracer.metrics()));
    let scraped = wait::within(wait::DEADLINE, || {
        let up = prometheus.query("up")? == "1";
        let build = prometheus.query("tracer_build_info")? == "1";
        (up && build).then_some(())
    });
    assert!(
        scraped.is_some(),
        "the tracer is not scraped:\n{}",
        prometheus.log.text()
    );
}

/// More new listeners than the alert on them bears.
const LISTENERS: usize = 30;

fn prometheus_takes_the_rules_and_raises_an_alert() {
    let prometheus = Prometheus::scraping(common::run(|tracer| tracer.metrics()));
    // What was there before the first scrape is no increase.
    common::observe(|| drop(loopback::listener()));
    let listeners = "tracer_events_total{action=\"listen_opened\"}";
    wait::until("the first scrape", || prometheus.query(listeners));
    common::observe(|| {
        for _ in 0..LISTENERS {
            drop(loopback::listener());
        }
    });
    let raised = wait::within(wait::DEADLINE, || {
        let of_alert = "ALERTS{alertname=\"NewListeners\",alertstate=\"firing\"}";
        prometheus.query(of_alert)
    });
    assert!(raised.is_some(), "no alert:\n{}", prometheus.log.text());
    let groups = prometheus.ask("rules", "").expect("it answers");
    let groups = groups.pointer("/data/groups").and_then(Value::as_array);
    let rules = groups.expect("it has groups").iter();
    let rules = rules.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    let failed: Vec<_> = rules.filter(|rule| rule["health"] == "err").collect();
    assert_eq!(failed, Vec::<Value>::new());
}

/// A running Prometheus.
struct Prometheus {
    _process: Owned,
    _directory: TempDir,
    address: SocketAddr,
    log: Lines,
}

impl Prometheus {
    /// One that scrapes `target` each second, and evaluates the rules as often.
    fn scraping(target: SocketAddr) -> Prometheus {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [configuration, data] =
            ["prometheus.yml", "data"].map(|name| directory.path().join(name));
        let job = format!("{{job_name: tracer, static_configs: [{{targets: ['{target}']}}]}}");
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
        let files = format!("['{rules}/rules.yaml', '{rules}/alerts.yaml']");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: {files}\nscrape_configs: [{job}]\n"
        );
        fs::write(&configuration, text).expect("the directory is writable");
        let address = free_address();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Owned::spawn(command.stderr(Stdio::piped()));
        let log = Lines::drain(process.stderr.take().expect("stderr is a pipe"));
        Prometheus {
            _process: process,
            _directory: directory,
            address,
            log,
        }
    }

    /// The value of the first series of a query, once there is one.
    fn query(&self, query: &str) -> Option<String> {
        let answer = self.ask("query", &format!("query={query}"))?;
        Some(
            answer
                .pointer("/data/result/0/value/1")?
                .as_str()?
                .to_owned(),
        )
    }

    /// What its interface says, once it says anything.
    fn ask(&self, subject: &str, parameter: &str) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--get", "--data-urlencode", parameter]);
        curl.arg(format!("http://{}/api/v1/{subject}", self.address));
        let said = command::run(curl.stdout(Stdio::piped())).stdout;
        serde_json::from_str(&said).ok()
    }
}
