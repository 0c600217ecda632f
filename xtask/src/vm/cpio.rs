//! Writes a cpio archive in the "newc" format, which the kernel unpacks as its first root (kernel:
//! Documentation/driver-api/early-userspace/buffer-format.rst). Directories on the way to a file
//! are made as they are needed; a path that is already there is left as it is.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive under construction.
pub(super) struct Archive<W> {
    writer: W,
    paths: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(writer: W) -> Self {
        Self {
            writer,
            paths: BTreeSet::new(),
        }
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.entry(path, DIRECTORY, &[])
    }

    pub(super) fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.entry(path, SYMLINK, target.as_os_str().as_encoded_bytes())
    }

    pub(super) fn file(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.entry(path, FILE, contents)
    }

    pub(super) fn program(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, contents)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write("TRAILER!!!".as_bytes(), 0, &[])?;
        self.writer.flush()
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
        if path == Path::new("/") || !self.paths.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        let name = path.strip_prefix("/").unwrap_or(path);
        self.write(name.as_os_str().as_encoded_bytes(), mode, contents)
    }

    fn write(&mut self, name: &[u8], mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::other("longer than a cpio archive can say");
        let size = u32::try_from(contents.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        // Two names for one inode number would be hard links of each other.
        let inode = u32::try_from(self.paths.len()).map_err(too_long)?;
        let links = 1;
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        write!(self.writer, "070701")?;
        for field in fields {
            write!(self.writer, "{field:08x}")?;
        }
        // The header is 110 bytes; name and contents are padded to multiples of four.
        self.writer.write_all(name)?;
        self.writer.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.writer.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.writer
            .write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_begins_at_a_multiple_of_four_and_parents_come_first() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/a/b/c"), b"12345").unwrap();
        archive
            .symlink(Path::new("/a/d"), Path::new("b/c"))
            .unwrap();
        archive.finish().unwrap();

        let is_header = |at: &usize| bytes[*at..].starts_with(b"070701");
        let headers: Vec<usize> = (0..bytes.len()).filter(is_header).collect();
        let name = |at: &usize| {
            let name = &bytes[at + 110..];
            String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap()).into_owned()
        };
        let names: Vec<String> = headers.iter().map(name).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", "TRAILER!!!"]);
        assert!(headers.iter().all(|at| at % 4 == 0));
    }

    #[test]
    fn a_path_is_written_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/a"), b"first").unwrap();
        archive.file(Path::new("/a"), b"second").unwrap();
        archive.finish().unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("second"));
    }
}
