//! What dpkg's `status` says of a package.
//!
//! In: the lines of the file, and the name of a package's list. Out: its paragraph, if all its files are there.

use std::io;

use bytes::Bytes;

use super::super::WORD_MAX;
use crate::process::content::{Package, PackageKind};

/// The paragraph of a package.
pub(super) struct Entry<'a> {
    name: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
    /// Lines of ` PATH DIGEST [obsolete]`.
    conffiles: &'a [u8],
}

/// States of a package in which all that it lists is there.
const COMPLETE: [&[u8]; 5] = [
    b"installed",
    b"unpacked",
    b"half-configured",
    b"triggers-awaited",
    b"triggers-pending",
];

/// The paragraph of the package whose list has the name `NAME` or `NAME:ARCHITECTURE`, unless it is half
/// installed or half removed.
pub(super) fn find(
    status: impl Iterator<Item = io::Result<Vec<u8>>>,
    list: &[u8],
) -> io::Result<Option<Vec<u8>>> {
    let mut paragraph = Vec::new();
    for line in status.chain([Ok(Vec::new())]) {
        let line = line?;
        if !line.is_empty() {
            paragraph.extend_from_slice(&line);
            paragraph.push(b'\n');
            continue;
        }
        if Entry::of(&paragraph).is_some_and(|entry| entry.has_list(list)) {
            return Ok(Some(paragraph));
        }
        paragraph.clear();
    }
    Ok(None)
}

/// The value of a field, up to the end of its line.
fn field<'a>(paragraph: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = paragraph.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}

impl<'a> Entry<'a> {
    /// What a paragraph says, unless the package is half installed or half removed.
    pub(super) fn of(paragraph: &'a [u8]) -> Option<Self> {
        let word = |name| field(paragraph, name).filter(|word| word.len() <= WORD_MAX);
        let state = field(paragraph, b"Status")?
            .rsplit(|&byte| byte == b' ')
            .next()?;
        COMPLETE.contains(&state).then_some(())?;
        Some(Self {
            name: word(b"Package")?,
            version: word(b"Version")?,
            architecture: word(b"Architecture")?,
            conffiles: continuation(paragraph, b"\nConffiles:\n"),
        })
    }

    fn has_list(&self, list: &[u8]) -> bool {
        let architecture = list.strip_prefix(self.name);
        architecture.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(b":") == Some(self.architecture)
        })
    }

    /// The digest of a file that its administrator may change.
    pub(super) fn conffile_sum(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.conffiles
            .split(|&byte| byte == b'\n')
            .find_map(|line| {
                let rest = line
                    .strip_prefix(b" ")?
                    .strip_prefix(path)?
                    .strip_prefix(b" ")?;
                Some(rest.split(|&byte| byte == b' ').next()?.to_vec())
            })
    }

    /// The package, whose file is intact or not.
    pub(super) fn package(&self, intact: Option<bool>) -> Package {
        Package {
            kind: PackageKind::Deb,
            name: Bytes::copy_from_slice(self.name),
            version: Bytes::copy_from_slice(self.version),
            architecture: Bytes::copy_from_slice(self.architecture),
            intact,
        }
    }
}

/// The lines of a field after its first one: each begins with a space.
fn continuation<'a>(paragraph: &'a [u8], header: &[u8]) -> &'a [u8] {
    let begin = paragraph
        .windows(header.len())
        .position(|window| window == header);
    let lines = begin.map_or(&b""[..], |begin| &paragraph[begin + header.len()..]);
    let is_end = |pair: &[u8]| pair[0] == b'\n' && pair[1] != b' ';
    let end = lines.windows(2).position(is_end);
    &lines[..end.unwrap_or(lines.len())]
}
