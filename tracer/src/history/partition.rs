//! One file of the history while it is written.
//!
//! In: items. Out: rows, in transactions. It begins empty and ends sealed: indexed, without a write-ahead log, and
//! never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OpenFlags, Result, params};
use serde_json::json;

use super::intern::{Interned, Written};
use super::item::{Item, What};
use super::schema;
use super::views;
use crate::event::BootTime;
use crate::output::Context;
use crate::process::image::Image;

mod connections;
mod detections;
mod others;

/// How long before its making a file's times begin, in nanoseconds: later rows have small numbers, which take
/// less room than negative ones.
const MARGIN_NS: u64 = 60_000_000_000;

/// What is true of everything in a file.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Host, boot, hooks and users, as [`Context`] has them, in JSON.
    pub(super) host: String,
    /// How far the wall clock is ahead of `CLOCK_BOOTTIME`, in nanoseconds.
    pub(super) offset: i64,
    /// When the file was begun.
    pub(super) begun: BootTime,
    /// When the daemon was: what is open stands in the last file of each run.
    pub(super) run: BootTime,
}

impl Origin {
    /// What the formats will have to know.
    pub(super) fn host(context: &mut Context) -> String {
        let host = &context.host;
        json!({
            "name": host.name,
            "machine_id": host.machine_id,
            "boot_id": host.boot_id.to_string(),
            "hooks": context.hooks,
            "users": context.users.names(),
            "netns": context.netns.recorded(),
        })
        .to_string()
    }
}

/// A file that is being written.
pub(super) struct Partition {
    path: PathBuf,
    database: Connection,
    interned: Interned,
    /// Connections that have ended.
    rows: u64,
    begun: BootTime,
    offset: i64,
    /// The last end of a connection, which is a key.
    last_ended: i64,
}

impl Partition {
    /// Begins a file. There must be none yet.
    pub(super) fn create(path: &Path, origin: &Origin) -> Result<Self> {
        let base = origin.begun.0.saturating_sub(MARGIN_NS).cast_signed();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags)?;
        database.set_prepared_statement_cache_capacity(64);
        database.pragma_update(None, "page_size", 4096)?;
        database.pragma_update(None, "application_id", schema::APPLICATION)?;
        database.pragma_update(None, "user_version", schema::VERSION)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        database.pragma_update(None, "wal_autocheckpoint", 4096)?;
        database.pragma_update(None, "foreign_keys", false)?;
        let wall_base = base.saturating_add(origin.offset);
        let views = views::of_file(wall_base);
        database.execute_batch(&format!("BEGIN; {} {views} COMMIT;", schema::TABLES))?;
        for (key, value) in [
            ("base", base),
            ("offset", origin.offset),
            ("begun", origin.begun.0.cast_signed() - base),
            ("run", origin.run.0.cast_signed()),
        ] {
            database.execute("INSERT INTO meta VALUES (?1, ?2)", params![key, value])?;
        }
        let host = &origin.host;
        database.execute("INSERT INTO meta VALUES ('host', ?1)", [host])?;
        let version = env!("CARGO_PKG_VERSION");
        database.execute("INSERT INTO meta VALUES ('tracer', ?1)", [version])?;
        Ok(Self {
            path: path.to_owned(),
            database,
            interned: Interned::new(base),
            rows: 0,
            begun: origin.begun,
            offset: origin.offset,
            last_ended: i64::MIN,
        })
    }

    /// Connections that have ended in it.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// When it was begun.
    pub(super) fn begun(&self) -> BootTime {
        self.begun
    }

    /// How far the wall clock was ahead of the kernel's when it was begun.
    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// More is known of the host than when the file was begun.
    pub(super) fn describe(&self, host: &str) -> Result<()> {
        let update = "UPDATE meta SET value = ?1 WHERE key = 'host'";
        self.database.execute(update, [host]).map(drop)
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<Batch<'_>> {
        self.database.execute_batch("BEGIN")?;
        Ok(Batch {
            database: &self.database,
            interned: &mut self.interned,
            insert_ended: self.database.prepare_cached(connections::INSERT_ENDED)?,
            rows: &mut self.rows,
            last_ended: &mut self.last_ended,
        })
    }

    /// Ends a transaction that failed: nothing of it was written.
    pub(super) fn roll_back(&self) {
        // A failure may have ended it before.
        let _ = self.database.execute_batch("ROLLBACK");
    }

    /// Writes the rest, makes the file quick to ask, and closes it.
    pub(super) fn seal(mut self) -> Result<()> {
        self.database.execute_batch("BEGIN")?;
        self.interned.add_up(&self.database)?;
        drop(self.interned);
        index(&self.database)
    }
}

/// A transaction on a file.
pub(super) struct Batch<'a> {
    database: &'a Connection,
    interned: &'a mut Interned,
    /// What is done for each connection: taking it from the cache every time would cost as much as doing it.
    insert_ended: CachedStatement<'a>,
    rows: &'a mut u64,
    last_ended: &'a mut i64,
}

impl Batch<'_> {
    /// Ends it: what was written since stays.
    pub(super) fn commit(self) -> Result<()> {
        self.interned.learn(self.database)?;
        self.database.execute_batch("COMMIT")
    }

    /// Writes an item, but for connections: of these the caller knows which are open.
    pub(super) fn write(&mut self, item: &Item) -> Result<()> {
        let process = item.process.as_ref();
        match &item.what {
            What::Executed => self.executed(item.time, process),
            What::Exited { status } => self.exited(item.time, process, *status),
            What::Opened(_) | What::Ended(..) | What::Forked | What::Hello(_) => Ok(()),
            What::ListenOpened(traced) => self.listener(traced, process, None),
            What::ListenClosed(traced) => self.listener(traced, process, Some(item.time)),
            What::Flow(traced, stage, totals) => self.flow(traced, process, *stage, totals),
            What::SocketOpened(socket) => self.raw_socket(item.time, process, socket),
            What::Lookup(lookup, duration) => self.lookup(item.time, process, lookup, *duration),
            What::Detected(told) => self.detection(item.time, process, &told.0, told.1.as_ref()),
            What::Lost(loss) => self.lost(item.time, loss),
        }
    }

    fn owner(&mut self, process: Option<&Arc<Image>>) -> Result<Option<Written>> {
        let owner = process.map(|image| self.interned.process(self.database, image));
        owner.transpose()
    }
}

/// Makes a file that another tracer did not seal quick to ask.
pub(super) fn seal(database: &Connection) -> Result<()> {
    database.execute_batch("BEGIN")?;
    database.execute_batch(schema::SUMS)?;
    index(database)
}

/// Ends the last transaction of a file with its indices, and makes it a single file.
fn index(database: &Connection) -> Result<()> {
    database.execute_batch(schema::INDICES)?;
    database.execute_batch("COMMIT")?;
    // Others may be reading: then it stays as it is, which is no worse than before.
    let _ = database.pragma_update(None, "journal_mode", "delete");
    Ok(())
}
