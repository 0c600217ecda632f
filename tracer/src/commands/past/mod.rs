//! What the commands on the history share: opening it, and showing items.
//!
//! In: arguments. Out: an open history, and items as lines on stdout.

mod destination;
pub(super) mod export;
mod progress;
pub(super) mod query;
pub(super) mod replay;
pub(super) mod report;
pub(super) mod talkers;
pub(super) mod who;

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::cli::{PastFormat, SpanArgs};
use crate::config::Surroundings;
use crate::failure::Failure;
use crate::filter::Filter;
use crate::history::Item;
use crate::history::reader::sql::SqlError;
use crate::history::reader::{History, ReadError};
use crate::history::window::{Moment, Window};
use crate::output::json::Json;
use crate::output::past::{Cells, Columns};
use crate::output::record::Record;
use crate::output::table::{Form, Table};
use crate::output::{About, Format as _};

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure::failed(error)
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Question { .. } | SqlError::TooMany { .. } => Failure::usage(error),
            SqlError::File { .. } | SqlError::Read(_) => Failure::failed(error),
        }
    }
}

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Json,
    Rows { form: Form, wide: bool },
}

impl Shape {
    pub(super) fn of(format: PastFormat, surroundings: Surroundings) -> Self {
        let rows = |form, wide| Self::Rows { form, wide };
        match format {
            PastFormat::Auto if surroundings.stdout_is_terminal => rows(Form::Table, false),
            PastFormat::Auto | PastFormat::Json => Self::Json,
            PastFormat::Table => rows(Form::Table, false),
            PastFormat::Wide => rows(Form::Table, true),
            PastFormat::Csv => rows(Form::Csv, true),
        }
    }
}

/// The window that was asked for; without `since` it begins at `default`.
pub(super) fn window(args: &SpanArgs, default: &str) -> Result<Window, Failure> {
    let default: Moment = default.parse().map_err(Failure::usage)?;
    window_from(args, Some(default))
}

/// The same; without `since` and a default, of all times.
pub(super) fn window_from(args: &SpanArgs, default: Option<Moment>) -> Result<Window, Failure> {
    let now = Zoned::now();
    let since = args.since.or(default);
    let window = Window {
        since: since.map_or(i64::MIN, |since| since.resolve(&now)),
        until: args.until.map_or(i64::MAX, |until| until.resolve(&now)),
    };
    if window.since > window.until {
        return Err(Failure::usage(
            "--since is later than --until: nothing is in between",
        ));
    }
    Ok(window)
}

/// Opens the history and says what is wrong with it.
pub(super) fn open(args: &SpanArgs, window: Window) -> Result<History, Failure> {
    open_at(&args.history, window)
}

fn open_at(path: &Path, window: Window) -> Result<History, Failure> {
    let history = History::open(path, window)?;
    let mut stderr = io::stderr().lock();
    for note in &history.notes {
        // Where stderr is closed, nobody reads notes.
        let _ = writeln!(stderr, "tracer: note: {note}");
    }
    Ok(history)
}

/// Shows items on stdout, as far as a filter admits them.
pub(super) struct Show {
    filter: Filter,
    shape: Shape,
    columns: Columns,
    about: Vec<About>,
    out: Option<BufWriter<StdoutLock<'static>>>,
    table: Option<Table<BufWriter<StdoutLock<'static>>>>,
    json: Option<(usize, Json)>,
    cells: Option<(usize, Cells)>,
    line: Vec<u8>,
    sequence: u64,
}

impl Show {
    pub(super) fn new(
        filter: Filter,
        shape: Shape,
        about: Vec<About>,
        columns: impl Fn(bool) -> Columns,
    ) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let (columns, out, table) = match shape {
            Shape::Json => (columns(false), Some(out), None),
            Shape::Rows { form, wide } => {
                let columns = columns(wide);
                (
                    columns,
                    None,
                    Some(Table::new(form, &columns.titles(), out)),
                )
            }
        };
        Self {
            filter,
            shape,
            columns,
            about,
            out,
            table,
            json: None,
            cells: None,
            line: Vec::new(),
            sequence: 0,
        }
    }

    /// The history was opened anew: its files may be others.
    pub(super) fn renew(&mut self, about: Vec<About>) {
        self.about = about;
        self.json = None;
        self.cells = None;
    }

    /// Whether an item is to be shown.
    pub(super) fn admits(&self, item: &Item) -> bool {
        let observation = item.observation();
        observation.is_some_and(|observation| self.filter.admits(&Record::of(&observation)))
    }

    /// Shows an item of a file. It breaks off where the reader has gone away.
    pub(super) fn show(&mut self, file: usize, item: &Item) -> Result<ControlFlow<()>, Failure> {
        let written = match self.shape {
            Shape::Json => self.show_json(file, item),
            Shape::Rows { form, .. } => self.show_row(file, form, item),
        };
        carry_on(written)
    }

    fn show_json(&mut self, file: usize, item: &Item) -> io::Result<()> {
        if self.json.as_ref().is_none_or(|(of, _)| *of != file) {
            self.json = Some((file, Json::new(self.about[file].context())));
        }
        let (Some((_, json)), Some(out), Some(observation)) =
            (&mut self.json, &mut self.out, item.observation())
        else {
            return Ok(());
        };
        self.line.clear();
        json.line(&Record::of(&observation), self.sequence, &mut self.line);
        self.sequence += 1;
        out.write_all(&self.line)
    }

    fn show_row(&mut self, file: usize, form: Form, item: &Item) -> io::Result<()> {
        if self.cells.as_ref().is_none_or(|(of, _)| *of != file) {
            self.cells = Some((file, cells(form, &self.about[file])));
        }
        let (Some((_, cells)), Some(table)) = (&self.cells, &mut self.table) else {
            return Ok(());
        };
        table.push(self.columns.cells(cells, item))
    }

    /// Writes what has not been written yet.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let written = match (&mut self.out, &mut self.table) {
            (Some(out), _) => out.flush(),
            (None, Some(table)) => table.flush(),
            (None, None) => Ok(()),
        };
        carry_on(written).map(drop)
    }
}

/// Cells for items of a file.
pub(super) fn cells(form: Form, about: &About) -> Cells {
    let context = about.context();
    Cells::new(form, context.offset, context.users, TimeZone::system())
}

/// A reader that goes away has read enough.
pub(super) fn carry_on(written: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match written {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::failed(format_args!(
            "cannot write to stdout: {error}"
        ))),
    }
}
