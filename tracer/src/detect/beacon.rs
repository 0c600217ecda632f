//! `beacon`: one lineage that contacts one peer by the clock, whatever its PID is this time.
//!
//! In: connections, attempts and flows that begin. Out: a finding with the period, once there are contacts enough, and now and then again. Of a pair
//! of lineage and peer that has met less than three times only the times are kept, so that a scan of a million peers
//! costs little.

mod regularity;

use std::time::Duration;

use arrayvec::ArrayVec;
use hashlink::LruCache;

use self::regularity::Regularity;
use super::finding::{Finding, Sentence, hash};
use super::places::is_local;
use super::rule::{Rule, Severity};
use super::{Detector, Scene, settings};
use crate::event::BootTime;
use crate::observation::{Connection, ConnectionId, Direction, Fact, FlowStage};
use crate::output::action::{Action, ActionSet};
use crate::process::image::Image;
use crate::quantity;

pub(super) static RULE: Rule = Rule {
    id: "beacon",
    name: "Regular contact",
    description: "A program, whatever its PID, contacts the same peer at regular intervals, as implants do that ask \
                  for orders, and agents that report.",
    techniques: &["T1071", "T1029"],
    method: "Contacts of one lineage (by fingerprint) with one peer (by the name that it asked for, else by address, and \
             by port) are regular if the median deviation of their intervals from the period is small (10 % of seven \
             intervals, 15 % of eighteen or more) and four of five intervals deviate by less than 17 % to 24 %; up to 35 % \
             of the contacts may be missing. Jitter up to 20 % is found surely, beyond 40 % hardly. Agents for \
             monitoring, time and updates are regular, too: allow them by program and peer. Contacts within this \
             host are not counted, nor what others begin.",
};

/// Pairs that met once or twice.
const CANDIDATES_MAX: usize = 1 << 16;
/// Pairs that met more often.
const PAIRS_MAX: usize = 1 << 16;
/// The latest intervals of a pair, and connections.
const INTERVALS_MAX: usize = 24;
const CONNECTIONS_MAX: usize = 8;

/// A lineage and a peer, as a hash of both.
type Pair = u64;

/// A pair that met once or twice.
#[derive(Clone, Copy)]
struct Candidate {
    first: BootTime,
    second: Option<BootTime>,
    connection: ConnectionId,
}

/// A pair that met more often.
struct Met {
    last: BootTime,
    contacts: u32,
    /// The latest, in milliseconds.
    intervals: ArrayVec<u32, INTERVALS_MAX>,
    /// The latest.
    connections: ArrayVec<ConnectionId, CONNECTIONS_MAX>,
}

pub(super) struct Beacons {
    contacts_min: u32,
    period_min: Duration,
    candidates: LruCache<Pair, Candidate, foldhash::fast::FixedState>,
    met: LruCache<Pair, Box<Met>, foldhash::fast::FixedState>,
    evictions: u64,
}

impl Beacons {
    pub(super) fn new(settings: &settings::Beacon) -> Self {
        Self {
            contacts_min: settings.min_contacts,
            period_min: settings.min_period.0,
            candidates: LruCache::with_hasher(CANDIDATES_MAX, Default::default()),
            met: LruCache::with_hasher(PAIRS_MAX, Default::default()),
            evictions: 0,
        }
    }

    /// The pair, once it has met often enough to be judged.
    fn contact(&mut self, pair: Pair, now: BootTime, connection: ConnectionId) -> Option<&Met> {
        let contacts_min = self.contacts_min;
        if let Some(met) = self.met.get_mut(&pair) {
            met.meet(now, connection);
        } else {
            let met = self.candidate(pair, now, connection)?;
            self.evictions += u64::from(self.met.len() == PAIRS_MAX);
            self.met.insert(pair, Box::new(met));
        }
        let met = self.met.peek(&pair)?;
        met.is_due(contacts_min).then_some(&**met)
    }

    /// What a pair becomes with its third contact.
    fn candidate(&mut self, pair: Pair, now: BootTime, connection: ConnectionId) -> Option<Met> {
        let Some(candidate) = self.candidates.get_mut(&pair) else {
            self.evictions += u64::from(self.candidates.len() == CANDIDATES_MAX);
            let candidate = Candidate {
                first: now,
                second: None,
                connection,
            };
            self.candidates.insert(pair, candidate);
            return None;
        };
        let Some(second) = candidate.second else {
            candidate.second = Some(now);
            return None;
        };
        let Candidate {
            first,
            connection: begun,
            ..
        } = *candidate;
        self.candidates.remove(&pair);
        let mut met = Met {
            last: first,
            contacts: 1,
            intervals: ArrayVec::new(),
            connections: ArrayVec::new(),
        };
        met.meet(second, begun);
        met.meet(now, connection);
        Some(met)
    }
}

impl Met {
    fn meet(&mut self, now: BootTime, connection: ConnectionId) {
        let interval = now.since(self.last) / 1_000_000;
        push(
            &mut self.intervals,
            u32::try_from(interval).unwrap_or(u32::MAX),
        );
        push(&mut self.connections, connection);
        self.last = now;
        self.contacts = self.contacts.saturating_add(1);
    }

    /// Whether it is worth a look: what was irregular a contact ago will hardly be regular now.
    fn is_due(&self, contacts_min: u32) -> bool {
        const CLOSELY: u32 = 4;
        const THEN_EVERY: u32 = 8;
        self.contacts >= contacts_min
            && (self.contacts < contacts_min + CLOSELY || self.contacts.is_multiple_of(THEN_EVERY))
    }

    /// Its regularity, if a timer made it.
    fn regularity(&self, period_min: Duration) -> Option<Regularity> {
        // No median is more than twice the mean.
        let sum: u64 = self
            .intervals
            .iter()
            .map(|&interval| u64::from(interval))
            .sum();
        if u128::from(2 * sum) < period_min.as_millis() * self.intervals.len() as u128 {
            return None;
        }
        let regularity = Regularity::of(&self.intervals);
        let is_slow = regularity.period_ms >= period_min.as_millis() as f64;
        (is_slow && regularity.is_timer(self.intervals.len())).then_some(regularity)
    }
}

/// Adds the latest, in place of the oldest if there is no room.
fn push<T, const N: usize>(latest: &mut ArrayVec<T, N>, value: T) {
    if latest.is_full() {
        latest.remove(0);
    }
    latest.push(value);
}

impl Detector for Beacons {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE
            .with(Action::ConnectionOpened)
            .with(Action::ConnectionFailed)
            .with(Action::DatagramFlow)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let begins = !matches!(
            scene.fact,
            Fact::DatagramFlow { stage, .. } if *stage != FlowStage::Start
        );
        let (Some(connection), Some(process)) = (scene.fact.connection(), scene.fact.process())
        else {
            return;
        };
        let remote = connection.endpoints.remote;
        if !begins || connection.direction != Direction::Egress || is_local(&connection.endpoints) {
            return;
        }
        let begun = connection.opened_at.unwrap_or(scene.time);
        let pair = pair(process, connection);
        let period_min = self.period_min;
        let Some(met) = self.contact(pair, begun, connection.id) else {
            return;
        };
        let Some(regularity) = met.regularity(period_min) else {
            return;
        };
        let severity = if is_packaged(process) {
            Severity::Low
        } else {
            Severity::Medium
        };
        let explanation = explain(process, connection, met, &regularity);
        let total = u64::from(met.contacts);
        let connections = met.connections.clone();
        let finding = Finding::about(scene.time, &RULE, severity, process, explanation)
            .with(connection)
            .resting_on(connections, total)
            .on((peer(connection), remote.port()));
        found.push(finding);
    }

    fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// The name that the process itself asked for, else the address.
fn peer(connection: &Connection) -> String {
    match &connection.domain {
        Some(domain) => domain.name.to_string(),
        None => connection.endpoints.remote.ip().to_string(),
    }
}

fn pair(process: &Image, connection: &Connection) -> Pair {
    let remote = connection.endpoints.remote;
    let name = connection.domain.as_ref().map(|domain| &*domain.name);
    let address = name.is_none().then(|| remote.ip());
    let protocol = connection.protocol;
    hash((
        process.fingerprint(),
        name,
        address,
        remote.port(),
        protocol,
    ))
}

fn is_packaged(process: &Image) -> bool {
    let facts = process.program.facts();
    facts.is_some_and(super::super::process::content::Facts::is_packaged)
}

fn explain(
    process: &Image,
    connection: &Connection,
    met: &Met,
    regularity: &Regularity,
) -> Sentence {
    let period = Duration::from_secs_f64(regularity.period_ms / 1000.0);
    Sentence::about(process.name.as_bytes()).and(format_args!(
        " contacted {}, port {}, {} times, every {}; deviation {:.0} % in the median, {:.0} % of the contacts missing; score {:.2}",
        peer(connection),
        connection.endpoints.remote.port(),
        met.contacts,
        quantity::duration(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)),
        regularity.deviation * 100.0,
        regularity.missing * 100.0,
        regularity.score(),
    ))
}

#[cfg(test)]
mod tests;
