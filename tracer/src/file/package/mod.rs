//! The package that a file came with.
//!
//! In: a file, its digests, and the root directory below which it has its path. Out: its package, or that
//! it has none, from the databases in that root; unknown where there is none or where it is just changing.

mod budget;
mod dpkg;
mod header;
mod rpm;

use std::fs::Metadata;
use std::io::{self, Write as _};

use self::budget::Budget;
use self::dpkg::Dpkg;
use super::digest::{Digests, Reader};
use super::found::Found;
use super::root::{Root, is_same_file};
use crate::process::claims::base_name;
use crate::process::content::{Origin, Package};

/// Longer names, versions and architectures are those of a broken database.
const WORD_MAX: usize = 256;

/// How many entries for a file are looked at; more is what no database has.
const CANDIDATES_MAX: usize = 64;

/// What a package database says of a file.
enum Answer {
    /// There is no such database.
    NoDatabase,
    /// The database cannot be read, or it is just changing.
    Unreadable,
    /// These packages have it: mostly none or one.
    Owners(Vec<Package>),
}

/// A file whose package is wanted.
struct Question<'a> {
    root: &'a Root,
    /// Its path below the root.
    path: &'a [u8],
    stat: &'a Metadata,
    digests: Option<Digests>,
    budget: Budget,
}

/// Looks packages up.
#[derive(Default)]
pub(super) struct Packages {
    dpkg: Dpkg,
    /// It has been told that a database is of an old kind.
    has_told_of_old: bool,
}

impl Packages {
    /// Where a file comes from that has `path`, as the process saw it. What is read for that `reader`
    /// makes up for afterwards.
    pub(super) fn origin(
        &mut self,
        found: &Found,
        path: &[u8],
        digests: Option<Digests>,
        reader: &mut Reader,
    ) -> Origin {
        let (Some(root), Ok(stat)) = (&found.root, found.file.metadata()) else {
            return Origin::Unknown;
        };
        let question = Question {
            root,
            path,
            stat: &stat,
            digests,
            budget: Budget::default(),
        };
        if !question.has_path() {
            return Origin::Unknown;
        }
        let origin = conclude([self.dpkg.ask(&question), self.ask_rpm(&question)]);
        reader.make_up_for(question.budget.bytes_read());
        // While packages are changed, the path may have become another file's.
        if question.has_path() {
            origin
        } else {
            Origin::Unknown
        }
    }

    fn ask_rpm(&mut self, question: &Question<'_>) -> Answer {
        if rpm::is_of_old_kind(question.root) {
            if !std::mem::replace(&mut self.has_told_of_old, true) {
                // Where stderr is closed, nobody waits for it.
                let _ = writeln!(
                    io::stderr(),
                    "tracer: note: an RPM database of an old kind (Berkeley DB or ndb) cannot be read: \
                     the packages of what runs there stay unknown"
                );
            }
            return Answer::Unreadable;
        }
        rpm::ask(question)
    }
}

impl Question<'_> {
    /// Whether the path is that of the file.
    fn has_path(&self) -> bool {
        self.path.starts_with(b"/") && self.has(self.path)
    }

    /// Whether what has that path is the file; an error if too many paths were followed.
    fn is_at(&self, path: &[u8]) -> io::Result<bool> {
        self.budget.look_up()?;
        Ok(self.has(path))
    }

    fn has(&self, path: &[u8]) -> bool {
        let found = self.root.stat(path);
        found.is_ok_and(|found| is_same_file(&found, self.stat))
    }

    fn base_name(&self) -> &[u8] {
        base_name(self.path)
    }
}

/// What all databases of a root say together.
fn conclude(answers: [Answer; 2]) -> Origin {
    let mut owners = Vec::new();
    let (mut has_database, mut is_complete) = (false, true);
    for answer in answers {
        match answer {
            Answer::NoDatabase => {}
            Answer::Unreadable => is_complete = false,
            Answer::Owners(found) => {
                has_database = true;
                owners.extend(found);
            }
        }
    }
    // Of several that claim the same file it is that one's whose content it has.
    let intact = owners
        .iter()
        .position(|package| package.intact == Some(true));
    match (intact, owners.len()) {
        (Some(place), _) => Origin::Package(Box::new(owners.swap_remove(place))),
        (None, 1) => Origin::Package(Box::new(owners.swap_remove(0))),
        (None, 0) if has_database && is_complete => Origin::Unpackaged,
        (None, _) => Origin::Unknown,
    }
}

/// The bytes that hexadecimal digits stand for.
fn from_hex<const LENGTH: usize>(digits: &[u8]) -> Option<[u8; LENGTH]> {
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::process::content::PackageKind;

    fn package(name: &'static str, intact: Option<bool>) -> Package {
        Package {
            kind: PackageKind::Deb,
            name: Bytes::from_static(name.as_bytes()),
            version: Bytes::from_static(b"1"),
            architecture: Bytes::from_static(b"all"),
            intact,
        }
    }

    fn of(packages: &[Package]) -> [Answer; 2] {
        [Answer::Owners(packages.to_vec()), Answer::NoDatabase]
    }

    #[test]
    fn only_a_database_that_was_read_makes_a_file_unpackaged() {
        assert_eq!(conclude(of(&[])), Origin::Unpackaged);
        let none = [Answer::NoDatabase, Answer::NoDatabase];
        assert_eq!(conclude(none), Origin::Unknown);
        let half = [Answer::Owners(Vec::new()), Answer::Unreadable];
        assert_eq!(conclude(half), Origin::Unknown);
    }

    #[test]
    fn of_several_packages_it_is_the_one_that_has_the_content() {
        let (one, other) = (package("one", Some(false)), package("other", Some(true)));
        let both = [one.clone(), other.clone()];
        assert_eq!(conclude(of(&both)), Origin::Package(Box::new(other)));
        let alike = [one.clone(), one.clone()];
        assert_eq!(conclude(of(&alike)), Origin::Unknown);
        assert_eq!(
            conclude(of(&alike[..1])),
            Origin::Package(Box::new(one.clone()))
        );
    }

    #[test]
    fn digits_that_are_none_are_no_digest() {
        assert_eq!(from_hex(b"00ff"), Some([0, 255]));
        assert_eq!(from_hex::<2>(b"00f"), None);
        assert_eq!(from_hex::<2>(b"00fg"), None);
    }
}
