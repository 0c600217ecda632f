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

use super::super::{CANDIDATES_MAX, base_name};
use super::{DIVERSIONS, INFO, LIST_MAX, info};
use crate::file::root::Root;

/// The lowest bits of an entry are the number of the package, the others are of the name's hash.
const PACKAGE_BITS: u32 = 20;
const PACKAGES_MAX: usize = 1 << PACKAGE_BITS;

/// Entries of one database: 8 MiB.
const ENTRIES_MAX: usize = 1 << 20;

/// What is remembered of a database.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The names of their lists, without `.list`.
    packages: Vec<Box<[u8]>>,
    /// In order.
    entries: Vec<u64>,
    diversions: HashMap<Box<[u8]>, Diversion, foldhash::fast::RandomState>,
}

/// A path whose file lies elsewhere, but for that of one package.
#[derive(Debug)]
struct Diversion {
    to: Box<[u8]>,
    /// Whose path it is; `:` is nobody's.
    by: Box<[u8]>,
}

impl Index {
    /// Reads a database whole, or fails.
    pub(super) fn read(root: &Root) -> io::Result<Self> {
        let mut index = Self {
            diversions: read_diversions(root)?,
            ..Self::default()
        };
        for entry in Dir::new(root.directory(INFO.as_bytes())?)? {
            let entry = entry?;
            if let Some(package) = entry.file_name().to_bytes().strip_suffix(b".list") {
                index.add(package, info(root, package, "list")?)?;
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
        for line in list {
            let hash = hash(base_name(self.path_of(package, &line?)));
            self.entries.push(hash | number as u64);
        }
        self.packages.push(package.into());
        if self.packages.len() > PACKAGES_MAX || self.entries.len() > ENTRIES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
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

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(name);
    hasher.finish() & !(PACKAGES_MAX as u64 - 1)
}

/// Three lines each: the path, where its file lies instead, and whose file stays.
fn read_diversions(
    root: &Root,
) -> io::Result<HashMap<Box<[u8]>, Diversion, foldhash::fast::RandomState>> {
    let lines: Vec<Vec<u8>> = match root.lines(DIVERSIONS, LIST_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        lines => lines?.collect::<io::Result<_>>()?,
    };
    let diversions = lines.as_chunks::<3>().0.iter().map(|[from, to, by]| {
        let (to, by) = (to.as_slice().into(), by.as_slice().into());
        (from.as_slice().into(), Diversion { to, by })
    });
    Ok(diversions.collect())
}
