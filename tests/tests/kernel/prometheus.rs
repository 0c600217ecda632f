//! Debian's Prometheus scrapes the tracer; it decides what a metrics page is.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::command::Owned;
use tests::lines::Lines;
use tests::loopback::free_address;
use tests::suite::Fact;
use tests::{facts, http, wait};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![prometheus_scrapes_the_metrics]
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

/// A running Prometheus.
struct Prometheus {
    _process: Owned,
    _directory: TempDir,
    address: SocketAddr,
    log: Lines,
}

impl Prometheus {
    /// One that scrapes `target` each second.
    fn scraping(target: SocketAddr) -> Prometheus {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [configuration, data] =
            ["prometheus.yml", "data"].map(|name| directory.path().join(name));
        let job = format!("{{job_name: tracer, static_configs: [{{targets: ['{target}']}}]}}");
        let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n");
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
    fn query(&self, name: &str) -> Option<String> {
        let response = http::get(self.address, &format!("/api/v1/query?query={name}")).ok()?;
        let answer: Value = serde_json::from_str(&response.body).ok()?;
        Some(
            answer
                .pointer("/data/result/0/value/1")?
                .as_str()?
                .to_owned(),
        )
    }
}
