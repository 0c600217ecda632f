//! `tracer report`: what happened with a process, an address or in a time, to be handed on.
//!
//! In: the history, a window, a subject. Out: a page of HTML, the events that it tells of as JSON lines, and the
//! hashes of both.

mod gaps;
mod subject;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use self::gaps::Gaps;
use self::subject::Subject;
use super::destination::Destination;
use super::progress::Progress;
use super::{open, window};
use crate::cli::ReportArgs;
use crate::clock::WallOffset;
use crate::failure::Failure;
use crate::history::reader::{History, Kind};
use crate::output::json::Json;
use crate::output::record::Record;
use crate::output::report::{Evidence, Heading, Report};
use crate::output::{About, Format as _};
use crate::process::image::Image;

/// Of which time, unless told otherwise.
const DEFAULT_SINCE: &str = "1d";

pub(in crate::commands) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let paths = Paths::of(&args.out)?;
    let window = window(&args.span, DEFAULT_SINCE)?;
    let mut history = open(&args.span, window)?;
    let abouts = history.about();
    let subject = Subject::find(args.subject, &mut history, &abouts)?;
    let heading = Heading {
        subject: subject.words(),
        window,
        made: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        notes: history.notes.clone(),
    };
    let mut report = Report::new(heading, abouts.clone(), &TimeZone::system());
    if subject.too_many {
        report.note(
            "more processes had to do with this address than can be followed: of some, beginning and end are not told"
                .to_owned(),
        );
    }
    let mut events = Hashed::create(&paths.events)?;
    gather(&mut history, &abouts, &subject, &mut report, &mut events)?;
    if report.is_empty() {
        drop(events);
        paths.forget();
        return Err(Failure::failed(format_args!(
            "nothing is known of this in the history in {}: give an earlier --since, or another subject",
            args.span.history.display()
        )));
    }
    let events = events.finish(&paths.events)?;
    let mut page = Hashed::create(&paths.page)?;
    let evidence = Evidence {
        name: file_name(&paths.events),
        sha256: events.1.clone(),
    };
    if let Err(error) = report.write(&mut page, &evidence) {
        return page.failure(&error);
    }
    let page = page.finish(&paths.page)?;
    let mut sums = Hashed::create(&paths.sums)?;
    for ((_, hash), path) in [(&page, &paths.page), (&events, &paths.events)] {
        if let Err(error) = writeln!(sums, "{hash}  {}", file_name(path)) {
            return sums.failure(&error);
        }
    }
    let sums = sums.finish(&paths.sums)?;
    for (destination, _) in [events, page, sums] {
        destination.commit()?;
    }
    // Where stderr is closed, nobody reads it.
    let _ = writeln!(
        io::stderr(),
        "tracer: {} events in {}, {} and {}",
        report.events(),
        paths.page.display(),
        file_name(&paths.events),
        file_name(&paths.sums)
    );
    Ok(())
}

/// Goes through the history once, for the page and for the evidence.
fn gather(
    history: &mut History,
    abouts: &[About],
    subject: &Subject,
    report: &mut Report,
    events: &mut Hashed,
) -> Result<(), Failure> {
    let mut progress = Progress::of(history);
    let mut json: Option<(usize, Box<Json>)> = None;
    let (mut line, mut sequence) = (Vec::new(), 0);
    let mut written = Ok(());
    let mut gaps = Gaps::of(history, report.made())?;
    let owner = |file: usize, image: &Image| subject.owns(abouts[file].host.boot_id, image);
    history.visit_in_order(&Kind::ALL, subject.glance(&owner), &mut |file, item| {
        let about = &abouts[file];
        let time = WallOffset::new(about.offset).unix_nanoseconds(item.time);
        progress.row(time);
        gaps.saw(file, time);
        let observation = item.observation();
        let Some(observation) = observation.filter(|_| subject.has(about.host.boot_id, &item))
        else {
            return ControlFlow::Continue(());
        };
        report.add(file, &item);
        if json.as_ref().is_none_or(|(of, _)| *of != file) {
            json = Some((file, Json::new(about.context()).into()));
        }
        if let Some((_, json)) = &mut json {
            line.clear();
            json.line(&Record::of(&observation), sequence, &mut line);
            sequence += 1;
            written = events.write_all(&line);
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    progress.finish();
    gaps.notes().into_iter().for_each(|note| report.note(note));
    match written {
        Ok(()) => Ok(()),
        Err(error) => events.failure(&error),
    }
}

/// What a report consists of.
#[derive(Debug, PartialEq, Eq)]
struct Paths {
    page: PathBuf,
    events: PathBuf,
    sums: PathBuf,
    /// The directory, if it was made for this.
    made: Option<PathBuf>,
}

impl Paths {
    /// In a directory, which is made, or by the name of the page. Nothing is written over: it may be evidence.
    fn of(out: &Path) -> Result<Self, Failure> {
        let is_page = out
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("html"));
        let paths = if is_page && !out.is_dir() {
            Self {
                page: out.to_owned(),
                events: out.with_extension("ndjson"),
                sums: out.with_extension("SHA256SUMS"),
                made: None,
            }
        } else {
            let is_new = !out.is_dir();
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(out);
            made.map_err(|error| {
                Failure::failed(format_args!("cannot make {}: {error}", out.display()))
            })?;
            Self {
                page: out.join("report.html"),
                events: out.join("events.ndjson"),
                sums: out.join("SHA256SUMS"),
                made: is_new.then(|| out.to_owned()),
            }
        };
        for path in [&paths.page, &paths.events, &paths.sums] {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::failed(format_args!(
                    "{} is already there, and a report is not written over: give another --out",
                    path.display()
                )));
            }
        }
        Ok(paths)
    }

    /// There is nothing to write.
    fn forget(&self) {
        if let Some(made) = &self.made {
            // An empty directory that stays is no harm.
            let _ = fs::remove_dir(made);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A file, and the hash of what has been written to it.
struct Hashed {
    out: BufWriter<Destination>,
    hash: Sha256,
}

impl Hashed {
    fn create(path: &Path) -> Result<Self, Failure> {
        let destination = Destination::file(path)?;
        Ok(Self {
            out: BufWriter::with_capacity(64 << 10, destination),
            hash: Sha256::new(),
        })
    }

    fn failure(&self, error: &io::Error) -> Result<(), Failure> {
        self.out.get_ref().failure(error)
    }

    /// All is written, though not by its name yet; and the hash, in hexadecimal digits.
    fn finish(mut self, path: &Path) -> Result<(Destination, String), Failure> {
        if let Err(error) = self.out.flush() {
            return Err(Failure::failed(format_args!(
                "cannot write {}: {error}",
                path.display()
            )));
        }
        let hash = self.hash.finalize();
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((self.out.into_parts().0, hash))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_goes_into_a_directory_or_beside_its_page() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("case-7");
        let paths = Paths::of(&out).unwrap();
        assert_eq!(paths.page, out.join("report.html"));
        assert_eq!(paths.sums, out.join("SHA256SUMS"));
        let paths = Paths::of(&directory.path().join("a.html")).unwrap();
        assert_eq!(paths.events, directory.path().join("a.ndjson"));
    }

    #[test]
    fn a_report_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("events.ndjson"), "evidence").unwrap();
        let failure = Paths::of(directory.path()).unwrap_err().to_string();
        assert!(
            failure.contains("events.ndjson is already there"),
            "{failure}"
        );
    }
}
