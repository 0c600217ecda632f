//! One file of the history, open to be read.
//!
//! In: a path. Out: the host and boot that it tells of, and its rows. Files that a daemon writes are read beside it;
//! those that one could not close are read as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use serde::Deserialize;

use super::Wanted;
use super::rows::{Referred, Span};
use crate::history::schema;
use crate::history::window::Window;
use crate::history::writer::is_corrupt;
use crate::host::Host;
use crate::identity::BootId;
use crate::output::About;
use crate::output::names::HookNames;
use crate::passwd::Names;
use crate::process::image::Image;

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
}

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

    /// Who talked to which address, by the rows of a sum: of a contact, of which `wanted` says whether it counts, or
    /// of a string.
    pub(super) fn talked(
        &mut self,
        process: Option<i64>,
        counted: i64,
        wanted: Option<&Wanted<'_>>,
    ) -> rusqlite::Result<Option<(Option<Arc<Image>>, IpAddr)>> {
        let (database, referred) = (&self.database, &mut self.referred);
        let process = match process {
            Some(row) => referred.images.image(database, row)?,
            None => None,
        };
        let Some(wanted) = wanted else {
            let remote = referred.images.address(database, Some(counted))?;
            return Ok(Some((process, remote)));
        };
        let contact = referred.contact(database, counted)?;
        let is_wanted = wanted(process.as_deref(), &contact);
        Ok(is_wanted.then_some((process, contact.remote)))
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
