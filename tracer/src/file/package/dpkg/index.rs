//! Which packages may have a file, by its name.
//!
//! In: every list of a database. Out: for the last component of a path the packages that list one like
//! it. Eight bytes for each, so that the host's hundred thousand files take less than a mebibyte; which
//! of those packages has the very file, their lists tell.

use std::hash::{BuildHasher as _, Hasher as _};
use std::io;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rustix::fs::Dir;

use super::super::budget::Budget;
use super::super::{CANDIDATES_MAX, base_name};
use super::{DIVERSIONS, INFO, info};
use crate::file::root::Root;

/// The lowest bits of an entry are the number of the package, the others are of the name's hash.
const PACKAGE_BITS: u32 = 15;
const PACKAGES_MAX: usize = 1 << PACKAGE_BITS;

/// Entries of one database: 8 MiB.
const ENTRIES_MAX: usize = 1 << 20;

/// Files in the directory of lists: a package has up to eight.
const FILES_MAX: usize = 8 * PACKAGES_MAX;

/// Diversions, and their bytes: hosts have some dozen.
const DIVERSIONS_MAX: usize = 4096;
const DIVERSIONS_BYTES_MAX: u64 = 1 << 20;

/// What is remembered of a database.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The names of their lists, without `.list`.
    packages: Vec<Box<[u8]>>,
    /// In order.
    entries: Vec<u64>,
    diversions: Diversions,
}

/// By path.
type Diversions = HashMap<Box<[u8]>, Diversion, foldhash::fast::RandomState>;

/// A path whose file lies elsewhere, but for that of one package.
#[derive(Debug)]
struct Diversion {
    to: Box<[u8]>,
    /// Whose path it is; `:` is nobody's.
    by: Box<[u8]>,
}

impl Index {
    /// Reads a database whole, or fails.
    ///
    /// # Errors
    ///
    /// `FileTooLarge` if it is larger than any database or than the budget.
    pub(super) fn read(root: &Root, budget: &Budget) -> io::Result<Self> {
        let mut index = Self {
            diversions: read_diversions(root, budget)?,
            ..Self::default()
        };
        for (count, entry) in Dir::new(root.directory(INFO.as_bytes())?)?.enumerate() {
            let entry = entry?;
            bound(count, FILES_MAX)?;
            if let Some(package) = entry.file_name().to_bytes().strip_suffix(b".list") {
                index.add(package, info(root, budget, package, "list")?)?;
            }
        }
        index.entries.sort_unstable();
        index.entries.dedup();
        index.entries.shrink_to_fit();
        Ok(index)
    }

    fn add(
        &mut self,
        package: &[u8],
        list: impl Iterator<Item = io::Result<Vec<u8>>>,
    ) -> io::Result<()> {
        let number = self.packages.len();
        bound(number, PACKAGES_MAX)?;
        for line in list {
            bound(self.entries.len(), ENTRIES_MAX)?;
            let hash = hash(base_name(self.path_of(package, &line?)));
            self.entries.push(hash | number as u64);
        }
        self.packages.push(package.into());
        Ok(())
    }

    /// The packages that may have a file of that name; an error if these are more than there can be.
    pub(super) fn packages_with(&self, name: &[u8]) -> io::Result<impl Iterator<Item = &[u8]>> {
        let hash = hash(name);
        let begin = self.entries.partition_point(|&entry| entry < hash);
        let is_named = |entry: &&u64| *entry >> PACKAGE_BITS == hash >> PACKAGE_BITS;
        let count = self.entries[begin..].iter().take_while(is_named).count();
        if count > CANDIDATES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let packages = self.entries[begin..begin + count].iter();
        Ok(packages.filter_map(|entry| {
            let number = usize::try_from(entry % PACKAGES_MAX as u64).ok()?;
            self.packages.get(number).map(AsRef::as_ref)
        }))
    }

    /// Where a file lies that a package lists.
    pub(super) fn path_of<'a>(&'a self, package: &[u8], listed: &'a [u8]) -> &'a [u8] {
        let name = package.split(|&byte| byte == b':').next();
        match self.diversions.get(listed) {
            Some(diversion) if Some(&*diversion.by) != name => &diversion.to,
            _ => listed,
        }
    }
}

/// An error if there are so many already that one more is too many.
fn bound(count: usize, max: usize) -> io::Result<()> {
    if count >= max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(name);
    hasher.finish() & !(PACKAGES_MAX as u64 - 1)
}

/// Three lines each: the path, where its file lies instead, and whose file stays.
fn read_diversions(root: &Root, budget: &Budget) -> io::Result<Diversions> {
    let mut diversions = Diversions::default();
    let lines = match root.lines(DIVERSIONS, DIVERSIONS_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(diversions),
        lines => lines?,
    };
    let mut lines = budget.lines(lines);
    while let Some(from) = lines.next() {
        let from = from?.into();
        let (Some(to), Some(by)) = (lines.next(), lines.next()) else {
            break;
        };
        bound(diversions.len(), DIVERSIONS_MAX)?;
        let (to, by) = (to?.into(), by?.into());
        diversions.insert(from, Diversion { to, by });
    }
    Ok(diversions)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::file::root::tests::root_at;

    fn is_too_large<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
    }

    #[test]
    fn a_list_ends_where_there_are_too_many_entries() {
        let mut index = Index {
            entries: vec![0; ENTRIES_MAX - 1],
            ..Index::default()
        };
        let list = (0..3).map(|number| {
            assert!(number < 2, "read on");
            Ok(b"/path".to_vec())
        });
        assert!(is_too_large(index.add(b"package", list)));
        assert_eq!(index.entries.len(), ENTRIES_MAX);
    }

    #[test]
    fn there_are_not_more_packages_than_their_numbers_tell_apart() {
        let mut index = Index {
            packages: vec![Box::default(); PACKAGES_MAX],
            ..Index::default()
        };
        assert!(is_too_large(index.add(b"package", std::iter::empty())));
    }

    #[test]
    fn more_diversions_than_any_host_has_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("var/lib/dpkg");
        fs::create_dir_all(&path).unwrap();
        let root = root_at(directory.path());
        let read = |text: String| {
            fs::write(path.join("diversions"), text).unwrap();
            read_diversions(&root, &Budget::default())
        };
        let few: String = (0..DIVERSIONS_MAX)
            .map(|n| format!("{n}\nto\nby\n"))
            .collect();
        assert_eq!(read(few.clone()).unwrap().len(), DIVERSIONS_MAX);
        assert!(is_too_large(read(few + "/one\n/more\n:\n")));
        let bytes = usize::try_from(DIVERSIONS_BYTES_MAX).unwrap();
        assert!(is_too_large(read("\n".repeat(bytes + 1))));
    }
}
