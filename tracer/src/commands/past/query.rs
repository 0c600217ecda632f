//! `tracer query`: what happened, as it was written down.
//!
//! In: the history, a window, a filter; or a question in SQL. Out: items or rows.

use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use hashbrown::HashSet;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Shape, Show, carry_on, open, window};
use crate::cli::{QueryArgs, Subject};
use crate::config::Surroundings;
use crate::failure::Failure;
use crate::history::baseline::FirstSeen;
use crate::history::reader::History;
use crate::history::reader::sql::{Answer, Cell};
use crate::history::window::Window;
use crate::history::{Item, What};
use crate::output::past::{self, Columns};
use crate::output::table::Table;

/// Of which time, unless told otherwise.
const DEFAULT_SINCE: &str = "1h";
/// How often to look for what is new.
const INTERVAL: Duration = Duration::from_secs(1);
/// How far to look back then, in nanoseconds: what is written late is not much later than that.
const OVERLAP_NS: i64 = 10_000_000_000;

pub(in crate::commands) fn query(
    args: &QueryArgs,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    if args.first_seen && args.subject != Subject::Procs {
        return Err(Failure::usage(
            "--first-seen is about programs: `tracer query procs --first-seen`",
        ));
    }
    let shape = Shape::of(args.past.output, surroundings);
    let window = window(&args.past.span, DEFAULT_SINCE)?;
    let mut history = open(&args.past.span, window)?;
    if let Some(question) = &args.sql {
        return sql(&history, question, shape);
    }
    let kind = args.subject.kind();
    let first_seen = args
        .first_seen
        .then(|| first_seen(args, window))
        .transpose()?;
    let mut show = Show::new(args.filter.resolve(), shape, history.about(), |wide| {
        Columns::of(kind, wide)
    });
    let mut seen = HashSet::new();
    list(
        args,
        &mut history,
        first_seen.as_ref(),
        &mut show,
        &mut seen,
    )?;
    if !args.follow {
        return Ok(());
    }
    loop {
        thread::sleep(INTERVAL);
        let since = Timestamp::now().as_nanosecond() as i64 - OVERLAP_NS;
        let window = Window {
            since: since.max(window.since),
            ..window
        };
        let mut history = History::open(&args.past.span.history, window)?;
        show.renew(history.about());
        list(args, &mut history, None, &mut show, &mut seen)?;
    }
}

/// When programs were first seen.
fn first_seen(args: &QueryArgs, window: Window) -> Result<FirstSeen, Failure> {
    let directory = &args.past.span.history;
    let first_seen = FirstSeen::open(directory).map_err(|error| {
        Failure::failed(format_args!(
            "cannot read which programs have run before, in {}: {error}",
            directory.display()
        ))
    })?;
    if first_seen.begun > window.since {
        let begun = Timestamp::from_nanosecond(first_seen.begun.into()).unwrap_or_default();
        // Where stderr is closed, nobody reads notes.
        let _ = writeln!(
            io::stderr(),
            "tracer: note: what ran before {begun:.0} is not known: it is taken for new if it has run since"
        );
    }
    Ok(first_seen)
}

/// Whether what a process runs was first seen to run at `since` or later. Of what cannot be told, yes.
fn is_new(first_seen: Option<&FirstSeen>, item: &Item, since: i64) -> bool {
    let (Some(first_seen), Some(image)) = (first_seen, &item.process) else {
        return true;
    };
    let first = first_seen.of(image).ok().flatten();
    first.is_none_or(|first| first >= since)
}

/// What an item is, among those of its kind.
type Key = (bool, u64, u64, u32);

fn key(item: &Item) -> Key {
    let is_open = matches!(item.what, What::Opened(_)) || item.over.is_none();
    match past::connection(item) {
        Some(connection) => {
            let id = connection.id;
            (is_open, item.time.0, id.first_seen_ns, id.serial)
        }
        None => {
            let key = item.process.as_ref().map(|image| image.key);
            let key = key.map_or((0, 0), |key| (key.start_ns, key.tgid));
            (false, item.time.0, key.0, key.1)
        }
    }
}

/// Shows what has not been shown; `seen` is what was there the last time.
fn list(
    args: &QueryArgs,
    history: &mut History,
    first_seen: Option<&FirstSeen>,
    show: &mut Show,
    seen: &mut HashSet<Key>,
) -> Result<(), Failure> {
    let since = history.window().since;
    let mut failure = None;
    let mut now_seen = HashSet::new();
    history.visit(args.subject.kind(), &mut |file, item| {
        if args.follow {
            let key = key(&item);
            now_seen.insert(key);
            if seen.contains(&key) {
                return ControlFlow::Continue(());
            }
        }
        if !show.admits(&item) || !is_new(first_seen, &item, since) {
            return ControlFlow::Continue(());
        }
        match show.show(file, &item) {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    *seen = now_seen;
    match failure {
        Some(failure) => Err(failure),
        None => show.flush(),
    }
}

/// Shows the answer to a question in SQL.
struct ShowAnswer {
    shape: Shape,
    out: Option<BufWriter<StdoutLock<'static>>>,
    table: Option<Table<BufWriter<StdoutLock<'static>>>>,
    titles: Vec<String>,
}

fn sql(history: &History, question: &str, shape: Shape) -> Result<(), Failure> {
    let mut answer = ShowAnswer {
        shape,
        out: Some(BufWriter::with_capacity(64 << 10, io::stdout().lock())),
        table: None,
        titles: Vec::new(),
    };
    history.ask(question, &mut answer)?;
    let written = match (&mut answer.out, &mut answer.table) {
        (Some(out), _) => out.flush(),
        (None, Some(table)) => table.flush(),
        (None, None) => Ok(()),
    };
    carry_on(written).map(drop)
}

impl Answer for ShowAnswer {
    type Error = Failure;

    fn begin(&mut self, titles: &[&str]) -> Result<(), Failure> {
        self.titles = titles.iter().map(|&title| title.to_owned()).collect();
        if let Shape::Rows { form, .. } = self.shape {
            self.table = self.out.take().map(|out| Table::new(form, titles, out));
        }
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> Result<ControlFlow<()>, Failure> {
        let written = match (&mut self.out, &mut self.table) {
            (Some(out), _) => {
                let members = self
                    .titles
                    .iter()
                    .cloned()
                    .zip(cells.into_iter().map(value));
                let object = Value::Object(members.collect::<Map<_, _>>());
                writeln!(out, "{object}")
            }
            (None, Some(table)) => table.push(cells.iter().map(Cell::to_string).collect()),
            (None, None) => Ok(()),
        };
        carry_on(written)
    }
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Nothing => Value::Null,
        Cell::Integer(number) => number.into(),
        Cell::Real(number) => number.into(),
        Cell::Text(text) => text.into(),
        Cell::Bytes(_) => cell.to_string().into(),
    }
}
