//! Memory for the strings of programs.
//!
//! In: strings as they are written. Out: [`Bytes`], cut one after another from chunks that are used
//! again once nobody refers to them, so that a busy host whose processes come and go needs no new
//! memory for their names.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Size of a chunk, in bytes. A string of a process that lives long keeps its whole chunk.
const CHUNK: usize = 4096;

/// Longer strings have memory of their own.
const LONGEST: usize = 1024;

/// Full chunks that wait to be free: those of the processes that exited moments ago.
const WAITING_MAX: usize = 1024;

/// How many of those that wait are asked before a new one is made.
const ASKED: usize = 16;

/// Cuts strings from chunks.
#[derive(Debug, Default)]
pub(super) struct Strings {
    /// What is left of the chunk in use.
    chunk: BytesMut,
    /// The oldest first.
    waiting: VecDeque<BytesMut>,
}

impl Strings {
    /// What `write` appends, which is at most `longest` bytes.
    pub(super) fn cut(&mut self, longest: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if longest > LONGEST {
            let mut own = BytesMut::with_capacity(longest);
            write(&mut own);
            return own.freeze();
        }
        if self.chunk.capacity() < longest {
            self.begin_chunk();
        }
        write(&mut self.chunk);
        self.chunk.split().freeze()
    }

    fn begin_chunk(&mut self) {
        self.waiting.push_back(std::mem::take(&mut self.chunk));
        let mut oldest = self.waiting.iter_mut().take(ASKED);
        if let Some(place) = oldest.position(|chunk| chunk.try_reclaim(CHUNK)) {
            // Those before it are kept by processes that live longer than others.
            self.waiting.rotate_left(place);
            self.chunk = self.waiting.pop_front().unwrap_or_default();
            return;
        }
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        self.chunk = BytesMut::with_capacity(CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(strings: &mut Strings, text: &[u8]) -> Bytes {
        strings.cut(text.len(), |out| out.extend_from_slice(text))
    }

    #[test]
    fn strings_are_what_was_written() {
        let mut strings = Strings::default();
        for length in [0, 1, 100, LONGEST, LONGEST + 1] {
            let text = vec![b'x'; length];
            assert_eq!(cut(&mut strings, &text), text);
        }
    }

    #[test]
    fn what_nobody_refers_to_is_written_over_and_nothing_else() {
        let mut strings = Strings::default();
        let kept = cut(&mut strings, b"kept");
        for number in 0..10_000_u32 {
            let text = number.to_string().repeat(20);
            assert_eq!(cut(&mut strings, text.as_bytes()), text);
        }
        assert_eq!(kept, "kept");
        assert!(strings.waiting.len() < 8);
    }
}
