//! `port_scan`: one lineage that tries one port of many hosts, or many ports of one, and mostly fails.
//!
//! In: connections and attempts. Out: a finding with what was tried, and how it went.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashlink::LruCache;

use super::finding::{Finding, Sentence};
use super::places::is_local;
use super::rule::{Rule, Severity};
use super::{Detector, Scene, settings};
use crate::event::{BootTime, Errno};
use crate::observation::{Connection, ConnectionId, Direction, Fact};
use crate::output::action::{Action, ActionSet};
use crate::process::fingerprint::Fingerprint;
use crate::quantity;

pub(super) static RULE: Rule = Rule {
    id: "port_scan",
    name: "Port scan",
    description: "A program tries the same port of many hosts, or many ports of one host, and most attempts fail: it looks for \
                  something to talk to, as worms, intruders and peer-to-peer programs do.",
    techniques: &["T1046"],
    method: "Of one lineage (by fingerprint) the latest 128 targets since its first failure are known. A target that failed (refused, timed out, \
             reset, unreachable) counts four, one that was given up two, one that answered one. It is a scan if \
             at least 5 failed, twice as many as answered, and the points are four for each of 8 hosts (one port) or \
             of 10 ports (one host) within a minute, or for each of 24 within an hour. Attempts for which there is no route, and \
             those within this host, do not count.",
};

/// Lineages that tried something of late.
const LINEAGES_MAX: usize = 1024;
/// The latest targets of a lineage.
const TARGETS_MAX: usize = 128;
/// So many must have failed.
const FAILED_MIN: usize = 5;

/// `ENETUNREACH`, `EADDRNOTAVAIL`, `EACCES`, `EPERM`: nothing was sent.
const UNSENT: [Errno; 4] = [Errno(101), Errno(99), Errno(13), Errno(1)];
/// `ECANCELED`.
const GIVEN_UP: Errno = Errno(125);

/// How an attempt went, by what it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Answered = 1,
    GivenUp = 2,
    Failed = 4,
}

struct Target {
    host: IpAddr,
    port: u16,
    time: BootTime,
    answer: Answer,
    connection: ConnectionId,
}

pub(super) struct Scans {
    settings: settings::PortScan,
    lineages: LruCache<Fingerprint, VecDeque<Target>, foldhash::fast::FixedState>,
    evictions: u64,
}

/// What is the same of all targets.
#[derive(Clone, Copy)]
enum Common {
    Port(u16),
    Host(IpAddr),
}

/// What a lineage tried within a time.
struct Tried<'a> {
    targets: Vec<&'a Target>,
    answered: usize,
    failed: usize,
}

impl Scans {
    pub(super) fn new(settings: &settings::PortScan) -> Self {
        Self {
            settings: settings.clone(),
            lineages: LruCache::with_hasher(LINEAGES_MAX, Default::default()),
            evictions: 0,
        }
    }

    /// Remembers a target: each once, with the latest answer. Of a lineage of which nothing has failed, nothing is.
    fn remember(&mut self, lineage: Fingerprint, target: Target) -> Option<&VecDeque<Target>> {
        if !self.lineages.contains_key(&lineage) {
            if target.answer == Answer::Answered {
                return None;
            }
            self.evictions += u64::from(self.lineages.len() == LINEAGES_MAX);
        }
        let targets = self.lineages.entry(lineage).or_insert_with(VecDeque::new);
        let is_same = |known: &Target| known.port == target.port && known.host == target.host;
        if let Some(place) = targets.iter().position(is_same) {
            targets.remove(place);
        } else if targets.len() == TARGETS_MAX {
            targets.pop_front();
        }
        targets.push_back(target);
        Some(targets)
    }
}

impl<'a> Tried<'a> {
    fn of(targets: &'a VecDeque<Target>, common: Common, now: BootTime, window_ns: u64) -> Self {
        let is_meant = |target: &&Target| {
            let is_common = match common {
                Common::Port(port) => target.port == port,
                Common::Host(host) => target.host == host,
            };
            is_common && now.since(target.time) <= window_ns
        };
        let targets: Vec<_> = targets.iter().filter(is_meant).collect();
        let answered = targets
            .iter()
            .filter(|target| target.answer == Answer::Answered)
            .count();
        Self {
            failed: targets.len() - answered,
            answered,
            targets,
        }
    }

    fn is_scan(&self, different: usize) -> bool {
        let points: usize = self
            .targets
            .iter()
            .map(|target| target.answer as usize)
            .sum();
        let points_min = different * Answer::Failed as usize;
        self.failed >= FAILED_MIN && self.failed >= 2 * self.answered && points >= points_min
    }

    fn explain(&self, name: &[u8], common: Common, now: BootTime) -> Sentence {
        let (count, failed) = (self.targets.len(), self.failed);
        let begun = self.targets.first().map_or(now, |target| target.time);
        let took = quantity::duration(now.since(begun));
        let text = Sentence::about(name);
        let text = match common {
            Common::Port(port) => text.and(format_args!(" tried port {port} of {count} hosts")),
            Common::Host(host) => text.and(format_args!(" tried {count} ports of {host}")),
        };
        text.and(format_args!(" within {took}, of which {failed} failed"))
    }
}

impl Detector for Scans {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE
            .with(Action::ConnectionOpened)
            .with(Action::ConnectionFailed)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let (Some(connection), Some(process), Some(answer)) = (
            scene.fact.connection(),
            scene.fact.process(),
            answer(scene.fact),
        ) else {
            return;
        };
        if connection.direction != Direction::Egress || is_local(&connection.endpoints) {
            return;
        }
        let now = scene.time;
        let (fast, slow) = (self.settings.window.ns(), self.settings.slow_window.ns());
        let [hosts, ports, slow_targets] = [
            self.settings.hosts,
            self.settings.ports,
            self.settings.slow_targets,
        ];
        let target = target(connection, now, answer);
        let commons = [Common::Port(target.port), Common::Host(target.host)];
        let targets = self.remember(process.fingerprint(), target);
        let Some(targets) = targets.filter(|_| answer != Answer::Answered) else {
            return;
        };
        let failed = targets
            .iter()
            .filter(|target| target.answer != Answer::Answered);
        if failed.take(FAILED_MIN).count() < FAILED_MIN {
            return;
        }
        for common in commons {
            let different = match common {
                Common::Port(_) => hosts,
                Common::Host(_) => ports,
            };
            let quick = Tried::of(targets, common, now, fast);
            let slow = Tried::of(targets, common, now, slow);
            let Some(tried) = [(quick, different), (slow, slow_targets)]
                .into_iter()
                .find_map(|(tried, different)| tried.is_scan(different).then_some(tried))
            else {
                continue;
            };
            let text = tried.explain(process.name.as_bytes(), common, now);
            let connections = tried.targets.iter().map(|target| target.connection);
            let finding = Finding::about(now, &RULE, Severity::Medium, process, text)
                .with(connection)
                .resting_on(connections, tried.targets.len() as u64);
            found.push(match common {
                Common::Port(port) => finding.on(port),
                Common::Host(host) => finding.on(host),
            });
        }
    }

    fn evictions(&self) -> u64 {
        self.evictions
    }
}

fn target(connection: &Connection, now: BootTime, answer: Answer) -> Target {
    let remote = connection.endpoints.remote;
    Target {
        host: remote.ip(),
        port: remote.port(),
        time: connection.opened_at.unwrap_or(now),
        answer,
        connection: connection.id,
    }
}

/// How an attempt went, if anything was sent.
fn answer(fact: &Fact<'_>) -> Option<Answer> {
    match fact {
        Fact::ConnectionFailed { errno, .. } => match errno {
            Some(errno) if UNSENT.contains(errno) => None,
            Some(GIVEN_UP) => Some(Answer::GivenUp),
            _ => Some(Answer::Failed),
        },
        _ => Some(Answer::Answered),
    }
}
