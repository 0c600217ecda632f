//! How examinations of executed files end.
//!
//! In: an outcome each. Out: how many there were of each, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::found::Missing;

/// How an examination ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The hash is known.
    Known,
    /// The file is larger than the limit: all but the hash is known.
    TooLarge,
    /// The process had ended, and the file could not be found by its path.
    Gone,
    /// What was found is, or may be, another content than the one that was executed.
    Changed,
    /// The file could not be read.
    Unreadable,
    /// The file lies where another host or process serves it: what is read need not be what ran.
    Remote,
    /// It was not examined, since too many others waited.
    Shed,
}

impl Outcome {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Known,
        Self::TooLarge,
        Self::Gone,
        Self::Changed,
        Self::Unreadable,
        Self::Remote,
        Self::Shed,
    ];

    /// As the metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::TooLarge => "too_large",
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
            Self::Remote => "remote",
            Self::Shed => "shed",
        }
    }
}

impl From<Missing> for Outcome {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Gone => Self::Gone,
            Missing::Changed => Self::Changed,
            Missing::Unreadable => Self::Unreadable,
            Missing::Remote => Self::Remote,
        }
    }
}

/// How many examinations ended how.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Outcome::ALL.len()]);

impl Counts {
    pub(super) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many ended so, since the start.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}
