//! Packages of Debian and its kin, from dpkg's own files (deb(5), dpkg-query(1)).
//!
//! In: a file in a root. Out: the installed packages that list it there. A path in a list means whatever
//! file it leads to, so that merged directories (`/bin` as a link to `/usr/bin`) need no knowledge.

mod index;
mod status;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::Dir;

use self::index::Index;
use self::status::Entry;
use super::super::root::Root;
use super::budget::Budget;
use super::{Answer, CANDIDATES_MAX, Question, base_name, from_hex};
use crate::process::content::Package;

/// Where the lists of files are.
const INFO: &str = "var/lib/dpkg/info";
const STATUS: &[u8] = b"var/lib/dpkg/status";
const DIVERSIONS: &[u8] = b"var/lib/dpkg/diversions";
/// What dpkg has done and not yet entered into the status.
const UPDATES: &[u8] = b"var/lib/dpkg/updates";

/// The status of a host with very many packages.
const STATUS_MAX: u64 = 64 << 20;
/// The files of a very large package.
const LIST_MAX: u64 = 32 << 20;

/// In how many roots databases are remembered: the host's and those of some containers.
const ROOTS: usize = 4;

/// Asks the databases of dpkg.
#[derive(Default)]
pub(super) struct Dpkg {
    /// The one asked last comes last. `None` if it is more than a database can be, until it changes.
    databases: Vec<(Edition, Option<Index>)>,
}

/// A database at one time: whatever dpkg does changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edition([(u64, u64, i64, i64); 3]);

impl Dpkg {
    /// Which packages have that file.
    pub(super) fn ask(&mut self, question: &Question<'_>) -> Answer {
        let Some(edition) = Edition::of(question.root) else {
            return Answer::NoDatabase;
        };
        let answer = self.owners(question, edition);
        // Only what has not changed meanwhile, nor is about to, says anything.
        let is_settled = Edition::of(question.root) == Some(edition) && is_settled(question.root);
        match answer {
            Ok(owners) if is_settled => Answer::Owners(owners),
            _ => Answer::Unreadable,
        }
    }

    fn owners(&mut self, question: &Question<'_>, edition: Edition) -> io::Result<Vec<Package>> {
        let index = self.index(question, edition)?;
        let name = question.base_name();
        let mut owners = Vec::new();
        for package in index.packages_with(name)? {
            for listed in info(question.root, &question.budget, package, "list")? {
                let listed = listed?;
                let path = index.path_of(package, &listed);
                if base_name(path) == name && question.is_at(path)? {
                    owners.push(owner(question, package, &listed)?);
                }
                if owners.len() > CANDIDATES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(owners)
    }

    /// What is known of a database, after reading it if it has changed.
    fn index(&mut self, question: &Question<'_>, edition: Edition) -> io::Result<&Index> {
        let known = self
            .databases
            .iter()
            .position(|(known, _)| *known == edition);
        let database = match known {
            Some(place) => self.databases.remove(place),
            None => (edition, read(question)?),
        };
        self.databases
            .retain(|(known, _)| !known.is_of_same(&edition));
        if self.databases.len() >= ROOTS {
            self.databases.remove(0);
        }
        self.databases.push(database);
        self.databases
            .last()
            .and_then(|(_, index)| index.as_ref())
            .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }
}

/// Reads a database; `None` if it is larger than any, which it will be the next time, too.
fn read(question: &Question<'_>) -> io::Result<Option<Index>> {
    match Index::read(question.root, &question.budget) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
        index => index.map(Some),
    }
}

impl Edition {
    /// `None` if there is no database.
    fn of(root: &Root) -> Option<Self> {
        let mark = |stat: Metadata| (stat.dev(), stat.ino(), stat.mtime(), stat.mtime_nsec());
        Some(Self([
            mark(root.stat(INFO.as_bytes()).ok()?),
            mark(root.stat(STATUS).ok()?),
            root.stat(DIVERSIONS).map_or((0, 0, 0, 0), mark),
        ]))
    }

    /// Whether both are of one database, at whatever time.
    fn is_of_same(&self, other: &Self) -> bool {
        let directory = |edition: &Self| (edition.0[0].0, edition.0[0].1);
        directory(self) == directory(other)
    }
}

/// Whether dpkg has entered all that it has done.
fn is_settled(root: &Root) -> bool {
    let entries = || Dir::new(root.directory(UPDATES)?).map_err(io::Error::from);
    let is_entry = |name: &[u8]| name != b"." && name != b"..";
    entries().is_ok_and(|mut entries| {
        !entries.any(|entry| entry.map_or(true, |entry| is_entry(entry.file_name().to_bytes())))
    })
}

/// The lines of one of a package's files.
fn info<'a>(
    root: &Root,
    budget: &'a Budget,
    package: &[u8],
    kind: &str,
) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<'a>> {
    let path = [INFO.as_bytes(), b"/", package, b".", kind.as_bytes()].concat();
    Ok(budget.lines(root.lines(&path, LIST_MAX)?))
}

/// The package, and whether the file is as it brought it. A package that lists the file without being
/// there is an error: it may be half removed.
fn owner(question: &Question<'_>, package: &[u8], listed: &[u8]) -> io::Result<Package> {
    let budget = &question.budget;
    let status = budget.lines(question.root.lines(STATUS, STATUS_MAX)?);
    let paragraph = status::find(status, package)?.ok_or(io::ErrorKind::NotFound)?;
    let entry = Entry::of(&paragraph).ok_or(io::ErrorKind::InvalidData)?;
    // Not every package has digests.
    let sum = info(question.root, budget, package, "md5sums").map(|sums| sum_of(sums, listed));
    let sum = sum.ok().flatten().or_else(|| entry.conffile_sum(listed));
    let expected: Option<[u8; 16]> = sum.as_deref().and_then(from_hex);
    let found = question.digests.map(|digests| digests.md5);
    let intact = expected
        .zip(found)
        .map(|(expected, found)| expected == found);
    Ok(entry.package(intact))
}

/// The digest of a file in lines of `DIGEST  PATH`, without a slash before the path.
fn sum_of(sums: impl Iterator<Item = io::Result<Vec<u8>>>, listed: &[u8]) -> Option<Vec<u8>> {
    let path = listed.strip_prefix(b"/").unwrap_or(listed);
    sums.map_while(Result::ok).find_map(|line| {
        let (sum, rest) = line.split_at_checked(32)?;
        (rest.strip_prefix(b"  ")? == path).then(|| sum.to_vec())
    })
}

#[cfg(test)]
mod tests;
