//! One file of the history, open to be read.
//!
//! In: a path. Out: the host and boot that it tells of, and its rows. Files that a daemon writes are read beside it;
//! those that one could not close are read as they are.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use serde::Deserialize;

use super::rows::{Referred, Span};
use crate::history::schema;
use crate::history::window::Window;
use crate::history::writer::is_corrupt;
use crate::host::Host;
use crate::identity::BootId;
use crate::output::About;
use crate::output::names::HookNames;
use crate::passwd::Names;

/// So much of a file is mapped rather than read, in bytes.
const MAPPED: i64 = 1 << 30;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not what it should be.
    #[error("{path} cannot be read and is left out: {source}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// It is of another version.
    #[error("{path} has version {version} of the history; this tracer reads {known}", known = schema::VERSION)]
    Version {
        /// Which.
        path: PathBuf,
        /// The version that it has.
        version: i64,
    },
    /// It cannot be opened or asked.
    #[error("cannot read {path}: {source}")]
    Database {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// A file of the history.
pub(super) struct HistoryFile {
    pub(super) path: PathBuf,
    pub(super) database: Connection,
    pub(super) referred: Referred,
    pub(super) base: i64,
    offset: i64,
    /// When it was begun, in its times.
    pub(super) begun: i64,
    /// Which daemon wrote it: those of one boot and run are of one.
    pub(super) run: (BootId, i64),
    /// Whether it has its indices.
    pub(super) is_sealed: bool,
    /// Whether what stands in its log cannot be read.
    pub(super) without_log: bool,
    host: HostMember,
    /// Which processes ended in it, by PID and start, once somebody has asked.
    process_ends: OnceCell<HashMap<(u32, i64), ProcessEnd>>,
}

/// When a process ended, in the file's times, and its status.
pub(super) type ProcessEnd = (i64, Option<u32>);

#[derive(Clone, Debug, Deserialize)]
struct HostMember {
    name: String,
    machine_id: Option<String>,
    boot_id: String,
    hooks: HookNames,
    users: Names,
    /// Only where it was imported from a recording that had them.
    #[serde(default)]
    netns: Option<BTreeMap<u32, String>>,
}

impl HistoryFile {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let (database, without_log) = connect(path).map_err(|source| wrong(path, source))?;
        Self::read(path, database, without_log)
    }

    fn read(path: &Path, database: Connection, without_log: bool) -> Result<Self, FileError> {
        let wrong = |source| wrong(path, source);
        database.set_prepared_statement_cache_capacity(64);
        // Statements are planned once, not anew for each value that is looked for.
        database
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(wrong)?;
        // Where that is refused, it reads.
        let _ = database.pragma_update(None, "mmap_size", MAPPED);
        // One moment of the file, whatever is written meanwhile, and one lock.
        database.execute_batch("BEGIN").map_err(wrong)?;
        let version: i64 = database
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(wrong)?;
        if version != schema::VERSION {
            let path = path.to_owned();
            return Err(FileError::Version { path, version });
        }
        let number = |key: &str| {
            let select = "SELECT value FROM meta WHERE key = ?1";
            database.query_row(select, [key], |row| row.get::<_, i64>(0))
        };
        let (base, offset) = (
            number("base").map_err(wrong)?,
            number("offset").map_err(wrong)?,
        );
        let (begun, run) = (
            number("begun").map_err(wrong)?,
            number("run").map_err(wrong)?,
        );
        let host: String = database
            .query_row("SELECT value FROM meta WHERE key = 'host'", [], |row| {
                row.get(0)
            })
            .map_err(wrong)?;
        let host: HostMember = serde_json::from_str(&host).map_err(|_| FileError::Corrupt {
            path: path.to_owned(),
            source: rusqlite::Error::InvalidQuery,
        })?;
        let boot = BootId::parse(&host.boot_id).unwrap_or_default();
        let index = "SELECT 1 FROM sqlite_schema WHERE name = 'connection_contact'";
        let is_sealed = database
            .query_row(index, [], |_| Ok(()))
            .optional()
            .map_err(wrong)?
            .is_some();
        Ok(Self {
            path: path.to_owned(),
            referred: Referred::new(base),
            database,
            base,
            offset,
            begun,
            run: (boot, run),
            is_sealed,
            without_log,
            host,
            process_ends: OnceCell::new(),
        })
    }

    /// A window in the file's times.
    pub(super) fn span(&self, window: Window) -> Span {
        let base = self.wall_base();
        Span {
            since: window.since.saturating_sub(base),
            until: window.until.saturating_sub(base),
        }
    }

    /// The wall clock's time where the file's times begin, in nanoseconds since 1970.
    pub(super) fn wall_base(&self) -> i64 {
        self.base.saturating_add(self.offset)
    }

    /// When it was begun, in nanoseconds since 1970.
    pub(super) fn begun_unix(&self) -> i64 {
        self.wall_base().saturating_add(self.begun)
    }

    /// What is true of all its items.
    pub(super) fn about(&self) -> About {
        About {
            host: Host {
                name: self.host.name.clone(),
                machine_id: self.host.machine_id.clone(),
                boot_id: self.run.0,
            },
            offset: self.offset,
            hooks: self.host.hooks.clone(),
            users: self.host.users.clone(),
            netns: self.host.netns.clone(),
        }
    }

    /// Whether every connection that ended in it did so in a span.
    pub(super) fn lies_in(&self, span: Span) -> rusqlite::Result<bool> {
        // Each by itself is found at an end of the table.
        let ends =
            "SELECT (SELECT min(ended) FROM connection), (SELECT max(ended) FROM connection)";
        let (first, last): (Option<i64>, Option<i64>) =
            self.database
                .query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(first.is_none_or(|first| first >= span.since)
            && last.is_none_or(|last| last <= span.until))
    }

    /// When and how a process ended, if it did so in this file; by its PID and start, in the file's times.
    pub(super) fn end_of(&self, pid: u32, start: i64) -> rusqlite::Result<Option<ProcessEnd>> {
        if !self.is_sealed {
            // There is no index yet: they are read all at once, not anew for each.
            let ends = match self.process_ends.get() {
                Some(ends) => ends,
                None => {
                    let ends = self.read_process_ends()?;
                    self.process_ends.get_or_init(|| ends)
                }
            };
            return Ok(ends.get(&(pid, start)).copied());
        }
        let mut select = self.database.prepare_cached(
            "SELECT exited, status FROM process WHERE pid = ?1 AND start = ?2 AND exited IS NOT NULL",
        )?;
        let end = select.query_row(params![pid, start], |row| Ok((row.get(0)?, row.get(1)?)));
        end.optional()
    }

    fn read_process_ends(&self) -> rusqlite::Result<HashMap<(u32, i64), ProcessEnd>> {
        let mut select = self
            .database
            .prepare("SELECT pid, start, exited, status FROM process WHERE exited IS NOT NULL")?;
        let ends = select.query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?)))
        })?;
        ends.collect()
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> FileError {
        wrong(&self.path, source)
    }
}

pub(super) fn wrong(path: &Path, source: rusqlite::Error) -> FileError {
    let path = path.to_owned();
    if is_corrupt(&source) {
        FileError::Corrupt { path, source }
    } else {
        FileError::Database { path, source }
    }
}

/// Opens a file; the second value says that its log cannot be read. That needs the right to write beside it, unless
/// somebody has it open.
fn connect(path: &Path) -> rusqlite::Result<(Connection, bool)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let try_open = |uri: &str| {
        let database = Connection::open_with_flags(uri, flags)?;
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok::<_, rusqlite::Error>(database)
    };
    let uri = uri(path);
    match try_open(&uri) {
        Ok(database) => Ok((database, false)),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) && path.exists() =>
        {
            Ok((try_open(&format!("{uri}?immutable=1"))?, true))
        }
        Err(error) => Err(error),
    }
}

/// A path as SQLite's `file:` URI.
pub(super) fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                uri.push(char::from(byte));
            }
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use crate::event::BootTime;
    use crate::history::reader::{History, Kind};
    use crate::history::window::Window;
    use crate::history::{What, samples};

    #[test]
    fn the_end_of_a_process_is_found_in_a_file_that_still_grows() {
        const LATER: u64 = 7 * 3_600_000_000_000;
        let directory = tempfile::tempdir().unwrap();
        let mut writer = samples::writer(directory.path());
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let other = samples::image(8, b"other", b"other\0", None);
        let executed = |image, time| samples::item(image, time, What::Executed);
        writer.batch(vec![executed(&curl, 1), executed(&other, 2)]);
        writer.batch(vec![samples::item(
            &curl,
            LATER,
            What::Exited { status: 9 },
        )]);
        let mut history = History::open(directory.path(), Window::ALL).unwrap();
        assert_eq!(history.about().len(), 2, "files");
        let mut ends = Vec::new();
        let visit = &mut |_, item: crate::history::Item| {
            ends.push(item.over);
            ControlFlow::Continue(())
        };
        history.visit(Kind::Processes, visit).unwrap();
        assert_eq!(ends, [Some((BootTime(LATER), Some(9))), None]);
        writer.finish();
    }
}
