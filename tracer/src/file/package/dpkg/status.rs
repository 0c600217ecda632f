//! What dpkg's `status` says of a package.
//!
//! In: the text of the file, and the name of a package's list. Out: its paragraph, if all its files are there.

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
pub(super) fn find<'a>(status: &'a [u8], list: &[u8]) -> Option<Entry<'a>> {
    let mut parts = list.splitn(2, |&byte| byte == b':');
    let (name, architecture) = (parts.next()?, parts.next());
    let mut rest = status;
    while !rest.is_empty() {
        let (paragraph, next) = split_paragraph(rest);
        rest = next;
        // A look at the first field spares most of the others.
        if field(paragraph, b"Package") == Some(name)
            && let Some(entry) = Entry::of(paragraph)
            && architecture.is_none_or(|wanted| entry.architecture == wanted)
        {
            return Some(entry);
        }
    }
    None
}

/// Up to the next empty line, and what comes after it.
fn split_paragraph(text: &[u8]) -> (&[u8], &[u8]) {
    match text.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&text[..=end], &text[end + 2..]),
        None => (text, b""),
    }
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
    fn of(paragraph: &'a [u8]) -> Option<Self> {
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

    /// The digest of a file that its administrator may change.
    pub(super) fn conffile_sum(&self, path: &[u8]) -> Option<&'a [u8]> {
        self.conffiles
            .split(|&byte| byte == b'\n')
            .find_map(|line| {
                let rest = line
                    .strip_prefix(b" ")?
                    .strip_prefix(path)?
                    .strip_prefix(b" ")?;
                rest.split(|&byte| byte == b' ').next()
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
