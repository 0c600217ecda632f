//! What many rows refer to, stored once: strings, programs, processes, lineages, contacts.
//!
//! In: what a row is about. Out: the number of the row that has it, which is written first if there is none.
//! What has been written is remembered up to a bound; what has been forgotten is written a second time,
//! which costs room and changes no answer.

use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Result};

use self::contacts::{Contact, Counted, Way};
use crate::event::FileVersion;
use crate::observation::ConnState;
use crate::passwd::Names;
use crate::process::cause::Cause;
use crate::process::content::Content;
use crate::process::image::{Image, Program};

mod contacts;
mod processes;
mod programs;

/// How many contacts, strings, and how many of anything else, are remembered.
const CONTACTS_MAX: usize = if cfg!(test) { 4 } else { 131_072 };
const STRINGS_MAX: usize = 65_536;
const OTHERS_MAX: usize = 16_384;

/// How the parent of a process is stored, beside the row of the parent: two bits of its flags.
pub(super) mod parent {
    pub(in crate::history) const BIRTH: i64 = 0;
    pub(in crate::history) const PRESENT: i64 = 1;
    pub(in crate::history) const UNKNOWN: i64 = 2;
    pub(in crate::history) const CUT: i64 = 3;
}

/// Bytes as text where they are UTF-8, which is what people can compare with, else as they are.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

/// Rows by a key. It forgets everything when it is full.
struct Known<K, V = i64>(HashMap<K, V, FixedState>);

impl<K: Hash + Eq, V> Known<K, V> {
    fn new() -> Self {
        Self(HashMap::with_hasher(FixedState::default()))
    }

    fn remember(&mut self, key: K, row: V, limit: usize) {
        if self.0.len() >= limit {
            self.0.clear();
        }
        self.0.insert(key, row);
    }
}

/// What tells lineages apart: fingerprint, text, user, container.
type LineageKey = ([u8; 16], i64, Option<u32>, Option<i64>);

/// The rows of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Its own.
    pub(super) row: i64,
    /// That of its lineage.
    lineage: i64,
}

/// Everything that rows refer to.
pub(super) struct Interned {
    base: i64,
    strings: Known<u128>,
    programs: Known<usize>,
    same_programs: Known<[Option<i64>; 11]>,
    contents: Known<FileVersion>,
    users: Known<usize>,
    cgroups: Known<(u32, u64)>,
    lineages: Known<LineageKey>,
    processes: Known<usize, Written>,
    causes: Known<usize>,
    endings: Known<(bool, ConnState, Option<u32>, u32)>,
    ways: Known<Way>,
    /// Places in `counted`.
    contacts: Known<Contact, usize>,
    counted: Vec<Counted>,
    /// What the numbers of the other maps point to, so that no address is used again.
    kept_images: Vec<Arc<Image>>,
    kept_programs: Vec<Arc<Program>>,
    kept_causes: Vec<Arc<Cause>>,
    kept_users: Vec<Arc<Names>>,
    /// Contents of which nothing was known when they were written.
    unexamined: Vec<(i64, Arc<Content>)>,
}

impl Interned {
    /// For an empty file whose times begin at `base`.
    pub(super) fn new(base: i64) -> Self {
        Self {
            base,
            strings: Known::new(),
            programs: Known::new(),
            same_programs: Known::new(),
            contents: Known::new(),
            users: Known::new(),
            cgroups: Known::new(),
            lineages: Known::new(),
            processes: Known::new(),
            causes: Known::new(),
            endings: Known::new(),
            ways: Known::new(),
            contacts: Known::new(),
            counted: Vec::new(),
            kept_images: Vec::new(),
            kept_programs: Vec::new(),
            kept_causes: Vec::new(),
            kept_users: Vec::new(),
            unexamined: Vec::new(),
        }
    }

    /// The row of a string; `None` for an empty one.
    pub(super) fn string(&mut self, database: &Connection, bytes: &[u8]) -> Result<Option<i64>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        // Two hashes of 64 bits: strings that share both are not to be expected in the life of a host.
        let half = |seed| u128::from(FixedState::with_seed(seed).hash_one(bytes));
        let key = half(1) << 64 | half(2);
        if let Some(&row) = self.strings.0.get(&key) {
            return Ok(Some(row));
        }
        let mut insert = database.prepare_cached("INSERT INTO string (value) VALUES (?1)")?;
        let row = insert.insert([Text(bytes)])?;
        self.strings.remember(key, row, STRINGS_MAX);
        Ok(Some(row))
    }

    /// A time of `CLOCK_BOOTTIME` as this file has it.
    pub(super) fn time(&self, boot_ns: u64) -> i64 {
        boot_ns.cast_signed().wrapping_sub(self.base)
    }
}
