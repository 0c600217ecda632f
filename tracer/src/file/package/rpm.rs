//! Packages of Fedora, SUSE and their kin, from rpm's database in SQLite (rpm 4.16 and later).
//!
//! In: a file in a root. Out: the installed packages that list it there. The database is read as it lies
//! on the disk: locks are asked about, none is taken, and nothing is written. Who made the one of a container is not known,
//! so what it may cost is bounded.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;

use rusqlite::limits::Limit;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::super::root::{Root, is_same_file, open_regular};
use super::header::{Header, Tag};
use super::{Answer, CANDIDATES_MAX, Question, WORD_MAX, from_hex};
use crate::process::content::{Package, PackageKind};

/// Where distributions have it.
const DIRECTORIES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];

/// Of Berkeley DB and of ndb, as they were before and beside SQLite.
const OLD_FILES: [&str; 2] = ["Packages", "Packages.db"];

/// The database of another root than the tracer's is copied to be read; larger ones are not.
const COPY_MAX: u64 = 32 << 20;

/// The header of a package with very many files.
const HEADER_MAX: i32 = 32 << 20;

/// Steps of SQLite's machine between two looks at the budget, and looks until it is spent.
const STEPS: i32 = 10_000;
const LOOKS_MAX: u32 = 1_000;

/// Digests by MD5 and SHA-256, as RFC 9580 numbers them.
const MD5: u32 = 1;
const SHA256: u32 = 8;

/// Why a database says nothing.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("the database is not as rpm makes it")]
    Form,
}

/// Whether a root has only a database that cannot be read.
pub(super) fn is_of_old_kind(root: &Root) -> bool {
    let mut files = DIRECTORIES
        .into_iter()
        .flat_map(|directory| OLD_FILES.map(|name| file(directory, name)));
    database(root).is_none() && files.any(|file| root.stat(file.as_bytes()).is_ok())
}

/// Which packages have that file.
pub(super) fn ask(question: &Question<'_>) -> Answer {
    let Some((directory, found)) = database(question.root) else {
        return Answer::NoDatabase;
    };
    match owners(question, directory, &found) {
        Ok(owners) => Answer::Owners(owners),
        Err(_) => Answer::Unreadable,
    }
}

fn file(directory: &str, name: &str) -> String {
    format!("{directory}/{name}")
}

/// The directory that has a database, and that.
fn database(root: &Root) -> Option<(&'static str, File)> {
    DIRECTORIES.into_iter().find_map(|directory| {
        let found = root.find(file(directory, "rpmdb.sqlite").as_bytes()).ok()?;
        Some((directory, found))
    })
}

fn owners(
    question: &Question<'_>,
    directory: &str,
    found: &File,
) -> Result<Vec<Package>, Unusable> {
    let Ok(name) = str::from_utf8(question.base_name()) else {
        return Err(Unusable::Form);
    };
    let before = found.metadata()?;
    let database = open(question, directory, found)?;
    let owners = query(&database, name, question)?;
    let after = found.metadata()?;
    let mark = |stat: &Metadata| (stat.size(), stat.mtime(), stat.mtime_nsec());
    // Only what has not changed meanwhile, nor is about to, says anything.
    if mark(&before) != mark(&after) || !is_settled(question.root, directory) {
        return Err(Unusable::Form);
    }
    Ok(owners)
}

/// Whether rpm has entered all that it has done: its log is empty, and nobody holds its lock for writing.
fn is_settled(root: &Root, directory: &str) -> bool {
    let log = root.stat(file(directory, "rpmdb.sqlite-wal").as_bytes());
    if log.is_ok_and(|log| log.size() > 0) {
        return false;
    }
    let lock = root.find(file(directory, ".rpm.lock").as_bytes());
    let Ok(lock) = lock.and_then(|lock| open_regular(&lock)) else {
        return true;
    };
    // Which lock a reader would wait for.
    fcntl_getlk(&lock, &Flock::from(FlockType::ReadLock)).is_ok_and(|writer| writer.is_none())
}

/// SQLite takes paths, and follows links from the tracer's own root. So what another root has is copied.
fn open(question: &Question<'_>, directory: &str, found: &File) -> Result<Connection, Unusable> {
    let path = file(directory, "rpmdb.sqlite");
    let stat = found.metadata()?;
    let own = Root::own().and_then(|own| own.stat(path.as_bytes()));
    let mut database = if own.is_ok_and(|own| is_same_file(&own, &stat)) {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(format!("file:/{path}?immutable=1"), flags)?
    } else {
        copy(question, found)?
    };
    bound(&mut database)?;
    Ok(database)
}

/// A database in memory, read once.
fn copy(question: &Question<'_>, found: &File) -> Result<Connection, Unusable> {
    /// Where the header says whether there is a log beside the file, which a copy has not.
    const FORMATS: std::ops::Range<usize> = 18..20;
    const NO_LOG: u8 = 1;
    let mut file = open_regular(found)?;
    let size = file.metadata()?.size();
    if size > COPY_MAX {
        return Err(Unusable::Form);
    }
    question.budget.read(size)?;
    let mut header = [0; FORMATS.end];
    file.read_exact(&mut header)?;
    header[FORMATS].fill(NO_LOG);
    let size = usize::try_from(size).map_err(|_| Unusable::Form)?;
    let mut database = Connection::open_in_memory()?;
    database.deserialize_read_exact(MAIN_DB, header.as_slice().chain(file), size, true)?;
    Ok(database)
}

fn bound(database: &mut Connection) -> Result<(), Unusable> {
    database.set_limit(Limit::SQLITE_LIMIT_LENGTH, HEADER_MAX)?;
    let mut looks = 0;
    let is_spent = move || {
        looks += 1;
        looks > LOOKS_MAX
    };
    database.progress_handler(STEPS, Some(is_spent))?;
    database.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn query(
    database: &Connection,
    name: &str,
    question: &Question<'_>,
) -> Result<Vec<Package>, Unusable> {
    // Which package has a file of that name, and as its how manieth.
    let mut statement = database.prepare(
        "SELECT Packages.blob, Basenames.idx FROM Basenames JOIN Packages USING (hnum) \
         WHERE Basenames.key IN (?1, CAST(?1 AS BLOB))",
    )?;
    let mut rows = statement.query([name])?;
    let (mut owners, mut count) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        count += 1;
        if count > CANDIDATES_MAX {
            return Err(Unusable::Form);
        }
        let blob = row.get_ref(0)?.as_blob().map_err(|_| Unusable::Form)?;
        let index: u32 = row.get(1)?;
        let header = Header::parse(blob).ok_or(Unusable::Form)?;
        owners.extend(owner(question, header, index as usize)?);
    }
    Ok(owners)
}

/// The package of a header, if its file number `index` is the one in question.
fn owner(
    question: &Question<'_>,
    header: Header<'_>,
    index: usize,
) -> Result<Option<Package>, Unusable> {
    let path = path(header, index).ok_or(Unusable::Form)?;
    if !question.is_at(&path)? {
        return Ok(None);
    }
    let word = |tag| {
        let word = header.string(tag).filter(|word| word.len() <= WORD_MAX);
        word.ok_or(Unusable::Form)
    };
    let (version, release) = (word(Tag::Version)?, word(Tag::Release)?);
    let epoch = header.number(Tag::Epoch, 0);
    let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
    Ok(Some(Package {
        kind: PackageKind::Rpm,
        name: word(Tag::Name)?.to_vec().into(),
        version: [epoch.as_bytes(), version, b"-", release].concat().into(),
        architecture: word(Tag::Architecture)?.to_vec().into(),
        intact: intact(question, header, index),
    }))
}

fn path(header: Header<'_>, index: usize) -> Option<Vec<u8>> {
    let name = header.strings(Tag::BaseNames).nth(index)?;
    let directory = header.number(Tag::DirIndexes, index)?;
    let directory = header.strings(Tag::DirNames).nth(directory as usize)?;
    Some([directory, name].concat())
}

/// Whether the file has the digest that the package tells of it, by an algorithm that is known here.
fn intact(question: &Question<'_>, header: Header<'_>, index: usize) -> Option<bool> {
    let digests = question.digests?;
    let digest = header.strings(Tag::FileDigests).nth(index)?;
    match header.number(Tag::FileDigestAlgorithm, 0).unwrap_or(MD5) {
        MD5 => Some(from_hex(digest)? == digests.md5),
        SHA256 => Some(from_hex(digest)? == digests.sha256),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
