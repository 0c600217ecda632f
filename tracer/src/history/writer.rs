//! Writes the history, on a thread of its own.
//!
//! In: batches of items. Out: rows, a transaction for each batch. What cannot be written, since the disk is full or
//! fails, is dropped and counted, and tried anew after a while with a new file; nobody ever waits for it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use rusqlite::Connection;

use super::baseline::Baseline;
use super::item::{Item, What};
use super::partition::{self, Origin, Partition};
use super::store::{self, Options};
use crate::clock::WallOffset;
use crate::event::BootTime;
use crate::observation::{Connection as Traced, ConnectionId};
use crate::output::Context;
use crate::process::image::Image;

/// When a file is full: so many connections that have ended, or so long after its beginning.
const ROWS_MAX: u64 = 1 << 20;
const SPAN: Duration = Duration::from_secs(6 * 3600);
/// Into how many files at least the room is divided, since whole ones are deleted.
const FILES_MIN: u64 = 8;

/// How long after a failure to try again, at first and at most.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Why the history cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0} is used by another tracer: give this one another --history")]
    Claimed(PathBuf),
    #[error("cannot write in {directory}: {source}")]
    Directory {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("cannot write {path}: {source}")]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
}

/// A connection or listener that is open.
struct Open {
    connection: Traced,
    process: Option<Arc<Image>>,
}

/// Writes the history.
pub struct Writer {
    options: Options,
    host: String,
    offset: WallOffset,
    run: BootTime,
    claim: Option<File>,
    current: Option<Partition>,
    baseline: Option<Baseline>,
    open: HashMap<ConnectionId, Open, foldhash::fast::RandomState>,
    listeners: HashMap<ConnectionId, Open, foldhash::fast::RandomState>,
    lost: Arc<AtomicU64>,
    failing: Option<Failing>,
}

/// It cannot write.
struct Failing {
    since_told: u64,
    patience: Duration,
    again_at: Instant,
}

impl Writer {
    /// Nothing is written, nor tried, yet. It writes what happens on the host of `context` from `run` on, when
    /// this daemon was started, and adds to `lost` what it cannot write.
    pub fn new(
        options: Options,
        context: &mut Context,
        run: BootTime,
        lost: Arc<AtomicU64>,
    ) -> Self {
        let host = Origin::host(context);
        let offset = context.offset.clone();
        Self {
            options,
            host,
            offset,
            run,
            claim: None,
            current: None,
            baseline: None,
            open: HashMap::default(),
            listeners: HashMap::default(),
            lost,
            failing: None,
        }
    }

    /// More is known of the host than there was at the beginning.
    pub(super) fn describe(&mut self, context: &mut Context) {
        self.host = Origin::host(context);
        let Some(partition) = &self.current else {
            return;
        };
        if let Err(source) = partition.describe(&self.host) {
            let path = partition.path().to_owned();
            self.fail(&WriteError::Database { path, source }, 0);
        }
    }

    /// Writes a batch, or drops and counts it.
    pub fn batch(&mut self, items: Vec<Item>) {
        let count = items.len() as u64;
        if let Some(failing) = &self.failing
            && Instant::now() < failing.again_at
        {
            items.into_iter().for_each(|item| self.follow(item));
            self.drop_batch(count);
            return;
        }
        match self.try_batch(&items) {
            Ok(()) => {
                if let Some(failing) = self.failing.take() {
                    let dropped = failing.since_told;
                    tell(&format!(
                        "the history is written again; {dropped} rows are missing"
                    ));
                }
            }
            Err(error) => self.fail(&error, count),
        }
        // Only now: what is written of an end depends on what was open before.
        items.into_iter().for_each(|item| self.follow(item));
    }

    /// Closes the last file.
    pub fn finish(mut self) {
        if let Some(partition) = self.current.take() {
            let path = partition.path().to_owned();
            if let Err(source) = partition.seal() {
                tell(&WriteError::Database { path, source }.to_string());
            }
        }
    }

    fn drop_batch(&mut self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
        if let Some(failing) = &mut self.failing {
            failing.since_told += count;
        }
    }

    fn fail(&mut self, error: &WriteError, count: u64) {
        // What it had written before stays. Whoever takes over its file makes it quick to ask.
        if let Some(partition) = self.current.take() {
            partition.roll_back();
        }
        self.baseline = None;
        let patience = match &self.failing {
            None => {
                tell(&format!(
                    "{error}; what happens is missing in the history until that works"
                ));
                PATIENCE
            }
            Some(failing) => (failing.patience * 2).min(PATIENCE_MAX),
        };
        let since_told = self
            .failing
            .as_ref()
            .map_or(0, |failing| failing.since_told);
        self.failing = Some(Failing {
            since_told,
            patience,
            again_at: Instant::now() + patience,
        });
        self.drop_batch(count);
    }

    fn try_batch(&mut self, items: &[Item]) -> Result<(), WriteError> {
        if let Some(first) = items.first() {
            self.roll_if_full(first.time)?;
        }
        // First: what is written here of a batch that is then dropped is true nevertheless.
        self.learn(items)?;
        let Some(partition) = &mut self.current else {
            return Ok(());
        };
        let path = partition.path().to_owned();
        let written = partition.begin().and_then(|mut batch| {
            let mut opened = HashMap::new();
            for (index, item) in items.iter().enumerate() {
                let process = item.process.as_ref();
                match &item.what {
                    What::Opened(traced) => drop(opened.insert(traced.id, index)),
                    What::Ended(traced, end) => {
                        let in_batch = opened.remove(&traced.id);
                        let before = self.open.get(&traced.id);
                        if in_batch.is_none() && before.is_some() {
                            batch.forget_open(traced.id)?;
                        }
                        let opener = match in_batch {
                            Some(index) => items[index].process.as_ref(),
                            None => before.and_then(|open| open.process.as_ref()),
                        };
                        batch.ended(item.time, traced, process, opener, end)?;
                    }
                    _ => batch.write(item)?,
                }
            }
            // Most connections end in the batch in which they began, and are never written as open.
            for index in opened.into_values() {
                if let What::Opened(traced) = &items[index].what {
                    batch.open(traced, items[index].process.as_ref())?;
                }
            }
            batch.commit()
        });
        written.map_err(|source| WriteError::Database { path, source })
    }

    fn learn(&mut self, items: &[Item]) -> Result<(), WriteError> {
        let directory = &self.options.directory;
        let learned = match &mut self.baseline {
            Some(baseline) => baseline.learn(items, &self.offset),
            None => {
                let now = items.first().map_or(BootTime(0), |first| first.time);
                let now = self.offset.unix_nanoseconds(now);
                Baseline::open(directory, now).and_then(|baseline| {
                    // Whoever may not read it has no answer about programs, and all others.
                    let _ = store::share(&Baseline::path(directory), self.options.group);
                    self.baseline.insert(baseline).learn(items, &self.offset)
                })
            }
        };
        let path = Baseline::path(directory);
        learned.map_err(|source| WriteError::Database { path, source })
    }

    /// Keeps up with what is open.
    fn follow(&mut self, item: Item) {
        let process = item.process;
        match item.what {
            What::Opened(connection) => {
                let id = connection.id;
                let open = Open {
                    connection,
                    process,
                };
                self.open.insert(id, open);
            }
            What::Ended(connection, _) => drop(self.open.remove(&connection.id)),
            What::ListenOpened(connection) => {
                let id = connection.id;
                let open = Open {
                    connection,
                    process,
                };
                self.listeners.insert(id, open);
            }
            What::ListenClosed(connection) => drop(self.listeners.remove(&connection.id)),
            _ => {}
        }
    }

    /// Sees to it that there is a file with room for what happens from `now` on.
    fn roll_if_full(&mut self, now: BootTime) -> Result<(), WriteError> {
        let offset = self.offset.unix_nanoseconds(BootTime(0));
        if let Some(partition) = &self.current {
            let age = Duration::from_nanos(now.since(partition.begun()));
            let bytes = store::size(partition.path());
            let is_full = partition.rows() >= ROWS_MAX
                || age >= SPAN
                || bytes >= self.options.size_limit / FILES_MIN
                // A file has one clock.
                || partition.offset() != offset;
            if !is_full {
                return Ok(());
            }
        }
        let begun = now;
        let directory = self.options.directory.clone();
        let in_directory = |source| WriteError::Directory {
            directory: directory.clone(),
            source,
        };
        if self.claim.is_none() {
            self.claim = Some(match store::claim(&self.options) {
                Ok(claim) => claim,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(WriteError::Claimed(directory));
                }
                Err(error) => return Err(in_directory(error)),
            });
            take_over(&self.options).map_err(in_directory)?;
        }
        let path = store::begin(&directory, offset.saturating_add_unsigned(begun.0))
            .map_err(in_directory)?;
        let origin = Origin {
            host: self.host.clone(),
            offset,
            begun,
            run: self.run,
        };
        let created = Partition::create(&path, &origin).and_then(|partition| self.carry(partition));
        let partition = created.map_err(|source| {
            // A file without tables helps nobody.
            let _ = store::remove(&path);
            let path = path.clone();
            WriteError::Database { path, source }
        })?;
        store::share(&path, self.options.group).map_err(in_directory)?;
        if let Some(full) = self.current.replace(partition) {
            let path = full.path().to_owned();
            full.seal()
                .map_err(|source| WriteError::Database { path, source })?;
        }
        store::retain(&self.options, SystemTime::now()).map_err(in_directory)
    }

    /// What is open stands in the last file.
    fn carry(&self, mut partition: Partition) -> rusqlite::Result<Partition> {
        let mut batch = partition.begin()?;
        for open in self.open.values() {
            batch.open(&open.connection, open.process.as_ref())?;
        }
        for open in self.listeners.values() {
            batch.listener(&open.connection, open.process.as_ref(), None)?;
        }
        batch.commit()?;
        Ok(partition)
    }
}

/// Closes the files that another tracer could not, and sets those aside that cannot be read.
fn take_over(options: &Options) -> io::Result<()> {
    for path in store::files(&options.directory)? {
        let sealed = Connection::open(&path).and_then(|database| {
            let is_sealed = database
                .prepare("SELECT 1 FROM sqlite_schema WHERE name = 'connection_contact'")?
                .exists([])?;
            if is_sealed && !store::has_log(&path) {
                return Ok(());
            }
            partition::seal(&database)
        });
        if let Err(error) = sealed
            && is_corrupt(&error)
        {
            let aside = store::set_aside(&path)?;
            tell(&format!(
                "a file of the history cannot be read ({error}) and is now {}; the others are as before",
                aside.display()
            ));
        }
    }
    Ok(())
}

/// Whether it is the file's fault.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let code = error.sqlite_error_code();
    matches!(code, Some(DatabaseCorrupt | NotADatabase))
        // No table at all: it was being made when its writer ended.
        || error.to_string().contains("no such table")
}

fn tell(message: &str) {
    // Where stderr is closed, the counter has to do.
    let _ = writeln!(io::stderr(), "tracer: note: {message}");
}
