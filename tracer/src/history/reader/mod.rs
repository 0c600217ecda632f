//! The history, open to be asked.
//!
//! In: the directory and a window. Out: items of that window, a kind at a time, in order of time; and what is wrong
//! with it, as notes for people.

mod file;
mod glance;
mod images;
mod rows;
pub mod sql;
mod tally;
mod timeline;

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use jiff::Timestamp;

pub use self::file::FileError;
use self::file::HistoryFile;
pub use self::glance::Glance;
pub use self::rows::Contact;
use self::rows::Visit;
pub use self::tally::Sum;
use super::item::{Item, What};
use super::store;
use super::window::Window;
use crate::observation::FlowStage;
use crate::output::About;
use crate::process::image::Image;

/// Kinds of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connections, those that failed included.
    Connections,
    /// Processes, by when they became what they are.
    Processes,
    /// Ends of processes.
    Exits,
    /// Listening sockets.
    Listeners,
    /// Flows of datagrams.
    Flows,
    /// Look-ups of names.
    Lookups,
    /// Raw and packet sockets.
    RawSockets,
    /// Rules that matched.
    Detections,
    /// What was lost.
    Losses,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::Processes,
        Self::Exits,
        Self::Listeners,
        Self::Flows,
        Self::Lookups,
        Self::RawSockets,
        Self::Detections,
        Self::Losses,
    ];
}

/// Says which connections count, by their owner and contact.
pub type Wanted<'a> = dyn Fn(Option<&Image>, &Contact) -> bool + 'a;

/// Who talked, by the number of a file, how much, and with which addresses.
type VisitTalkers<'a> = dyn FnMut(usize, Option<Arc<Image>>, Sum, &[IpAddr]) + 'a;

/// Why there is nothing to ask.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no directory, or it may not be read.
    #[error(
        "cannot read the history in {directory}: {source}; `tracer run` writes it, as its --history says"
    )]
    Directory {
        /// Which.
        directory: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("there is no history in {0}: `tracer run` writes it, as its --history says")]
    Empty(PathBuf),
    /// One of its files cannot be asked.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The history, as far as a window needs it.
pub struct History {
    directory: PathBuf,
    files: Vec<HistoryFile>,
    window: Window,
    /// What whoever asks ought to know.
    pub notes: Vec<String>,
}

impl History {
    /// Opens what a window needs of a directory, or one of its files.
    pub fn open(directory: &Path, window: Window) -> Result<Self, ReadError> {
        let paths = if directory.is_file() {
            vec![directory.to_owned()]
        } else {
            store::files(directory).map_err(|source| ReadError::Directory {
                directory: directory.to_owned(),
                source,
            })?
        };
        if paths.is_empty() {
            return Err(ReadError::Empty(directory.to_owned()));
        }
        let mut notes = Vec::new();
        let mut files = Vec::new();
        // What ended in a window stands in the files that were written in it or after it; what is older than all
        // of these was over before.
        for path in paths.iter().rev() {
            // It has just been begun.
            if path.metadata().is_ok_and(|data| data.len() == 0) {
                continue;
            }
            match HistoryFile::open(path) {
                Ok(file) => {
                    let begun = file.begun_unix();
                    if file.without_log {
                        notes.push(format!(
                            "{} was not closed in order, and its last rows cannot be read without the right to \
                             write there",
                            path.display()
                        ));
                    }
                    files.push(file);
                    if begun <= window.since {
                        break;
                    }
                }
                Err(error @ (FileError::Corrupt { .. } | FileError::Version { .. })) => {
                    notes.push(error.to_string());
                }
                // Deleted meanwhile, for its age.
                Err(FileError::Database { path, .. }) if !path.exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
        files.reverse();
        let Some(first) = files.first() else {
            return Err(ReadError::Empty(directory.to_owned()));
        };
        let begun = first.begun_unix();
        if window.since != i64::MIN && begun > window.since {
            let begun = Timestamp::from_nanosecond(begun.into()).unwrap_or_default();
            notes.push(format!("nothing is known of the time before {begun:.0}"));
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
            window,
            notes,
        })
    }

    /// The window that it was opened for.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is true of the items of each file.
    pub fn about(&self) -> Vec<About> {
        self.files.iter().map(HistoryFile::about).collect()
    }

    /// Hands on every item of a kind whose time overlaps with the window, with the number of its file.
    pub fn visit(
        &mut self,
        kind: Kind,
        visit: &mut dyn FnMut(usize, Item) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for index in 0..self.files.len() {
            let window = self.window;
            let mut one = |item| visit(index, item);
            if self.visit_file(index, kind, window, &mut one)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Connections with an address at one of their ends and a contact that is wanted, by file and time of
    /// their end.
    pub fn visit_contacts(
        &mut self,
        ip: IpAddr,
        wanted: &dyn Fn(&Contact) -> bool,
        visit: &mut dyn FnMut(usize, Item) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for index in 0..self.files.len() {
            let window = self.window;
            let contacts = self.contacts(index, ip, wanted)?;
            let file = &mut self.files[index];
            let span = file.span(window);
            let mut items = Vec::new();
            let mut collect = |item| {
                items.push(item);
                ControlFlow::Continue(())
            };
            let (database, referred) = (&file.database, &mut file.referred);
            let found = if file.is_sealed {
                rows::ended_of(database, referred, span, &contacts, &mut collect)
            } else if contacts.is_empty() {
                Ok(())
            } else {
                let of: HashSet<i64, RandomState> = contacts.iter().copied().collect();
                let mut wanted = |_: &mut _, _, contact| Ok(of.contains(&contact));
                rows::scan(database, referred, span, &mut wanted, &mut collect)
            };
            found.map_err(|source| wrong(&file.path, source))?;
            items.sort_by_key(|item| item.time);
            if self.is_last(index) {
                let file = &mut self.files[index];
                let (database, referred) = (&file.database, &mut file.referred);
                let wanted = |row| contacts.contains(&row);
                let mut collect = |item| {
                    items.push(item);
                    ControlFlow::Continue(())
                };
                let found = rows::open_of(database, referred, span, wanted, &mut collect);
                found
                    .map(drop)
                    .map_err(|source| wrong(&file.path, source))?;
            }
            for item in items {
                if visit(index, item).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// How much each process talked, and with which addresses, by file: in nanoseconds since 1970. `wanted` says
    /// which connections count; without it all do, which takes a fraction of the time.
    pub fn tally(
        &mut self,
        wanted: Option<&Wanted<'_>>,
        visit: &mut VisitTalkers<'_>,
    ) -> Result<(), ReadError> {
        for index in 0..self.files.len() {
            let is_last = self.is_last(index);
            let file = &mut self.files[index];
            let (span, shift) = (file.span(self.window), file.wall_base());
            let mut one = |process, sum: &Sum, remotes: &[IpAddr]| {
                let mut shifted = Sum::NONE;
                shifted.add(sum, shift);
                visit(index, process, shifted, remotes);
            };
            let tallied = tally::tally(file, span, is_last, wanted, &mut one);
            tallied.map_err(|source| self.files[index].error(source))?;
        }
        Ok(())
    }

    fn contacts(
        &mut self,
        index: usize,
        ip: IpAddr,
        wanted: &dyn Fn(&Contact) -> bool,
    ) -> Result<Vec<i64>, ReadError> {
        let file = &mut self.files[index];
        let found = rows::contacts(&file.database, &mut file.referred, ip, wanted);
        found.map_err(|source| wrong(&file.path, source).into())
    }

    /// Whether no later file is of the same run.
    fn is_last(&self, index: usize) -> bool {
        let run = self.files[index].run;
        self.files.get(index + 1).is_none_or(|next| next.run != run)
    }

    fn visit_file(
        &mut self,
        index: usize,
        kind: Kind,
        window: Window,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let is_last = self.is_last(index);
        if kind == Kind::Flows || kind == Kind::Processes {
            return self.visit_and_look_ahead(index, kind, window, visit);
        }
        let file = &mut self.files[index];
        let span = file.span(window);
        let (database, referred) = (&file.database, &mut file.referred);
        let visited = match kind {
            Kind::Connections => rows::ended(database, referred, span, visit).and_then(|flow| {
                if flow.is_break() || !is_last {
                    return Ok(flow);
                }
                rows::open(database, referred, span, visit)
            }),
            Kind::Exits => rows::exits(database, referred, span, visit),
            Kind::Listeners => rows::listeners(database, referred, span, is_last, visit),
            Kind::Lookups => rows::lookups(database, referred, span, visit),
            Kind::RawSockets => rows::raw_sockets(database, referred, span, visit),
            Kind::Detections => rows::detections(database, referred, span, visit),
            Kind::Losses => rows::losses(database, referred, span, visit),
            Kind::Flows | Kind::Processes => unreachable!("those that go on in later files"),
        };
        visited.map_err(|source| wrong(&file.path, source).into())
    }

    /// What may go on in later files of the run: a flow is told there once more, a process may end there.
    fn visit_and_look_ahead(
        &mut self,
        index: usize,
        kind: Kind,
        window: Window,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let (files, later) = self.files.split_at_mut(index + 1);
        let file = &mut files[index];
        let later: Vec<&HistoryFile> = later
            .iter()
            .take_while(|later| later.run == file.run)
            .collect();
        let span = file.span(window);
        let mut failed = None;
        let mut look = |mut item: Item| match ahead(&later, &mut item) {
            Ok(true) => visit(item),
            Ok(false) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let (database, referred) = (&file.database, &mut file.referred);
        let visited = if kind == Kind::Flows {
            rows::flows(database, referred, span, &mut look)
        } else {
            rows::processes(database, referred, span, &mut look)
        };
        match failed {
            Some(error) => Err(error.into()),
            None => visited.map_err(|source| wrong(&file.path, source).into()),
        }
    }
}

fn wrong(path: &Path, source: rusqlite::Error) -> FileError {
    file::wrong(path, source)
}

/// Adds what later files say of an item. False if one of them tells it anew.
fn ahead(later: &[&HistoryFile], item: &mut Item) -> Result<bool, FileError> {
    match &item.what {
        What::Flow(connection, stage, _) if *stage != FlowStage::End => {
            let id = connection.id;
            for file in later {
                let first_seen = id.first_seen_ns.cast_signed().wrapping_sub(file.base);
                let again = file
                    .database
                    .prepare_cached("SELECT 1 FROM flow WHERE first_seen = ?1 AND serial = ?2")
                    .and_then(|mut select| select.exists(rusqlite::params![first_seen, id.serial]));
                if again.map_err(|source| file.error(source))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        What::Executed if item.over.is_none() => {
            let Some(key) = item.process.as_ref().map(|image| image.key) else {
                return Ok(true);
            };
            for file in later {
                let start = key.start_ns.cast_signed().wrapping_sub(file.base);
                let end = file.end_of(key.tgid, start);
                if let Some((exited, status)) = end.map_err(|source| file.error(source))? {
                    item.over = Some((file.referred.images.time(exited), status));
                    break;
                }
            }
            Ok(true)
        }
        _ => Ok(true),
    }
}
