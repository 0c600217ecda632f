//! `tracer export`: the history for others to read.
//!
//! In: the history, a window, a filter. Out: JSON lines, CSV, Zeek's `conn.log` or Parquet, on stdout or in a file.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::destination::Destination;
use super::progress::Progress;
use super::{cells, open, window_from};
use crate::cli::{ExportArgs, ExportFormat, Subject};
use crate::clock::WallOffset;
use crate::failure::Failure;
use crate::history::Item;
use crate::history::reader::{Glance, History, Kind, ReadError};
use crate::output::json::Json;
use crate::output::parquet::Parquet;
use crate::output::past::{Cells, Columns};
use crate::output::record::Record;
use crate::output::table::{Form, Table};
use crate::output::zeek::Zeek;
use crate::output::{About, Format as _};

type Out = BufWriter<Destination>;

pub(in crate::commands) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let kinds = kinds(args.format, args.subject)?;
    if args.format == ExportFormat::Parquet
        && args.output_file.is_none()
        && io::stdout().is_terminal()
    {
        return Err(Failure::usage(
            "Parquet is nothing for a terminal: give --output-file PATH",
        ));
    }
    let mut history = open(&args.span, window_from(&args.span, None)?)?;
    let destination = match &args.output_file {
        Some(path) => Destination::file(path)?,
        None => Destination::stdout()?,
    };
    let mut out = BufWriter::with_capacity(64 << 10, destination);
    match write(args, &kinds, &mut history, &mut out) {
        Ok(read) => read?,
        Err(error) => return out.get_ref().failure(&error),
    }
    // Everything has been flushed.
    let (destination, _) = out.into_parts();
    destination.commit()
}

/// Writes everything; tells apart what could not be written from what could not be read.
fn write(
    args: &ExportArgs,
    kinds: &[Kind],
    history: &mut History,
    out: &mut Out,
) -> io::Result<Result<(), ReadError>> {
    let mut progress = Progress::of(history);
    let filter = args.filter.resolve();
    let abouts = history.about();
    let mut writer = Writer::new(args.format, kinds[0], out)?;
    let mut written = Ok(());
    let read = history.visit_in_order(kinds, Glance::All, &mut |file, item| {
        let observation = item.observation();
        let record = observation.as_ref().map(Record::of);
        let Some(record) = record.filter(|record| filter.admits(record)) else {
            return ControlFlow::Continue(());
        };
        let about = &abouts[file];
        progress.row(WallOffset::new(about.offset).unix_nanoseconds(item.time));
        written = writer.item(file, about, &item, &record);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    written?;
    writer.finish()?;
    progress.finish();
    out.flush()?;
    Ok(read)
}

/// What a format can hold.
fn kinds(format: ExportFormat, subject: Option<Subject>) -> Result<Vec<Kind>, Failure> {
    let kind = subject.map(Subject::kind);
    let flat = [Kind::Connections, Kind::Flows];
    match (format, kind) {
        (ExportFormat::Ndjson, None) => Ok(Kind::ALL.to_vec()),
        (ExportFormat::Ndjson, Some(Kind::Processes)) => Ok(vec![Kind::Processes, Kind::Exits]),
        (ExportFormat::Zeek, None) => Ok(flat.to_vec()),
        (ExportFormat::Csv | ExportFormat::Parquet, None) => Ok(vec![Kind::Connections]),
        (ExportFormat::Zeek | ExportFormat::Parquet, Some(kind)) if !flat.contains(&kind) => {
            Err(Failure::usage(
                "zeek and parquet are for connections and flows: take ndjson or csv for others",
            ))
        }
        (_, Some(kind)) => Ok(vec![kind]),
    }
}

/// Writes items in a format.
enum Writer<'a> {
    Ndjson {
        out: &'a mut Out,
        json: Option<(usize, Box<Json>)>,
        line: Vec<u8>,
        sequence: u64,
    },
    Csv {
        table: Table<&'a mut Out>,
        columns: Columns,
        cells: Option<(usize, Box<Cells>)>,
    },
    Zeek {
        out: &'a mut Out,
        zeek: Option<(usize, Box<Zeek>)>,
        line: Vec<u8>,
    },
    Parquet {
        parquet: Box<Parquet<&'a mut Out>>,
        file: Option<usize>,
    },
}

impl<'a> Writer<'a> {
    fn new(format: ExportFormat, kind: Kind, out: &'a mut Out) -> io::Result<Self> {
        let line = Vec::new();
        Ok(match format {
            ExportFormat::Ndjson => Self::Ndjson {
                out,
                json: None,
                line,
                sequence: 0,
            },
            ExportFormat::Csv => {
                let columns = Columns::of(kind, true);
                Self::Csv {
                    table: Table::new(Form::Csv, &columns.titles(), out),
                    columns,
                    cells: None,
                }
            }
            ExportFormat::Zeek => {
                out.write_all(Zeek::header(Timestamp::now()).as_bytes())?;
                let zeek = None;
                Self::Zeek { out, zeek, line }
            }
            ExportFormat::Parquet => Self::Parquet {
                parquet: Box::new(Parquet::new(out)?),
                file: None,
            },
        })
    }

    /// An item of a file, and the record that it is.
    fn item(
        &mut self,
        of: usize,
        about: &About,
        item: &Item,
        record: &Record<'_>,
    ) -> io::Result<()> {
        match self {
            Self::Ndjson {
                out,
                json,
                line,
                sequence,
            } => {
                let json = of_file(json, of, || Json::new(about.context()).into());
                line.clear();
                json.line(record, *sequence, line);
                *sequence += 1;
                out.write_all(line)
            }
            Self::Csv {
                table,
                columns,
                cells: made,
            } => {
                let cells = of_file(made, of, || cells(Form::Csv, about).into());
                table.push(columns.cells(cells, item))
            }
            Self::Zeek { out, zeek, line } => {
                let zeek = of_file(zeek, of, || Zeek::new(about.context()).into());
                line.clear();
                zeek.line(record, line);
                out.write_all(line)
            }
            Self::Parquet { parquet, file } => {
                if *file != Some(of) {
                    parquet.of(about.context());
                    *file = Some(of);
                }
                parquet.push(record)
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Ndjson { .. } => Ok(()),
            Self::Csv { mut table, .. } => table.flush(),
            Self::Zeek { out, .. } => out.write_all(Zeek::footer(Timestamp::now()).as_bytes()),
            Self::Parquet { parquet, .. } => parquet.finish(),
        }
    }
}

/// What is made anew for each file, because other things are true of it.
fn of_file<T>(made: &mut Option<(usize, T)>, file: usize, make: impl FnOnce() -> T) -> &mut T {
    let is_other = made.as_ref().is_none_or(|(of, _)| *of != file);
    if is_other {
        *made = None;
    }
    let (_, made) = made.get_or_insert_with(|| (file, make()));
    made
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::history::samples;

    /// What is in the file that the command makes.
    fn exported(directory: &Path, options: &[&str]) -> Vec<u8> {
        let file = directory.join("out");
        let (history, out) = (directory.to_str().unwrap(), file.to_str().unwrap());
        let given = ["tracer", "export", "--history", history, "-f", out];
        let cli = Cli::try_parse_from(given.iter().chain(options)).unwrap();
        let Command::Export(args) = cli.command else {
            panic!("{options:?}");
        };
        export(&args).unwrap();
        fs::read(file).unwrap()
    }

    fn lines(directory: &Path, options: &[&str]) -> Vec<String> {
        let text = String::from_utf8(exported(directory, options)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_format_has_each_connection_once() {
        let directory = tempfile::tempdir().unwrap();
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let items = (1..=50).map(|time| {
            let connection = samples::connection(&curl, time, "192.0.2.7:445");
            samples::ended(&curl, time + 100, connection)
        });
        samples::write(directory.path(), items.collect());
        let count = |options: &[&str]| lines(directory.path(), options).len();
        assert_eq!(count(&["--format", "ndjson"]), 50);
        assert_eq!(count(&["--format", "csv"]), 50 + 1);
        assert_eq!(count(&["--format", "zeek"]), 50 + 9);
        assert_eq!(count(&["--format", "ndjson", "--pid", "8"]), 0);
        let parquet = exported(directory.path(), &["--format", "parquet"]);
        assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    }

    #[test]
    fn documents_are_numbered_in_order_of_time() {
        let directory = tempfile::tempdir().unwrap();
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let times = [30, 10, 20].map(|time| {
            let connection = samples::connection(&curl, 1, "192.0.2.7:445");
            samples::ended(&curl, time, connection)
        });
        samples::write(directory.path(), times.into());
        let lines = lines(directory.path(), &["--format", "ndjson"]);
        let documents = lines.iter().map(|line| {
            let document: serde_json::Value = serde_json::from_str(line).unwrap();
            let time = document["@timestamp"].as_str().unwrap().to_owned();
            (document["event"]["sequence"].as_u64().unwrap(), time)
        });
        let documents: Vec<_> = documents.collect();
        assert!(documents.is_sorted_by_key(|(_, time)| time.clone()));
        assert!(documents.iter().map(|it| it.0).eq(0..3));
    }

    #[test]
    fn a_format_is_only_asked_for_what_it_can_hold() {
        let of = |format, subject| kinds(format, subject).ok();
        assert_eq!(of(ExportFormat::Zeek, Some(Subject::Lookups)), None);
        assert_eq!(of(ExportFormat::Parquet, Some(Subject::Procs)), None);
        assert_eq!(
            of(ExportFormat::Parquet, Some(Subject::Flows)),
            Some(vec![Kind::Flows])
        );
        assert_eq!(of(ExportFormat::Ndjson, None), Some(Kind::ALL.to_vec()));
    }
}
