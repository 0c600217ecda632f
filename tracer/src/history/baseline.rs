//! Which programs have ever run on this host: what is new is told by what is old.
//!
//! In: processes that became another program. Out: for each program, when it was first seen to run. It outlives the
//! files of the history, and is bounded: whatever has not run for longest is forgotten first.
//!
//! A program is a path with the size and the time of change of its file, and the script where it is an interpreter:
//! an update makes a new one, another container of the same image does not.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Result, params};

use super::intern::Text;
use super::item::{Item, What};
use crate::clock::WallOffset;
use crate::process::image::Image;

/// How many programs are known at most.
const PROGRAMS_MAX: i64 = 200_000;

/// The name of its file.
const FILE: &str = "baseline.db";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS program (
  path, size INTEGER, changed INTEGER, script, first INTEGER, last INTEGER, runs INTEGER,
  PRIMARY KEY (path, size, changed, script)) WITHOUT ROWID;
";

/// When programs were first seen, while it is written.
pub(super) struct Baseline {
    database: Connection,
}

/// A program that ran, how often, and when first and last.
struct Ran<'a> {
    image: &'a Image,
    runs: i64,
    first: i64,
    last: i64,
}

impl Baseline {
    /// Where it is.
    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Opens it, or begins it `now`, in nanoseconds since 1970.
    pub(super) fn open(directory: &Path, now: i64) -> Result<Self> {
        let database = Connection::open(Self::path(directory))?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        database.execute_batch(TABLES)?;
        database.execute("INSERT OR IGNORE INTO meta VALUES ('begun', ?1)", [now])?;
        Ok(Self { database })
    }

    /// Remembers what ran.
    pub(super) fn learn(&mut self, items: &[Item], offset: &WallOffset) -> Result<()> {
        let mut ran = HashMap::<_, Ran<'_>>::new();
        for item in items {
            let (What::Executed, Some(image)) = (&item.what, &item.process) else {
                continue;
            };
            let time = offset.unix_nanoseconds(item.time);
            let key = key(image);
            let program = ran.entry(key).or_insert(Ran {
                image,
                runs: 0,
                first: time,
                last: time,
            });
            program.runs += 1;
            program.last = program.last.max(time);
        }
        if ran.is_empty() {
            return Ok(());
        }
        let transaction = self.database.transaction()?;
        let mut new = 0;
        {
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO program (path, size, changed, script, first, last, runs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT DO UPDATE SET last = max(last, excluded.last), runs = runs + excluded.runs
                 RETURNING runs = ?7",
            )?;
            for program in ran.values() {
                let (path, size, changed, script) = key(program.image);
                let is_new: bool = upsert.query_row(
                    params![
                        Text(path),
                        size,
                        changed,
                        Text(script),
                        program.first,
                        program.last,
                        program.runs
                    ],
                    |row| row.get(0),
                )?;
                new += i64::from(is_new);
            }
        }
        if new > 0 {
            transaction.execute(
                "DELETE FROM program WHERE last <= (SELECT last FROM program ORDER BY last DESC
                 LIMIT 1 OFFSET ?1)",
                [PROGRAMS_MAX],
            )?;
        }
        transaction.commit()
    }
}

fn key(image: &Image) -> (&[u8], i64, i64, &[u8]) {
    let program = &image.program;
    let version = program.file.map(|file| file.version).unwrap_or_default();
    (
        &program.executable,
        version.size.cast_signed(),
        version.changed_ns,
        &program.script,
    )
}

/// When programs were first seen, to be asked.
pub struct FirstSeen {
    database: Connection,
    /// When it was begun, in nanoseconds since 1970: of programs that ran before that, nothing is known.
    pub begun: i64,
}

impl FirstSeen {
    /// That of a history.
    pub fn open(directory: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(Baseline::path(directory), flags)?;
        let select = "SELECT value FROM meta WHERE key = 'begun'";
        let begun = database.query_row(select, [], |row| row.get(0))?;
        Ok(Self { database, begun })
    }

    /// When what a process runs was first seen to run, in nanoseconds since 1970; `None` if it is not known.
    pub fn of(&self, image: &Image) -> Result<Option<i64>> {
        let (path, size, changed, script) = key(image);
        let mut select = self.database.prepare_cached(
            "SELECT first FROM program WHERE path = ?1 AND size = ?2 AND changed = ?3 AND script = ?4",
        )?;
        let first = select.query_row(params![Text(path), size, changed, Text(script)], |row| {
            row.get(0)
        });
        first.optional()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::BootTime;
    use crate::process::image::Program;

    fn executed(path: &'static [u8], time: u64) -> Item {
        let program = Program {
            executable: path.into(),
            ..Program::default()
        };
        Item {
            time: BootTime(time),
            process: Some(Arc::new(Image {
                program: Arc::new(program),
                ..Image::sample(1, b"x")
            })),
            what: What::Executed,
            over: None,
            beyond: None,
        }
    }

    #[test]
    fn a_program_is_new_once() {
        let directory = tempfile::tempdir().unwrap();
        let offset = WallOffset::new(1000);
        let mut baseline = Baseline::open(directory.path(), 7).unwrap();
        let items = [executed(b"/a", 5), executed(b"/a", 6)];
        baseline.learn(&items, &offset).unwrap();
        baseline
            .learn(&[executed(b"/a", 9), executed(b"/b", 9)], &offset)
            .unwrap();
        let seen = FirstSeen::open(directory.path()).unwrap();
        let first = |item: Item| seen.of(&item.process.unwrap()).unwrap();
        assert_eq!(seen.begun, 7);
        assert_eq!(first(executed(b"/a", 0)), Some(1005));
        assert_eq!(first(executed(b"/b", 0)), Some(1009));
        assert_eq!(first(executed(b"/c", 0)), None);
    }

    #[test]
    fn what_has_not_run_for_longest_is_forgotten_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut baseline = Baseline::open(directory.path(), 0).unwrap();
        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    INSERT INTO program SELECT '/p' || i, 0, 0, '', i, i, 1 FROM n";
        baseline.database.execute(fill, [PROGRAMS_MAX]).unwrap();
        let new = [executed(b"/new", PROGRAMS_MAX.cast_unsigned() + 1)];
        baseline.learn(&new, &WallOffset::new(0)).unwrap();
        let seen = FirstSeen::open(directory.path()).unwrap();
        let first = |item: Item| seen.of(&item.process.unwrap()).unwrap();
        assert_eq!(first(executed(b"/p1", 0)), None);
        assert_eq!(first(executed(b"/p2", 0)), Some(2));
        assert!(first(executed(b"/new", 0)).is_some());
    }
}
