//! `miner_like`: a connection that lasts, to a port or a name that mining pools use.
//!
//! In: connections that open and close, and the passing of time. Out: a finding for each that has lasted long enough, or
//! at once where the name says it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::finding::{Finding, Sentence};
use super::places::is_local;
use super::rule::{Rule, Severity};
use super::{Detector, Scene, settings};
use crate::event::BootTime;
use crate::observation::{Connection, ConnectionId, Direction, Fact};
use crate::output::action::{Action, ActionSet};
use crate::process::image::Image;
use crate::quantity;

pub(super) static RULE: Rule = Rule {
    id: "miner_like",
    name: "Connection to a mining pool",
    description: "A program keeps a connection to a port, or connects to a name, that pools for mining cryptocurrencies use.",
    techniques: &["T1496"],
    method: "The name that was asked for has a part that such pools have, or the port is one of Stratum's usual ones (3333, \
             4444, 5555, 7777, 14433, 14444, 45560, 45700) and the connection has lasted for ten minutes. Other services on these \
             ports look the same.",
};

/// Ports at which pools speak Stratum.
const PORTS: [u16; 8] = [3333, 4444, 5555, 7777, 14433, 14444, 45560, 45700];
/// What names of pools have in them.
const WORDS: [&str; 14] = [
    "minexmr",
    "supportxmr",
    "xmrpool",
    "moneroocean",
    "hashvault",
    "nanopool",
    "2miners",
    "f2pool",
    "ethermine",
    "nicehash",
    "minergate",
    "herominers",
    "unmineable",
    "stratum",
];
/// Connections that are waited for.
const WAITING_MAX: usize = 4096;

struct Waiting {
    since: BootTime,
    connection: Connection,
    process: Arc<Image>,
}

pub(super) struct Miners {
    age_min: u64,
    waiting: HashMap<ConnectionId, Waiting, foldhash::fast::FixedState>,
    evictions: u64,
}

impl Miners {
    pub(super) fn new(settings: &settings::MinerLike) -> Self {
        Self {
            age_min: settings.min_age.ns(),
            waiting: HashMap::default(),
            evictions: 0,
        }
    }

    fn opened(
        &mut self,
        time: BootTime,
        connection: &Connection,
        process: &Arc<Image>,
    ) -> Option<Finding> {
        let name = connection.domain.as_ref().map(|domain| &*domain.name);
        let says_it = |name: &&str| {
            let name = name.to_ascii_lowercase();
            WORDS.iter().any(|word| name.contains(word))
        };
        if let Some(name) = name.filter(says_it) {
            let text = Sentence::about(process.name.as_bytes()).and(format_args!(
                " connected to {name}, a name that mining pools have"
            ));
            let finding = Finding::about(time, &RULE, Severity::Medium, process, text);
            return Some(finding.with(connection).on(name));
        }
        if PORTS.contains(&connection.endpoints.remote.port()) {
            if self.waiting.len() == WAITING_MAX {
                self.evictions += 1;
                return None;
            }
            let waiting = Waiting {
                since: time,
                connection: connection.clone(),
                process: Arc::clone(process),
            };
            self.waiting.insert(connection.id, waiting);
        }
        None
    }
}

impl Detector for Miners {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE
            .with(Action::ConnectionOpened)
            .with(Action::ConnectionClosed)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        match scene.fact {
            &Fact::ConnectionOpened {
                connection,
                process: Some(process),
                ..
            } if connection.direction == Direction::Egress && !is_local(&connection.endpoints) => {
                found.extend(self.opened(scene.time, connection, process));
            }
            Fact::ConnectionClosed { connection, .. } if !self.waiting.is_empty() => {
                self.waiting.remove(&connection.id);
            }
            _ => {}
        }
    }

    fn advance(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        let age_min = self.age_min;
        let ripe = self
            .waiting
            .extract_if(|_, waiting| now.since(waiting.since) >= age_min);
        for (_, waiting) in ripe {
            let remote = waiting.connection.endpoints.remote;
            let age = quantity::duration(now.since(waiting.since));
            let text = Sentence::about(waiting.process.name.as_bytes()).and(format_args!(
                " has been connected to {remote} for {age}, a port that mining pools use"
            ));
            let finding = Finding::about(now, &RULE, Severity::Low, &waiting.process, text);
            found.push(finding.with(&waiting.connection).on(remote));
        }
    }

    fn evictions(&self) -> u64 {
        self.evictions
    }
}
