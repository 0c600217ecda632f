//! A history of what was recorded elsewhere.
//!
//! In: observations, with where they were recorded. Out: files in a directory that had none. Nobody waits for what
//! happens meanwhile, so it is written at once, and nothing is dropped: what cannot be written ends the import.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::item::Item;
use super::store::{self, Options};
use super::writer::Writer;
use crate::clock::WallOffset;
use crate::filter::Filter;
use crate::host::Host;
use crate::observation::{Observation, Sink};
use crate::output::About;
use crate::output::action::Action;

/// So many items are written at once.
const BATCH: usize = 4096;

/// Why it cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is a history already.
    #[error("there is a history in {0} already: give --history another directory")]
    Exists(PathBuf),
    /// The directory cannot be looked at.
    #[error("cannot look for a history in {directory}: {source}")]
    Directory {
        /// Which.
        directory: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is of two hosts.
    #[error(
        "a history is of one host: {directory} has what is of {first}, and {second} follows; replay them one by one"
    )]
    Hosts {
        /// Which.
        directory: PathBuf,
        /// The host that came first.
        first: String,
        /// Another one.
        second: String,
    },
    /// Something was not written, as has been said on stderr.
    #[error("the history in {directory} lacks {rows} events that could not be written")]
    Incomplete {
        /// Which.
        directory: PathBuf,
        /// How many.
        rows: u64,
    },
}

/// Keeps what `filter` admits.
pub struct Import {
    options: Options,
    filter: Filter,
    about: Option<Arc<About>>,
    /// Whose events were written first.
    first: Option<Host>,
    /// Of the boot that is written.
    offset: WallOffset,
    writer: Option<Writer>,
    batch: Vec<Item>,
    lost: Arc<AtomicU64>,
    failed: Option<ImportError>,
}

impl Import {
    /// Nothing is written before there is something to keep.
    pub fn new(directory: &Path, filter: Filter) -> Result<Self, ImportError> {
        match store::files(directory) {
            Ok(files) if !files.is_empty() => {
                return Err(ImportError::Exists(directory.to_owned()));
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let directory = directory.to_owned();
                return Err(ImportError::Directory { directory, source });
            }
            _ => {}
        }
        Ok(Self {
            options: Options {
                directory: directory.to_owned(),
                size_limit: u64::MAX,
                age_limit: Duration::MAX,
                group: None,
            },
            filter,
            about: None,
            first: None,
            offset: WallOffset::new(0),
            writer: None,
            batch: Vec::new(),
            lost: Arc::default(),
            failed: None,
        })
    }

    /// Writes the rest.
    pub fn close(mut self) -> Result<(), ImportError> {
        self.finish();
        match (self.failed, self.lost.load(Ordering::Relaxed)) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, rows) => Err(ImportError::Incomplete {
                directory: self.options.directory,
                rows,
            }),
        }
    }

    fn write(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if let (Some(writer), false) = (&mut self.writer, batch.is_empty()) {
            writer.batch(batch);
        }
    }

    fn finish(&mut self) {
        self.write();
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }

    fn is_failed(&self) -> bool {
        self.failed.is_some() || self.lost.load(Ordering::Relaxed) > 0
    }
}

impl Sink for Import {
    fn begin(&mut self, about: &Arc<About>) {
        let before = self.about.replace(Arc::clone(about));
        let Some(before) = before else {
            self.offset = WallOffset::new(about.offset);
            return;
        };
        if before.host != about.host {
            self.finish();
            self.offset = WallOffset::new(about.offset);
            return;
        }
        if before.offset != about.offset {
            // A file has one clock.
            self.write();
            self.offset.set(about.offset);
        }
        if let Some(writer) = &mut self.writer {
            writer.describe(&mut about.context());
        }
    }

    fn observe(&mut self, observation: &Observation<'_>) {
        let fact = &observation.fact;
        let process = fact.process().map(AsRef::as_ref);
        let action = Action::of(fact);
        if self.is_failed() || !self.filter.admits_event(action, process, fact.endpoints()) {
            return;
        }
        let (Some(item), Some(about)) = (Item::of(observation), &self.about) else {
            return;
        };
        if self.writer.is_none() {
            let host = &about.host;
            let first = self.first.get_or_insert_with(|| host.clone());
            if (&first.name, &first.machine_id) != (&host.name, &host.machine_id) {
                self.failed = Some(ImportError::Hosts {
                    directory: self.options.directory.clone(),
                    first: first.name.clone(),
                    second: host.name.clone(),
                });
                return;
            }
            let mut context = about.context();
            context.offset = self.offset.clone();
            let (options, lost) = (self.options.clone(), Arc::clone(&self.lost));
            self.writer = Some(Writer::new(options, &mut context, item.time, lost));
        }
        self.batch.push(item);
        if self.batch.len() >= BATCH {
            self.write();
        }
    }

    fn flush(&mut self) {}

    fn has_room(&self) -> bool {
        !self.is_failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::BootTime;
    use crate::history::reader::History;
    use crate::history::samples;
    use crate::history::window::Window;
    use crate::identity::BootId;
    use crate::observation::Fact;

    /// When all of it happens.
    const TIME: u64 = 100_000_000_000;

    /// Imports an event for each of these.
    fn imported(directory: &Path, abouts: &[About]) -> Result<(), ImportError> {
        let mut import = Import::new(directory, Filter::default())?;
        let image = samples::image(7, b"curl", b"curl\0", None);
        for about in abouts {
            import.begin(&Arc::new(about.clone()));
            import.observe(&Observation {
                time: BootTime(TIME),
                fact: Fact::ProcessExecuted(&image),
            });
        }
        import.close()
    }

    fn abouts(directory: &Path) -> Vec<About> {
        History::open(directory, Window::ALL).unwrap().about()
    }

    #[test]
    fn what_is_learned_of_a_host_later_stands_in_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = About {
            netns: Some([(3, "blue".to_owned())].into()),
            ..samples::about()
        };
        let mut second = first.clone();
        second.users.insert(33, "www-data".to_owned());
        second.hooks.connect = "fentry:tcp_connect".to_owned();
        imported(directory.path(), &[first, second.clone()]).unwrap();
        assert_eq!(abouts(directory.path()), [second]);
    }

    #[test]
    fn each_boot_and_each_setting_of_the_clock_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let first = samples::about();
        let set = About {
            offset: first.offset + 1_000_000_000,
            ..first.clone()
        };
        let mut booted = set.clone();
        booted.host.boot_id = BootId([9; 16]);
        // Of another boot, and of the same time.
        imported(
            directory.path(),
            &[first.clone(), set.clone(), booted.clone()],
        )
        .unwrap();
        assert_eq!(abouts(directory.path()), [first, set, booted]);
    }

    #[test]
    fn a_second_host_ends_the_import_and_a_second_import_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = samples::about();
        let mut second = first.clone();
        second.host.name = "other".to_owned();
        let result = imported(directory.path(), &[first.clone(), second]);
        assert!(
            matches!(result, Err(ImportError::Hosts { .. })),
            "{result:?}"
        );
        assert_eq!(abouts(directory.path()), [first]);
        let again = Import::new(directory.path(), Filter::default()).err();
        assert!(matches!(again, Some(ImportError::Exists(_))), "{again:?}");
    }

    #[test]
    fn what_cannot_be_written_is_a_failure() {
        let result = imported(Path::new("/proc/no"), &[samples::about()]);
        assert!(
            matches!(result, Err(ImportError::Incomplete { rows: 1, .. })),
            "{result:?}"
        );
    }
}
