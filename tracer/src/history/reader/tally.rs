//! How much each process talked: connections added up, without making an item of each of them.
//!
//! In: a window. Out: sums, by process and contact.

use hashbrown::HashMap;
use rusqlite::{Connection, Result};

use super::file::HistoryFile;
use super::rows::Span;

/// Connections of one process.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// How many there were in the window.
    pub connections: u64,
    /// How many of them no connection came of.
    pub failed: u64,
    /// How many of them are open, as far as is known.
    pub open: u64,
    /// Payload, in bytes, of those that have ended.
    pub sent: u64,
    /// Likewise.
    pub received: u64,
    /// When the first one was first seen, in the file's times.
    pub first: i64,
    /// When the last one ended; in the file's times.
    pub last: i64,
}

impl Sum {
    /// Nothing yet.
    pub const NONE: Self = Self {
        connections: 0,
        failed: 0,
        open: 0,
        sent: 0,
        received: 0,
        first: i64::MAX,
        last: i64::MIN,
    };

    /// Adds another one, whose times are `shift` later.
    pub fn add(&mut self, other: &Self, shift: i64) {
        self.connections += other.connections;
        self.failed += other.failed;
        self.open += other.open;
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.first = self.first.min(other.first.saturating_add(shift));
        self.last = self.last.max(other.last.saturating_add(shift));
    }
}

/// By process and by a part of the contact.
pub(super) type Sums = HashMap<Key, Sum, foldhash::fast::RandomState>;

/// Rows of the file, in one number, which is hashed faster than two: a file has far fewer than 2³² of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    fn new(process: Option<i64>, counted: i64) -> Self {
        let process = process.unwrap_or_default().cast_unsigned();
        Self(process << 32 | counted.cast_unsigned() & u64::from(u32::MAX))
    }

    /// The process's row.
    pub(super) fn process(self) -> Option<i64> {
        let row = (self.0 >> 32).cast_signed();
        (row != 0).then_some(row)
    }

    /// That of what else counts.
    pub(super) fn counted(self) -> i64 {
        (self.0 & u64::from(u32::MAX)).cast_signed()
    }
}

/// Which part of a contact counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: the result has rows of contacts.
    Whole,
    /// With whom: the result has rows of strings.
    Remote,
}

/// Adds up the connections that were there in the span.
pub(super) fn tally(file: &HistoryFile, span: Span, is_last: bool, part: Part) -> Result<Sums> {
    let mut sums = Sums::default();
    let older = span.older("");
    let database = &file.database;
    let failed = failed(database)?;
    let remotes = match part {
        Part::Whole => None,
        Part::Remote => Some(remotes(database)?),
    };
    let counted = |contact: i64| match &remotes {
        None => contact,
        Some(remotes) => usize::try_from(contact)
            .ok()
            .and_then(|contact| remotes.get(contact).copied())
            .unwrap_or_default(),
    };
    let mut select = database.prepare_cached(&format!(
        "SELECT ended, contact, process, age, sent, received, ending FROM connection
         WHERE {older} ended >= ?1 AND ended - age <= ?2"
    ))?;
    let mut rows = select.query([span.since, span.until])?;
    while let Some(row) = rows.next()? {
        let ended: i64 = row.get(0)?;
        let bytes = |column| -> Result<u64> {
            let bytes: Option<i64> = row.get(column)?;
            Ok(bytes.unwrap_or_default().cast_unsigned())
        };
        let ending: i64 = row.get(6)?;
        let one = Sum {
            connections: 1,
            failed: failed.contains(&ending).into(),
            open: 0,
            sent: bytes(4)?,
            received: bytes(5)?,
            first: ended - row.get::<_, i64>(3)?,
            last: ended,
        };
        let key = Key::new(row.get(2)?, counted(row.get(1)?));
        sums.entry(key).or_insert(Sum::NONE).add(&one, 0);
    }
    if is_last {
        let mut select = database.prepare_cached(
            "SELECT process, contact, first_seen FROM open WHERE first_seen <= ?1",
        )?;
        let mut rows = select.query([span.until])?;
        while let Some(row) = rows.next()? {
            let first = row.get(2)?;
            let one = Sum {
                connections: 1,
                open: 1,
                first,
                last: first,
                ..Sum::NONE
            };
            let key = Key::new(row.get(0)?, counted(row.get(1)?));
            sums.entry(key).or_insert(Sum::NONE).add(&one, 0);
        }
    }
    Ok(sums)
}

/// Endings of connections that nothing came of.
fn failed(database: &Connection) -> Result<Vec<i64>> {
    let mut select = database.prepare_cached("SELECT id FROM ending WHERE failed")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// The address that each contact is with.
fn remotes(database: &Connection) -> Result<Vec<i64>> {
    let mut remotes = Vec::new();
    let mut select = database.prepare_cached("SELECT id, remote FROM contact ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id: usize = row.get::<_, i64>(0)?.try_into().unwrap_or_default();
        // Rows are numbered from 1 on, without gaps.
        remotes.resize(id.max(remotes.len()), 0);
        remotes.push(row.get(1)?);
    }
    Ok(remotes)
}
