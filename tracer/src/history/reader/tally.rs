//! How much each process talked: connections added up, without making an item of each of them.
//!
//! In: a window. Out: sums by process, with the addresses that it talked to.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, Result};

use super::Wanted;
use super::file::HistoryFile;
use super::rows::{Referred, Span};
use crate::process::image::Image;

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

/// Who talked, how much, and with whom.
pub(super) type VisitSums<'a> = dyn FnMut(Option<Arc<Image>>, &Sum, &[IpAddr]) + 'a;

/// The rows of a process and of a contact in one number, which is compared and hashed faster than two: a file has
/// far fewer than 2³² of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair(i64);

impl Pair {
    /// As SQL makes it.
    const SQL: &str = "ifnull(process, 0) << 32 | contact";

    /// The process's row; 0 where it is not known.
    fn process(self) -> i64 {
        self.0 >> 32
    }

    fn contact(self) -> i64 {
        self.0 & i64::from(u32::MAX)
    }
}

/// For so many pairs there is room at first, so that it need not be made again and again.
const PAIRS: usize = 16_384;

/// Adds up the connections that were there in the span and are `wanted`, and hands on what each process did.
pub(super) fn tally(
    file: &mut HistoryFile,
    span: Span,
    is_last: bool,
    wanted: Option<&Wanted<'_>>,
    visit: &mut VisitSums<'_>,
) -> Result<()> {
    let database = &file.database;
    let mut tally = Tally {
        database,
        referred: &mut file.referred,
        wanted,
        sums: HashMap::default(),
        pairs: HashMap::with_capacity_and_hasher(PAIRS, Default::default()),
    };
    tally.ended(span)?;
    if is_last {
        tally.open(span)?;
    }
    tally.hand_on(visit)
}

/// What is known so far.
struct Tally<'a> {
    database: &'a Connection,
    referred: &'a mut Referred,
    wanted: Option<&'a Wanted<'a>>,
    /// By row of the process.
    sums: HashMap<i64, Sum, foldhash::fast::RandomState>,
    /// Whether connections of that process to that contact count.
    pairs: HashMap<Pair, bool, foldhash::fast::RandomState>,
}

impl Tally<'_> {
    /// Taking a column costs as much as finding its row: what can be is put together before.
    fn ended(&mut self, span: Span) -> Result<()> {
        let failed = failed(self.database)?;
        let (older, pair) = (span.older(""), Pair::SQL);
        let mut select = self.database.prepare_cached(&format!(
            "SELECT ended, ended - age, {pair}, ifnull(sent, 0), ifnull(received, 0), ending FROM connection
             WHERE {older} ended >= ?1 AND ended - age <= ?2"
        ))?;
        let mut rows = select.query([span.since, span.until])?;
        while let Some(row) = rows.next()? {
            let one = Sum {
                connections: 1,
                failed: failed.contains(&row.get(5)?).into(),
                open: 0,
                sent: row.get::<_, i64>(3)?.cast_unsigned(),
                received: row.get::<_, i64>(4)?.cast_unsigned(),
                first: row.get(1)?,
                last: row.get(0)?,
            };
            self.add(Pair(row.get(2)?), &one)?;
        }
        Ok(())
    }

    fn open(&mut self, span: Span) -> Result<()> {
        let pair = Pair::SQL;
        let mut select = self.database.prepare_cached(&format!(
            "SELECT {pair}, first_seen FROM open WHERE first_seen <= ?1"
        ))?;
        let mut rows = select.query([span.until])?;
        while let Some(row) = rows.next()? {
            let first = row.get(1)?;
            let one = Sum {
                connections: 1,
                open: 1,
                first,
                last: first,
                ..Sum::NONE
            };
            self.add(Pair(row.get(0)?), &one)?;
        }
        Ok(())
    }

    fn add(&mut self, pair: Pair, one: &Sum) -> Result<()> {
        let counts = match self.pairs.get(&pair) {
            Some(&counts) => counts,
            None => {
                let counts = self.counts(pair)?;
                self.pairs.insert(pair, counts);
                counts
            }
        };
        if counts {
            let sum = self.sums.entry(pair.process()).or_insert(Sum::NONE);
            sum.add(one, 0);
        }
        Ok(())
    }

    fn counts(&mut self, pair: Pair) -> Result<bool> {
        let Some(wanted) = self.wanted else {
            return Ok(true);
        };
        let process = self.process(pair)?;
        let contact = self.referred.contact(self.database, pair.contact())?;
        Ok(wanted(process.as_deref(), &contact))
    }

    fn process(&mut self, pair: Pair) -> Result<Option<Arc<Image>>> {
        match pair.process() {
            0 => Ok(None),
            row => self.referred.images.image(self.database, row),
        }
    }

    /// Processes in the order of their rows: the latest image of several comes last.
    fn hand_on(mut self, visit: &mut VisitSums<'_>) -> Result<()> {
        let remotes = remotes(self.database)?;
        let pairs = self.pairs.iter().filter(|(_, counts)| **counts);
        let mut pairs: Vec<Pair> = pairs.map(|(pair, _)| *pair).collect();
        pairs.sort_unstable();
        let mut addresses = Vec::new();
        for pairs in pairs.chunk_by(|one, other| one.process() == other.process()) {
            addresses.clear();
            for pair in pairs {
                let place = usize::try_from(pair.contact()).ok();
                let remote = place.and_then(|place| remotes.get(place).copied());
                addresses.push(self.referred.images.address(self.database, remote)?);
            }
            let process = self.process(pairs[0])?;
            visit(process, &self.sums[&pairs[0].process()], &addresses);
        }
        Ok(())
    }
}

/// Endings of connections that nothing came of.
fn failed(database: &Connection) -> Result<Vec<i64>> {
    let mut select = database.prepare_cached("SELECT id FROM ending WHERE failed")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// The address that each contact is with, by its row: a column is taken for each of them, not two.
fn remotes(database: &Connection) -> Result<Vec<i64>> {
    let mut remotes = Vec::new();
    let mut select =
        database.prepare_cached("SELECT id << 32 | remote FROM contact ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let both: i64 = row.get(0)?;
        let id = usize::try_from(both >> 32).unwrap_or_default();
        // Rows are numbered from 1 on, without gaps.
        remotes.resize(id.max(remotes.len()), 0);
        remotes.push(both & i64::from(u32::MAX));
    }
    Ok(remotes)
}
