//! What a detector concludes, and what becomes of it.

use std::fmt::{Display, Write as _};
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use super::rule::{Rule, Severity};
use crate::event::{BootTime, ProcessKey};
use crate::observation::{Connection, ConnectionId};
use crate::process::image::Image;

/// How many events a detection names at most.
pub const EVIDENCE_MAX: usize = 16;

/// What a detection rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A connection, a listener or a flow.
    Connection(ConnectionId),
    /// A process; and whether its start is known only in ticks.
    Process(ProcessKey, bool),
}

/// A rule matched.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Which.
    pub rule: &'static Rule,
    /// How grave.
    pub severity: Severity,
    /// Why, in one sentence with the numbers that led to it. Names in it are anyone's to choose.
    pub explanation: String,
    /// The events that it rests on, [`EVIDENCE_MAX`] at most.
    pub evidence: Vec<Evidence>,
    /// How many there are with those that are not named.
    pub evidence_total: u64,
}

/// What a detector has found, before anyone asked whether it is to be told.
#[derive(Debug)]
pub(super) struct Finding {
    /// When it was clear.
    pub(super) time: BootTime,
    /// What.
    pub(super) detection: Detection,
    /// Whom it is about.
    pub(super) process: Option<Arc<Image>>,
    /// The contact that made it clear, if it was one.
    pub(super) connection: Option<Connection>,
    /// About what it is beside the lineage: the same is told once.
    pub(super) subject: u64,
}

impl Finding {
    /// About `process`; its evidence is the process alone.
    pub(super) fn about(
        time: BootTime,
        rule: &'static Rule,
        severity: Severity,
        process: &Arc<Image>,
        explanation: Sentence,
    ) -> Self {
        let evidence = vec![Evidence::Process(process.key, process.key_rounded)];
        Self {
            time,
            detection: Detection {
                rule,
                severity,
                explanation: explanation.0,
                evidence_total: evidence.len() as u64,
                evidence,
            },
            process: Some(Arc::clone(process)),
            connection: None,
            subject: 0,
        }
    }

    /// The same, with the contact that made it clear.
    #[must_use]
    pub(super) fn with(mut self, connection: &Connection) -> Self {
        self.detection
            .evidence
            .push(Evidence::Connection(connection.id));
        self.detection.evidence_total += 1;
        self.connection = Some(connection.clone());
        self
    }

    /// The same, resting on these connections.
    #[must_use]
    pub(super) fn resting_on(
        mut self,
        connections: impl IntoIterator<Item = ConnectionId>,
        total: u64,
    ) -> Self {
        let connections = connections.into_iter().map(Evidence::Connection);
        self.detection.evidence = connections.take(EVIDENCE_MAX).collect();
        self.detection.evidence_total = total;
        self
    }

    /// The same, about something beside the lineage.
    #[must_use]
    pub(super) fn on(mut self, subject: impl Hash) -> Self {
        self.subject = hash(subject);
        self
    }
}

/// A sentence in the making.
pub(super) struct Sentence(String);

impl Sentence {
    /// Begins with a name: one that is not UTF-8 has `\xHH` in place of its bytes.
    pub(super) fn about(name: &[u8]) -> Self {
        Self(String::new()).name(name)
    }

    /// Goes on with a name.
    #[must_use]
    pub(super) fn name(mut self, name: &[u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(name) => self.0.push_str(name),
            Err(_) => self.0.extend(name.escape_ascii().map(char::from)),
        }
        self
    }

    /// Goes on with words of ours.
    #[must_use]
    pub(super) fn and(mut self, words: impl Display) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{words}");
        self
    }
}

/// The same in every run, so that a file replays to the same detections.
pub(super) fn hash(subject: impl Hash) -> u64 {
    foldhash::quality::FixedState::with_seed(0).hash_one(subject)
}
