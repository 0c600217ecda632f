//! The lines of a file.
//!
//! In: bytes, of which nothing is believed. Out: lines without their ends, each with its number; of one that is too
//! long, only that.

use std::io::{self, BufRead, BufReader, Read};

/// How long a line may be, in bytes; the longest of ours have some 100 KiB.
pub const LINE_MAX: usize = 1 << 20;

/// Reads lines.
pub struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    position: u64,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// What it has.
    Whole(&'a [u8]),
    /// It is longer than lines may be.
    TooLong,
}

impl<R: Read> Lines<R> {
    /// Of a file from its beginning.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(64 << 10, input),
            line: Vec::new(),
            number: 0,
            position: 0,
        }
    }

    /// The number of the line that was read last, from 1 on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes have been read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the next line may have to be waited for.
    pub fn may_wait(&self) -> bool {
        !self.input.buffer().contains(&b'\n')
    }

    /// The next line that is not empty. Of the last one the end may be missing.
    pub fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let limit = LINE_MAX as u64 + 1;
            let length = self
                .input
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut self.line)?;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.position += length as u64;
            let is_whole = self.line.pop_if(|last| *last == b'\n').is_some();
            if self.line.len() > LINE_MAX {
                if !is_whole {
                    self.skip()?;
                }
                return Ok(Some(Line::TooLong));
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Line::Whole(&self.line)));
            }
        }
    }

    /// Goes on to the next line.
    fn skip(&mut self) -> io::Result<()> {
        self.position += self.input.skip_until(b'\n')? as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(input: &[u8]) -> Vec<(u64, Option<usize>)> {
        let mut lines = Lines::new(input);
        let mut lengths = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            let length = match line {
                Line::Whole(line) => Some(line.len()),
                Line::TooLong => None,
            };
            lengths.push((lines.number(), length));
        }
        assert_eq!(lines.position(), input.len() as u64);
        lengths
    }

    #[test]
    fn lines_are_numbered_and_empty_ones_left_out() {
        let expected = [(1, Some(2)), (4, Some(1))];
        assert_eq!(lengths(b"ab\n\n \r\nc"), expected);
        assert_eq!(lengths(b""), []);
        assert_eq!(lengths(b"\n"), []);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_hide_the_next() {
        for (length, read) in [
            (LINE_MAX, Some(LINE_MAX)),
            (LINE_MAX + 1, None),
            (3 * LINE_MAX, None),
        ] {
            let mut input = vec![b'x'; length];
            assert_eq!(lengths(&input), [(1, read)]);
            input.extend_from_slice(b"\nab\n");
            assert_eq!(lengths(&input), [(1, read), (2, Some(2))]);
        }
    }
}
