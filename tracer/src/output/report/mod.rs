//! A report on what happened, to be handed on: one page of HTML that needs nothing else.
//!
//! In: items of the history, with what is true of their files. Out: the page. What comes from outside is
//! escaped; there is no script, and nothing is loaded from anywhere.

mod advice;
mod escape;
mod page;
mod processes;
mod story;
mod sums;
#[cfg(test)]
mod tests;

use hashbrown::HashSet;
use jiff::tz::TimeZone;

use self::processes::{Forest, Who};
use self::story::Line;
use self::sums::Totals;
use super::About;
use super::past::Cells;
use super::table::Form;
use crate::clock::WallOffset;
use crate::event::BootTime;
use crate::history::window::Window;
use crate::history::{Item, What};

/// At most so many lines has the timeline.
const LINES_MAX: usize = 20_000;

/// What a report says at its head.
pub struct Heading {
    /// Whom it is about, in words.
    pub subject: String,
    /// Of which time.
    pub window: Window,
    /// When the report was made, in nanoseconds since 1970.
    pub made: i64,
    /// What whoever reads it ought to know of what is missing.
    pub notes: Vec<String>,
}

/// The file beside it that has every event.
pub struct Evidence {
    /// Its name, without a directory.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// A report that is being gathered.
pub struct Report {
    heading: Heading,
    abouts: Vec<About>,
    /// One for each file: users and clock are its own.
    cells: Vec<Cells>,
    lines: Vec<(i64, Line)>,
    omitted: u64,
    totals: Totals,
    forest: Forest,
    /// Processes whose end stands in the line of their beginning.
    told: HashSet<Who>,
}

impl Report {
    /// An empty one.
    pub fn new(heading: Heading, abouts: Vec<About>, zone: &TimeZone) -> Self {
        let cells = abouts.iter().map(|about| {
            let context = about.context();
            Cells::new(Form::Table, context.offset, context.users, zone.clone())
        });
        Self {
            heading,
            cells: cells.collect(),
            abouts,
            lines: Vec::new(),
            omitted: 0,
            totals: Totals::default(),
            forest: Forest::default(),
            told: HashSet::new(),
        }
    }

    /// Takes in an item of a file.
    pub fn add(&mut self, file: usize, item: &Item) {
        let (began, at) = (story::began(item), item.time);
        self.totals
            .add(item, self.unix(file, began), self.unix(file, at));
        let boot = self.abouts[file].host.boot_id;
        self.forest.add(boot, file, item);
        let who = item.process.as_ref().map(|image| (boot, image.key));
        if let (What::Exited { .. }, Some(who)) = (&item.what, who)
            && self.told.contains(&who)
        {
            return;
        }
        if self.lines.len() >= LINES_MAX {
            self.omitted += 1;
            return;
        }
        if let (What::Executed, Some(_), Some(who)) = (&item.what, item.over, who) {
            self.told.insert(who);
        }
        let line = Line::of(item, &self.cells[file]);
        self.lines.push((self.unix(file, line.at), line));
    }

    /// Whether nothing happened, apart from what was lost.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|(_, line)| line.sort == "lost")
    }

    /// How many events it tells of.
    pub fn events(&self) -> u64 {
        self.totals.events
    }

    /// When it is made, in nanoseconds since 1970.
    pub fn made(&self) -> i64 {
        self.heading.made
    }

    /// One more thing to know.
    pub fn note(&mut self, note: String) {
        self.heading.notes.push(note);
    }

    fn unix(&self, file: usize, time: BootTime) -> i64 {
        WallOffset::new(self.abouts[file].offset).unix_nanoseconds(time)
    }
}
