//! `tracer replay`: what was recorded, once more.
//!
//! In: JSON lines or files of a history, a filter. Out: the events that they are, through the filter to the sinks. What
//! is no event is told, counted as lost, and the reason for status 1.

mod sinks;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use self::sinks::Sinks;
use super::open_at;
use super::progress::Progress;
use crate::cli::ReplayArgs;
use crate::clock::{self, WallOffset};
use crate::config::{DetectConfig, Surroundings};
use crate::detect::Engine;
use crate::detect::sink::Detecting;
use crate::event::BootTime;
use crate::failure::Failure;
use crate::filter::Filter;
use crate::history::Item;
use crate::history::reader::{Glance, History, Kind};
use crate::history::window::Window;
use crate::host::Host;
use crate::observation::{Fact, Loss, LossUnit, Observation, Sink};
use crate::output::About;
use crate::output::action::{Action, ActionSet};
use crate::output::names::HookNames;
use crate::output::record::Record;
use crate::recorded::{LINE_MAX, Line, LineError, Lines, Recording};

/// What files of SQLite begin with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// How long detectors may wait for more before they tell, in nanoseconds.
const AFTER_NS: u64 = 5_000_000_000;

/// So many lines that are no events are told one by one.
const TOLD_MAX: u64 = 10;

pub(in crate::commands) fn replay(
    args: &ReplayArgs,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    let detect = DetectConfig::load(args.detect.clone()).map_err(Failure::usage)?;
    let sources = args.files.iter().map(|path| Source::open(path));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let filter = args.filter.resolve();
    let all = Action::ALL
        .into_iter()
        .fold(ActionSet::NONE, ActionSet::with);
    let of_kinds = |actions| Filter {
        actions,
        ..Filter::default()
    };
    let kept = match args.filter.actions.as_slice() {
        [] => of_kinds(all),
        _ => of_kinds(filter.actions),
    };
    let shown = of_kinds(filter.actions);
    let sinks = Sinks::open(args, surroundings, shown, &kept)?;
    let is_silent = surroundings.stdout_is_terminal && sinks.write_to_stdout();
    let engine = detect.filter(|detect| detect.settings.enabled);
    let engine = engine.map(|detect| Engine::new(detect.settings));
    // Detectors look at all events, whatever is shown.
    let mut sinks = Detecting::new(sinks, engine, of_kinds(all));
    let mut replay = Replay {
        filter: Filter {
            actions: all,
            ..filter
        },
        sinks: &mut sinks,
        recording: Recording::default(),
        about: None,
        time: BootTime(0),
        bad: Bad::default(),
        is_silent,
    };
    let fed = sources
        .into_iter()
        .try_for_each(|source| replay.feed(source));
    let bad = replay.finish();
    fed?;
    let found = match sinks.told() {
        0 => Ok(()),
        count => Err(Failure::detected(count)),
    };
    sinks.into_inner().close().and(bad).and(found)
}

/// Where recorded events are.
enum Source {
    Lines {
        name: String,
        lines: Lines<Box<dyn Read>>,
        length: Option<u64>,
    },
    History(History),
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Lines {
                name: "stdin".to_owned(),
                lines: Lines::new(Box::new(io::stdin())),
                length: None,
            });
        }
        let cannot = |error: io::Error| cannot_read(&path.display().to_string(), &error);
        if path.is_dir() {
            return open_at(path, Window::ALL).map(Self::History);
        }
        let file = File::open(path).map_err(cannot)?;
        let data = file.metadata().map_err(cannot)?;
        if data.is_file() && is_history(path).map_err(cannot)? {
            return open_at(path, Window::ALL).map(Self::History);
        }
        Ok(Self::Lines {
            name: path.display().to_string(),
            lines: Lines::new(Box::new(file)),
            length: data.is_file().then_some(data.len()),
        })
    }
}

fn is_history(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    let length = SQLITE.len() as u64;
    File::open(path)?.take(length).read_to_end(&mut begin)?;
    Ok(begin == SQLITE)
}

fn cannot_read(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot read {name}: {error}"))
}

/// Feeds events to sinks.
struct Replay<'a, S> {
    /// By everything but kinds: what is wanted of these depends on the sink.
    filter: Filter,
    sinks: &'a mut S,
    recording: Recording,
    /// What the sinks have been told.
    about: Option<Arc<About>>,
    /// When what came last happened.
    time: BootTime,
    bad: Bad,
    /// Progress would be mixed with lines.
    is_silent: bool,
}

impl<S: Sink> Replay<'_, Detecting<S>> {
    fn feed(&mut self, source: Source) -> Result<(), Failure> {
        match source {
            Source::Lines {
                name,
                lines,
                length,
            } => self.lines(&name, lines, length),
            Source::History(history) => self.history(history),
        }
    }

    fn lines(
        &mut self,
        name: &str,
        mut lines: Lines<Box<dyn Read>>,
        length: Option<u64>,
    ) -> Result<(), Failure> {
        let mut progress = Progress::of_bytes(length).silent(self.is_silent);
        loop {
            if lines.may_wait() {
                self.sinks.flush();
            }
            let line = lines.read().map_err(|error| cannot_read(name, &error))?;
            let Some(line) = line else { break };
            let item = match line {
                Line::Whole(line) => self.recording.read(line),
                Line::TooLong => Err(LineError::TooLong { limit: LINE_MAX }),
            };
            let about = self.recording.about().cloned();
            match (item, about) {
                (Ok(item), Some(about)) => self.item(&about, &item),
                (Ok(_), None) => {}
                (Err(error), _) => self.bad.line(name, lines.number(), &error),
            }
            progress.row(i64::try_from(lines.position()).unwrap_or(i64::MAX));
            if !self.sinks.has_room() {
                break;
            }
        }
        progress.finish();
        Ok(())
    }

    fn history(&mut self, mut history: History) -> Result<(), Failure> {
        let mut progress = Progress::of(&history).silent(self.is_silent);
        let abouts = history.about().into_iter().map(Arc::new);
        let abouts: Vec<_> = abouts.collect();
        history.visit_in_order(&Kind::ALL, Glance::All, &mut |file, item| {
            let about = &abouts[file];
            progress.row(WallOffset::new(about.offset).unix_nanoseconds(item.time));
            self.item(about, &item);
            if self.sinks.has_room() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        progress.finish();
        Ok(())
    }

    /// An event that was recorded there.
    fn item(&mut self, about: &Arc<About>, item: &Item) {
        let Some(observation) = item.observation() else {
            return;
        };
        self.time = item.time;
        self.begin(about);
        self.tell_loss();
        if self.filter.admits(&Record::of(&observation)) {
            self.sinks.observe(&observation);
        }
    }

    fn begin(&mut self, about: &Arc<About>) {
        let is_known = self.about.as_ref().is_some_and(|it| Arc::ptr_eq(it, about));
        if !is_known {
            self.sinks.begin(about);
            self.about = Some(Arc::clone(about));
        }
    }

    /// Tells how many lines were no events since it was told last.
    fn tell_loss(&mut self) {
        let count = std::mem::take(&mut self.bad.untold);
        if count == 0 {
            return;
        }
        let loss = Loss {
            stage: "replay",
            kind: "line",
            unit: LossUnit::Event,
            count,
        };
        self.sinks.observe(&Observation {
            time: self.time,
            fact: Fact::Lost(loss),
        });
    }

    /// Nothing follows. Fails if there were lines that are no events.
    fn finish(mut self) -> Result<(), Failure> {
        if self.bad.untold > 0 && self.about.is_none() {
            // Nobody knows when and where; it was here and now that they were lost.
            self.time = clock::boot_time();
            self.begin(&Arc::new(here()));
        }
        self.tell_loss();
        // Whoever waits for more learns that there is none.
        self.sinks.advance(BootTime(self.time.0 + AFTER_NS));
        self.sinks.flush();
        self.bad.judge()
    }
}

/// This host, now.
fn here() -> About {
    About {
        host: Host::read(),
        offset: WallOffset::measure().unix_nanoseconds(BootTime(0)),
        hooks: HookNames::default(),
        users: [].into(),
        netns: None,
    }
}

/// Lines that are no events.
#[derive(Default)]
struct Bad {
    count: u64,
    /// Not yet told in the output.
    untold: u64,
}

impl Bad {
    fn line(&mut self, name: &str, number: u64, error: &LineError) {
        self.count += 1;
        self.untold += 1;
        if self.count <= TOLD_MAX {
            tell(format_args!("{name}:{number}: {error}"));
        }
    }

    fn judge(&self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let more = self.count.saturating_sub(TOLD_MAX);
        let more = match more {
            0 => String::new(),
            more => format!(" ({more} more than are named)"),
        };
        let count = self.count;
        let lines = if count == 1 {
            "line is no event and was left out"
        } else {
            "lines are no events and were left out"
        };
        Err(Failure::failed(format_args!(
            "{count} {lines}{more}; all others were replayed"
        )))
    }
}

/// One line on stderr, whatever it quotes.
fn tell(message: std::fmt::Arguments<'_>) {
    // Where stderr is closed, the status has to do.
    let _ = writeln!(io::stderr(), "tracer: {}", Failure::failed(message));
}
