//! The lines that a process writes to a file: a file in, whole lines out, each once.
//!
//! Unlike the reader of a pipe (see [`crate::lines`]), a file takes whatever comes at once, however
//! busy the machine is: what is missing from it was lost by the writer.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::Stdio;

use tempfile::NamedTempFile;

/// A temporary file that a process writes to and a test reads.
#[derive(Debug)]
pub struct Journal {
    file: NamedTempFile,
    reader: BufReader<File>,
    /// What has been read of the line that is not finished yet.
    begun: Vec<u8>,
}

impl Journal {
    /// An empty one.
    pub fn create() -> io::Result<Journal> {
        let file = NamedTempFile::new()?;
        let reader = BufReader::with_capacity(1 << 16, file.reopen()?);
        Ok(Journal {
            file,
            reader,
            begun: Vec::new(),
        })
    }

    /// The end that a process writes to.
    pub fn writer(&self) -> io::Result<Stdio> {
        self.file.as_file().try_clone().map(Stdio::from)
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
        let mut file = journal.file.reopen().expect("the file is there");
        file.write_all(b"one\ntw").expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"one"]);
        assert!(journal.read().expect("it is readable").is_empty());
        file.write_all(b"o\n").expect("the file is writable");
        assert_eq!(journal.read().expect("it is readable"), [b"two"]);
    }
}
