//! The lines that a process writes to a file: a file in, whole lines out, each once.
//!
//! Unlike the reader of a pipe (see [`crate::lines`]), a file takes whatever comes at once, however
//! busy the machine is: what is missing from it was lost by the writer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// A file without a name that a process writes to and a test reads.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Up to where it has been read.
    offset: u64,
    /// What has been read of the line that is not finished yet.
    begun: Vec<u8>,
}

impl Journal {
    /// An empty one.
    pub fn create() -> io::Result<Journal> {
        Ok(Journal {
            file: tempfile::tempfile()?,
            offset: 0,
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
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = self.file.read_at(&mut chunk, self.offset)?;
            if length == 0 {
                return Ok(lines);
            }
            self.offset += u64::try_from(length).unwrap_or(u64::MAX);
            for piece in chunk[..length].split_inclusive(|&byte| byte == b'\n') {
                self.begun.extend_from_slice(piece);
                if self.begun.pop_if(|last| *last == b'\n').is_some() {
                    lines.push(std::mem::take(&mut self.begun));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_once_and_only_when_it_is_finished() {
        let mut journal = Journal::create().expect("a temporary file");
        let file = journal.file.try_clone().expect("a descriptor");
        file.write_at(b"one\ntw", 0).expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"one"]);
        assert!(journal.read().expect("it is readable").is_empty());
        file.write_at(b"o\n", 6).expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"two"]);
    }
}
