//! The lines that a process writes to a file: a file in, whole lines out, each once.
//!
//! Unlike the reader of a pipe (see [`crate::lines`]), a file takes whatever comes at once, and one in
//! memory also while a disk is busy: what is missing from it was lost by the writer.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::Stdio;

use rustix::fs::MemfdFlags;

/// A file in memory that a process writes to and a test reads.
#[derive(Debug)]
pub struct Journal {
    file: File,
    reader: BufReader<File>,
    /// What has been read of the line that is not finished yet.
    begun: Vec<u8>,
}

impl Journal {
    /// An empty one.
    pub fn create() -> io::Result<Journal> {
        let file = File::from(rustix::fs::memfd_create("journal", MemfdFlags::CLOEXEC)?);
        // Opened anew, it has a position of its own.
        let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let reader = BufReader::with_capacity(1 << 16, reader);
        Ok(Journal {
            file,
            reader,
            begun: Vec::new(),
        })
    }

    /// The end that a process writes to.
    pub fn writer(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// The lines that have been finished since the last time, without their newlines.
    pub fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        while self.reader.read_until(b'\n', &mut self.begun)? > 0 {
            if self.begun.pop_if(|last| *last == b'\n').is_some() {
                lines.push(std::mem::take(&mut self.begun));
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_is_read_once_and_only_when_it_is_finished() {
        let mut journal = Journal::create().expect("a temporary file");
        let mut file = journal.file.try_clone().expect("a descriptor");
        file.write_all(b"one\ntw").expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"one"]);
        assert!(journal.read().expect("it is readable").is_empty());
        file.write_all(b"o\n").expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"two"]);
    }
}
