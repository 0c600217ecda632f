//! What detections are wanted, and which are not: the table `detect` of the configuration.
//!
//! In: TOML. Out: settings, each value checked. Whatever is left out has its default.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

pub use super::allow::Allow;
use super::finding::Finding;
use super::rule::Rule;
use super::{RULES, rule};
use crate::cli::parse_duration;

/// The table `detect`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether there are detections at all.
    pub enabled: bool,
    /// Rules that are off, by ID.
    pub off: Vec<String>,
    /// After which time the same is told again of the same lineage.
    pub again_after: Span,
    /// What nobody wants to hear of.
    pub allow: Vec<Allow>,
    /// Whether to allow, beside these, [what is usual](usual).
    pub allow_usual: bool,
    /// Of the rule of this name.
    pub beacon: Beacon,
    /// Of the rule of this name.
    pub miner_like: MinerLike,
    /// Of the rule of this name.
    pub port_scan: PortScan,
}

/// Settings of `beacon`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beacon {
    /// From how many contacts on it is judged.
    pub min_contacts: u32,
    /// Shorter periods are those of busy programs.
    pub min_period: Span,
}

/// Settings of `miner_like`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinerLike {
    /// How long a connection to one of the ports has to last.
    pub min_age: Span,
}

/// Settings of `port_scan`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortScan {
    /// Hosts with the same port that are a scan within `window`.
    pub hosts: usize,
    /// Ports of the same host that are a scan within `window`.
    pub ports: usize,
    /// In which time.
    pub window: Span,
    /// Hosts or ports that are a scan within `slow_window`.
    pub slow_targets: usize,
    /// In which time.
    pub slow_window: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            off: Vec::new(),
            again_after: Span::seconds(24 * 3600),
            allow: Vec::new(),
            allow_usual: true,
            beacon: Beacon::default(),
            miner_like: MinerLike::default(),
            port_scan: PortScan::default(),
        }
    }
}

impl Default for Beacon {
    fn default() -> Self {
        Self {
            min_contacts: 8,
            min_period: Span::seconds(5),
        }
    }
}

impl Default for MinerLike {
    fn default() -> Self {
        Self {
            min_age: Span::seconds(600),
        }
    }
}

impl Default for PortScan {
    fn default() -> Self {
        Self {
            hosts: 8,
            ports: 10,
            window: Span::seconds(60),
            slow_targets: 24,
            slow_window: Span::seconds(3600),
        }
    }
}

/// Agents that contact the same peers by the clock because that is what they are for: allowed where their package
/// brought them.
const USUAL: [(&str, &[&str]); 3] = [
    (
        "time synchronisation",
        &["chrony", "ntp", "ntpsec", "systemd-timesyncd", "openntpd"],
    ),
    (
        "monitoring",
        &[
            "prometheus",
            "prometheus-blackbox-exporter",
            "prometheus-pushgateway",
            "telegraf",
            "zabbix-agent",
            "zabbix-agent2",
            "collectd",
            "nagios-nrpe-server",
            "datadog-agent",
            "otelcol",
            "vector",
            "fluent-bit",
        ],
    ),
    (
        "orchestration and load balancing",
        &[
            "kubelet",
            "keepalived",
            "haproxy",
            "consul",
            "etcd-server",
            "corosync",
        ],
    ),
];

/// What is allowed unless `allow_usual` is false.
pub fn usual() -> Vec<Allow> {
    let allow = |(reason, packages): (&str, &[&str])| Allow {
        reason: reason.to_owned(),
        rules: vec!["beacon".to_owned()],
        packages: packages.iter().map(|&name| name.to_owned()).collect(),
        ..Allow::default()
    };
    USUAL.map(allow).into()
}

impl Settings {
    /// Those of a configuration, each value checked.
    pub fn check(mut self) -> Result<Self, String> {
        let known = || RULES.map(|rule| rule.id).join(", ");
        let named = self.allow.iter().flat_map(|allow| &allow.rules);
        if let Some(id) = self.off.iter().chain(named).find(|id| rule(id).is_none()) {
            return Err(format!("no rule {id:?}; there are {}", known()));
        }
        if let Some(allow) = self.allow.iter().find(|allow| allow.is_unconditional()) {
            return Err(format!(
                "detect.allow {:?} has no condition: to switch a rule off, put it into detect.off",
                allow.reason
            ));
        }
        if self.beacon.min_contacts < 4 {
            return Err(
                "detect.beacon.min_contacts is below 4: three contacts prove nothing".into(),
            );
        }
        let PortScan {
            hosts,
            ports,
            slow_targets,
            ..
        } = self.port_scan;
        if [hosts, ports, slow_targets]
            .iter()
            .any(|&count| !(2..=128).contains(&count))
        {
            return Err("detect.port_scan: hosts, ports and slow_targets are from 2 to 128".into());
        }
        if self.allow_usual {
            self.allow.extend(usual());
        }
        Ok(self)
    }

    /// Whether a rule is on.
    pub fn is_enabled(&self, rule: &Rule) -> bool {
        self.enabled && !self.off.iter().any(|id| id == rule.id)
    }

    pub(super) fn again_after_ns(&self) -> u64 {
        self.again_after.ns()
    }

    pub(super) fn allows(&self, finding: &Finding) -> bool {
        self.allow.iter().any(|allow| allow.allows(finding))
    }
}

/// A time, written as `30s`, `5m` or `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In nanoseconds.
    pub fn ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(de::Error::custom)
    }
}
