//! What a report adds up: who talked with whom, which names were asked for, what was lost.
//!
//! In: items. Out: rows, the largest first, of which there are never more than fit.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::advice::Talk;
use super::story;
use crate::dns::record::{code_name, type_name};
use crate::event::{Endpoints, Protocol};
use crate::history::{Item, What};
use crate::observation::{Connection, Direction};
use crate::output::{names, past};

/// At most so many rows are added up.
const ROWS_MAX: usize = 20_000;
/// At most so many words are listed in a row.
const WORDS_MAX: usize = 6;

/// Rows by what they are about.
pub(super) struct Sums<K, V> {
    rows: HashMap<K, V>,
    /// How many items there was no room for.
    pub(super) omitted: u64,
}

impl<K, V> Default for Sums<K, V> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            omitted: 0,
        }
    }
}

impl<K: Eq + std::hash::Hash + Ord, V: Default> Sums<K, V> {
    fn row(&mut self, key: K) -> Option<&mut V> {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.omitted += 1;
            return None;
        }
        Some(self.rows.entry(key).or_default())
    }

    /// The rows, the largest first.
    pub(super) fn sorted(&self, size: impl Fn(&V) -> u64) -> Vec<(&K, &V)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|one, other| {
            let by_size = size(other.1).cmp(&size(one.1));
            by_size.then_with(|| one.0.cmp(other.0))
        });
        rows
    }
}

/// Some words, and whether there are more.
#[derive(Default)]
pub(super) struct Words {
    words: Vec<String>,
    more: bool,
}

impl Words {
    fn add(&mut self, word: String) {
        if self.words.contains(&word) {
            return;
        }
        if self.words.len() >= WORDS_MAX {
            self.more = true;
        } else {
            self.words.push(word);
        }
    }

    /// With commas between them.
    pub(super) fn list(&self) -> String {
        let more = if self.more { ", …" } else { "" };
        format!("{}{more}", self.words.join(", "))
    }
}

/// How much was talked between a program and a peer.
#[derive(Default)]
pub(super) struct Contact {
    /// How often.
    pub(super) count: u64,
    /// How often in vain.
    pub(super) failed: u64,
    /// Bytes that this host sent, as far as that is known.
    pub(super) sent: u64,
    /// Bytes that this host received.
    pub(super) received: u64,
    /// When for the first and the last time, in nanoseconds since 1970.
    pub(super) seen: Option<(i64, i64)>,
    /// By which processes.
    pub(super) processes: Words,
    /// By which names its destination was asked for.
    pub(super) domains: Words,
    /// How it ended.
    pub(super) states: Words,
}

/// How often a name was asked for.
#[derive(Default)]
pub(super) struct Name {
    /// How often.
    pub(super) count: u64,
    /// When first, in nanoseconds since 1970.
    pub(super) first: Option<i64>,
    /// What servers said.
    pub(super) outcomes: Words,
    /// The addresses that they gave.
    pub(super) addresses: Words,
    /// Who asked.
    pub(super) processes: Words,
}

/// How much was lost of something.
#[derive(Default)]
pub(super) struct Lost {
    /// In its unit.
    pub(super) count: u64,
    /// When for the first and the last time, in nanoseconds since 1970.
    pub(super) seen: Option<(i64, i64)>,
}

/// Everything that is added up.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) contacts: Sums<Talk, Contact>,
    pub(super) names: Sums<(String, String), Name>,
    pub(super) lost: Sums<(String, String, String), Lost>,
    /// Lines of the evidence.
    pub(super) events: u64,
    pub(super) connections: u64,
    pub(super) failed: u64,
    pub(super) open: u64,
    pub(super) flows: u64,
    pub(super) executed: u64,
    pub(super) lookups: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Connections and flows by how their owner is known.
    pub(super) known: [u64; 4],
}

impl Totals {
    /// Adds an item that `began`, and was over or told `at`, in nanoseconds since 1970.
    pub(super) fn add(&mut self, item: &Item, began: i64, at: i64) {
        self.events += 1;
        match &item.what {
            What::Executed => self.executed += 1,
            What::Lookup(..) => self.name(item, began),
            What::Lost(loss) => {
                let unit = names::loss_unit(loss.unit).to_owned();
                let key = (loss.stage.to_owned(), loss.kind.to_owned(), unit);
                if let Some(lost) = self.lost.row(key) {
                    lost.count = lost.count.saturating_add(loss.count);
                    lost.seen = Some(seen(lost.seen, at));
                }
            }
            What::Opened(connection) | What::Ended(connection, _) | What::Flow(connection, ..) => {
                self.contact(item, connection, (began, at));
            }
            _ => {}
        }
    }

    fn contact(&mut self, item: &Item, connection: &Connection, (began, at): (i64, i64)) {
        let (sent, received) = past::carried(item).unwrap_or_default();
        let failed = matches!(&item.what, What::Ended(_, end) if end.failed);
        match item.what {
            What::Flow(..) => self.flows += 1,
            What::Opened(_) => self.open += 1,
            _ => self.connections += 1,
        }
        self.failed += u64::from(failed);
        self.sent = self.sent.saturating_add(sent);
        self.received = self.received.saturating_add(received);
        self.known[connection.owner_provenance as usize] += 1;
        let Some(contact) = self.contacts.row(talk(connection)) else {
            return;
        };
        contact.count += 1;
        contact.failed += u64::from(failed);
        contact.sent = contact.sent.saturating_add(sent);
        contact.received = contact.received.saturating_add(received);
        let since_began = seen(contact.seen, began);
        contact.seen = Some(seen(Some(since_began), at));
        let process = item.process.as_deref();
        contact
            .processes
            .add(process.map_or_else(|| "?".to_owned(), story::name));
        if let Some(domain) = &connection.domain {
            contact.domains.add(story::domain(domain));
        }
        let state = past::state(item);
        if !state.is_empty() {
            contact.states.add(state);
        }
    }

    fn name(&mut self, item: &Item, at: i64) {
        self.lookups += 1;
        let What::Lookup(lookup, _) = &item.what else {
            return;
        };
        let kind = type_name(lookup.question.kind).into_owned();
        let Some(name) = self.names.row((lookup.question.name.to_string(), kind)) else {
            return;
        };
        name.count += 1;
        name.first = Some(name.first.map_or(at, |first| first.min(at)));
        let outcome = lookup.answer().map(|answer| code_name(answer.code));
        name.outcomes
            .add(outcome.map_or_else(|| "no answer".to_owned(), Cow::into_owned));
        for address in lookup.addresses() {
            name.addresses.add(address.to_string());
        }
        let process = item.process.as_deref();
        name.processes
            .add(process.map_or_else(|| "?".to_owned(), story::name));
    }

    /// Peers that one might want to watch or to block, those most talked with first; this host itself only if there
    /// is nobody else.
    pub(super) fn peers(&self, limit: usize) -> Vec<Talk> {
        let rows = self.contacts.sorted(|contact| contact.count);
        let peers = rows.into_iter().map(|(talk, _)| *talk);
        let (own, others): (Vec<Talk>, Vec<Talk>) = peers
            .filter(|talk| !talk.peer.is_unspecified())
            .partition(|talk| talk.peer.is_loopback());
        let peers = if others.is_empty() { own } else { others };
        peers.into_iter().take(limit).collect()
    }
}

/// Which contact a connection or a flow belongs to.
fn talk(connection: &Connection) -> Talk {
    let Endpoints { local, remote, .. } = connection.endpoints;
    let acceptor = match connection.direction {
        Direction::Ingress => local,
        _ => remote,
    };
    let protocol: Protocol = connection.protocol;
    Talk::new(
        remote.ip(),
        protocol,
        Some(acceptor.port()),
        connection.direction,
    )
}

fn seen(seen: Option<(i64, i64)>, at: i64) -> (i64, i64) {
    seen.map_or((at, at), |(first, last)| (first.min(at), last.max(at)))
}
