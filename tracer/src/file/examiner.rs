//! Examines executed files, on a thread of its own that gives way to everyone else.
//!
//! In: observations, from which a sink takes each content that nobody has examined yet. Out: facts, in
//! that very content. Events never wait for it: where its queue is full, a later event about such a
//! process asks again.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::nice;

use super::digest::{Digests, Reader};
use super::elf;
use super::found::{Found, Missing, is_young, time_to_age};
use super::outcome::{Counts, Outcome};
use super::package::Packages;
use super::users::Users;
use crate::clock::{self, WallOffset};
use crate::event::BootTime;
use crate::filter::Filter;
use crate::observation::{Fact, Observation, Sink};
use crate::output::action::Action;
use crate::process::content::{Content, Facts};
use crate::process::image::Image;

/// How many files wait at most; each keeps an image and its ancestors.
const QUEUE: usize = 1024;

/// The lowest priority.
const NICENESS: i32 = 19;

/// For how long a young content is waited for to age: the ticks of any kernel.
const PATIENCE: Duration = Duration::from_millis(50);

/// What an examination may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest file that is read whole, in bytes.
    pub size_limit: u64,
    /// How much is read, in bytes a second.
    pub bytes_per_second: u64,
}

/// A file to examine.
struct Request {
    /// Who runs it.
    image: Arc<Image>,
    content: Arc<Content>,
    /// When somebody was seen to run it.
    seen_at: BootTime,
}

/// Asks for what the processes of observations run to be examined.
pub struct ExaminerSink {
    filter: Filter,
    requests: SyncSender<Request>,
    counts: Arc<Counts>,
    offset: WallOffset,
}

impl ExaminerSink {
    /// Starts the thread, which ends after the sink. It asks for processes that `filter` admits.
    pub fn start(options: Options, filter: Filter, offset: WallOffset) -> io::Result<Self> {
        let (requests, waiting) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let examiner = Examiner {
            size_limit: options.size_limit,
            reader: Reader::new(options.bytes_per_second),
            packages: Packages::default(),
            users: Users::default(),
            counts: Arc::clone(&counts),
            offset: offset.clone(),
        };
        thread::Builder::new()
            .name("examiner".into())
            .spawn(move || examiner.run(&waiting))?;
        Ok(Self {
            filter,
            requests,
            counts,
            offset,
        })
    }

    /// The filter, for what is only known later.
    pub fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// How examinations ended so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn ask(&self, image: &Arc<Image>, content: &Arc<Content>, seen_at: BootTime) {
        if !content.request() {
            return;
        }
        let request = Request {
            image: Arc::clone(image),
            content: Arc::clone(content),
            seen_at,
        };
        if let Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) =
            self.requests.try_send(request)
        {
            request.content.withdraw();
            self.counts.count(Outcome::Shed);
        }
    }
}

impl Sink for ExaminerSink {
    fn observe(&mut self, observation: &Observation<'_>) {
        let fact = &observation.fact;
        let Some(image) = fact.process() else { return };
        let Some(content) = &image.program.content else {
            return;
        };
        let executed = matches!(fact, Fact::ProcessExecuted(_));
        let time = self.offset.unix_nanoseconds(observation.time);
        if executed {
            content.executed();
            if is_young(content.version(), time) {
                content.executed_young(image.key);
            }
        }
        // A later event asks, so that no attempt is in vain.
        if time_to_age(content.version(), time) > PATIENCE {
            return;
        }
        // Whoever has exited can no longer show what it ran.
        let has_exited = matches!(fact, Fact::ProcessExited { .. });
        if has_exited || !content.is_wanted() || !content.is_shown_by(image.key) {
            return;
        }
        let action = Action::of(fact);
        if self.filter.admits_event(action, Some(image), None) {
            self.ask(image, content, observation.time);
        }
    }

    fn flush(&mut self) {}
}

/// The thread.
struct Examiner {
    size_limit: u64,
    reader: Reader,
    packages: Packages,
    users: Users,
    counts: Arc<Counts>,
    offset: WallOffset,
}

impl Examiner {
    fn run(mut self, waiting: &Receiver<Request>) {
        // Of this thread alone. At another priority it does the same.
        let _ = nice(NICENESS);
        for request in waiting {
            let outcome = match self.examine(&request) {
                Ok((facts, outcome)) => {
                    request.content.learn(facts);
                    outcome
                }
                Err(missing) => {
                    request.content.fail();
                    missing.into()
                }
            };
            self.counts.count(outcome);
        }
    }

    fn examine(&mut self, request: &Request) -> Result<(Facts, Outcome), Missing> {
        let version = request.content.version();
        let found = Found::of(&request.image, version)?;
        let is_small = version.size <= self.size_limit;
        let digests = is_small
            .then(|| self.digests(&found.file, version.size))
            .transpose()?;
        let build_id = elf::build_id(&found.file);
        if !self.is_certain(&found, request) {
            return Err(Missing::Changed);
        }
        let path = &request.image.program.executable;
        let facts = Facts {
            sha256: digests.map(|digests| digests.sha256),
            build_id,
            origin: self
                .packages
                .origin(&found, path, digests, &mut self.reader),
            users: found.own_root().and_then(|root| self.users.of(root)),
        };
        let outcome = if is_small {
            Outcome::Known
        } else {
            Outcome::TooLarge
        };
        Ok((facts, outcome))
    }

    /// Whether what was found is what was executed. One that was executed young is so if its executor still
    /// runs it when it is young no more: in between nobody could write to it.
    fn is_certain(&self, found: &Found, request: &Request) -> bool {
        let (content, image) = (&request.content, &request.image);
        let version = content.version();
        let seen_at = self.offset.unix_nanoseconds(request.seen_at);
        if content.was_executed_young() || is_young(version, seen_at) {
            let now = self.offset.unix_nanoseconds(clock::boot_time());
            let left = time_to_age(version, now);
            if left > PATIENCE || !content.is_shown_by(image.key) {
                return false;
            }
            thread::sleep(left);
            if !found.is_running() {
                return false;
            }
        }
        found.is_still(version)
    }

    fn digests(&mut self, file: &File, size: u64) -> Result<Digests, Missing> {
        match self.reader.digests(file, size) {
            Ok(digests) => digests.ok_or(Missing::Changed),
            Err(_) => Err(Missing::Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::event::{FileVersion, ProcessKey};
    use crate::kernel::inventory::file_status;
    use crate::process::image::{Parent, Program, Relation};

    /// This process.
    fn image(version: Option<FileVersion>) -> Arc<Image> {
        let path = std::env::current_exe().unwrap();
        let current = file_status(&fs::metadata(&path).unwrap()).version;
        let content = Content::new(version.unwrap_or(current));
        let program = Program {
            executable: path.to_str().unwrap().to_owned().into(),
            content: Some(Arc::new(content)),
            ..Program::default()
        };
        Arc::new(Image {
            program: Arc::new(program),
            ..Image::sample(std::process::id(), b"this")
        })
    }

    fn sink(size_limit: u64) -> ExaminerSink {
        let options = Options {
            size_limit,
            bytes_per_second: u64::MAX,
        };
        let filter = Filter::hiding(Image::sample(1, b"").key);
        ExaminerSink::start(options, filter, WallOffset::measure()).unwrap()
    }

    /// The outcome of the only examination.
    fn outcome(sink: &mut ExaminerSink, image: &Arc<Image>) -> Outcome {
        let observation = Observation {
            time: clock::boot_time(),
            fact: Fact::ProcessExecuted(image),
        };
        sink.observe(&observation);
        sink.observe(&observation);
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let ended: Vec<_> = Outcome::ALL
                .into_iter()
                .filter(|outcome| sink.counts().of(*outcome) > 0)
                .collect();
            if let [outcome] = ended[..] {
                assert_eq!(sink.counts().of(outcome), 1);
                return outcome;
            }
            assert!(Instant::now() < end, "no outcome");
            thread::yield_now();
        }
    }

    #[test]
    fn the_hash_is_that_of_the_file_that_runs_and_is_taken_once() {
        let image = image(None);
        let mut sink = sink(u64::MAX);
        assert_eq!(outcome(&mut sink, &image), Outcome::Known);
        let content = fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = image.program.facts().unwrap();
        assert_eq!(facts.sha256, Some(Sha256::digest(content).into()));
    }

    #[test]
    fn a_file_above_the_limit_has_no_hash() {
        let image = image(None);
        assert_eq!(outcome(&mut sink(1000), &image), Outcome::TooLarge);
        let facts = image.program.facts().unwrap();
        assert_eq!(facts.sha256, None);
        assert!(!facts.is_altered());
    }

    #[test]
    fn another_version_of_the_file_has_no_facts() {
        let image = image(Some(FileVersion::default()));
        assert_eq!(outcome(&mut sink(u64::MAX), &image), Outcome::Changed);
        assert_eq!(image.program.facts(), None);
    }

    /// What a process ran that has ended, and whose file is found below the root of this one.
    fn ended(path: &std::path::Path) -> Arc<Image> {
        let version = file_status(&fs::metadata(path).unwrap()).version;
        let program = Program {
            executable: path.to_str().unwrap().to_owned().into(),
            content: Some(Arc::new(Content::new(version))),
            ..Program::default()
        };
        Arc::new(Image {
            program: Arc::new(program),
            parent: Parent::Known(Relation::Birth, image(None)),
            ..Image::sample(u32::MAX, b"ended")
        })
    }

    fn examine(image: &Arc<Image>, seen_at: BootTime) -> Result<(Facts, Outcome), Missing> {
        let mut examiner = Examiner {
            size_limit: 1000,
            reader: Reader::new(u64::MAX),
            users: Users::default(),
            packages: Packages::default(),
            counts: Arc::default(),
            offset: WallOffset::measure(),
        };
        examiner.examine(&Request {
            image: Arc::clone(image),
            content: Arc::clone(image.program.content.as_ref().unwrap()),
            seen_at,
        })
    }

    #[test]
    fn what_was_executed_young_is_not_believed_of_its_path_however_late_it_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, "content").unwrap();
        let late = BootTime(clock::boot_time().0 + 60_000_000_000);
        let image = ended(&path);
        assert!(examine(&image, late).is_ok(), "it was not young");
        let content = image.program.content.as_ref().unwrap();
        content.executed_young(image.key);
        assert_eq!(examine(&image, late), Err(Missing::Changed));
    }

    #[test]
    fn what_was_executed_young_is_known_from_its_executor_that_still_runs_it() {
        let image = image(None);
        let content = image.program.content.as_ref().unwrap();
        content.executed_young(image.key);
        assert!(examine(&image, clock::boot_time()).is_ok());
        let other = Arc::new(Image {
            key: ProcessKey {
                start_ns: image.key.start_ns + 1,
                ..image.key
            },
            ..Image::clone(&image)
        });
        assert_eq!(examine(&other, clock::boot_time()), Err(Missing::Changed));
    }

    #[test]
    fn a_content_whose_file_system_keeps_seconds_is_asked_for_when_it_is_two_seconds_old() {
        let changed_ns = 1_700_000_000_000_000_000;
        let image = image(Some(FileVersion {
            changed_ns,
            ..FileVersion::default()
        }));
        let content = image.program.content.as_ref().unwrap();
        let (requests, _waiting) = sync_channel(1);
        let mut sink = ExaminerSink {
            filter: Filter::hiding(Image::sample(1, b"").key),
            requests,
            counts: Arc::default(),
            offset: WallOffset::new(changed_ns),
        };
        for (time, is_wanted) in [(0, true), (1_900_000_000, true), (2_100_000_000, false)] {
            sink.observe(&Observation {
                time: BootTime(time),
                fact: Fact::ProcessForked(&image),
            });
            assert_eq!(content.is_wanted(), is_wanted, "{time}");
        }
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_counted_and_asked_for_again() {
        let (requests, waiting) = sync_channel(1);
        let sink = ExaminerSink {
            filter: Filter::default(),
            requests,
            counts: Arc::default(),
            offset: WallOffset::new(0),
        };
        let images = [image(None), image(None)];
        let contents = images
            .each_ref()
            .map(|image| image.program.content.as_ref().unwrap());
        for (image, content) in images.iter().zip(contents) {
            sink.ask(image, content, BootTime(0));
        }
        assert_eq!(sink.counts().of(Outcome::Shed), 1);
        assert!(!contents[0].is_wanted() && contents[1].is_wanted());
        drop(waiting);
    }
}
