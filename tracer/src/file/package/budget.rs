//! What looking up the package of one file may cost.
//!
//! In: what is about to be done for it. Out: an error as soon as that is too much, which makes a database
//! unknown, never a file unpackaged: whoever made the root may have made its databases to be costly.

use std::cell::Cell;
use std::io;

/// The lists of a host with very many packages take a fourth.
const BYTES_MAX: u64 = 256 << 20;

/// How many paths may be followed; a name that is so common has no database.
const LOOKUPS_MAX: u32 = 1024;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Cell<u64>,
    lookups: Cell<u32>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BYTES_MAX, LOOKUPS_MAX)
    }
}

impl Budget {
    pub(super) fn new(bytes: u64, lookups: u32) -> Self {
        Self {
            bytes: Cell::new(bytes),
            lookups: Cell::new(lookups),
        }
    }

    /// So many bytes have been read; an error if these are too many.
    pub(super) fn read(&self, bytes: u64) -> io::Result<()> {
        let left = self.bytes.get().checked_sub(bytes);
        self.bytes.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(spent)
    }

    /// A path is about to be followed; an error if these are too many.
    pub(super) fn look_up(&self) -> io::Result<()> {
        let left = self.lookups.get().checked_sub(1).ok_or_else(spent)?;
        self.lookups.set(left);
        Ok(())
    }

    /// Lines, each paid for.
    pub(super) fn lines(
        &self,
        lines: impl Iterator<Item = io::Result<Vec<u8>>>,
    ) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        lines.map(|line| {
            let line = line?;
            self.read(line.len() as u64 + 1)?;
            Ok(line)
        })
    }

    /// How many bytes have been read.
    pub(super) fn bytes_read(&self) -> u64 {
        BYTES_MAX.saturating_sub(self.bytes.get())
    }
}

/// What has cost too much.
fn spent() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_refused_and_stays_so() {
        let budget = Budget::new(10, 2);
        assert!(budget.read(10).is_ok() && budget.read(1).is_err());
        assert!(budget.look_up().is_ok() && budget.look_up().is_ok());
        assert!(budget.look_up().is_err() && budget.look_up().is_err());
    }

    #[test]
    fn lines_are_paid_for_with_their_ends() {
        let budget = Budget::default();
        let lines = [b"ab".to_vec(), b"".to_vec()].map(Ok);
        assert_eq!(budget.lines(lines.into_iter()).count(), 2);
        assert_eq!(budget.bytes_read(), 4);
    }
}
