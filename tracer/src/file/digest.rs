//! The digests of a file, read at a limited rate.
//!
//! In: an open file and the size that it must have. Out: SHA-256, and MD5 for package databases that have
//! no better. Others who use the disk and the processor come first.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// For how long of not reading the rate is made up for.
const BURST: Duration = Duration::from_millis(100);

/// Digests of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) sha256: [u8; 32],
    pub(super) md5: [u8; 16],
}

/// Reads files whole.
pub(super) struct Reader {
    pace: Pace,
    buffer: Vec<u8>,
}

impl Reader {
    /// One that reads at most so many bytes a second.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            pace: Pace::new(bytes_per_second),
            buffer: vec![0; CHUNK],
        }
    }

    /// The digests of what `file` still has, if that is `size` bytes; `None` if it is more or less.
    pub(super) fn digests(
        &mut self,
        mut file: impl Read,
        size: u64,
    ) -> io::Result<Option<Digests>> {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        let mut read = 0;
        while read <= size {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            sha256.update(&self.buffer[..count]);
            md5.update(&self.buffer[..count]);
            read += count as u64;
            self.make_up_for(count as u64);
        }
        Ok((read == size).then(|| Digests {
            sha256: sha256.finalize().into(),
            md5: md5.finalize().into(),
        }))
    }

    /// Waits for as long as reading so many bytes more was too early.
    pub(super) fn make_up_for(&mut self, bytes: u64) {
        thread::sleep(self.pace.spend(bytes, Instant::now()));
    }
}

/// Keeps a rate.
struct Pace {
    bytes_per_second: u64,
    /// When everything so far would have been read at exactly that rate.
    paid_at: Option<Instant>,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: None,
        }
    }

    /// So many bytes have been read; returns how long to wait before the next ones.
    fn spend(&mut self, bytes: u64, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let paid_at = self.paid_at.map_or(earliest, |at| at.max(earliest)) + cost;
        self.paid_at = Some(paid_at);
        paid_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(content: &[u8], size: u64) -> Option<Digests> {
        Reader::new(u64::MAX).digests(content, size).unwrap()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        let digests = digests(b"abc", 3).unwrap();
        assert_eq!(digests.sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(digests.md5[..4], [0x90, 0x01, 0x50, 0x98]);
    }

    #[test]
    fn a_content_of_another_size_has_none() {
        let long = vec![7; 3 * CHUNK];
        assert!(digests(&long, 3 * CHUNK as u64).is_some());
        assert_eq!(digests(&long, 3 * CHUNK as u64 - 1), None);
        assert_eq!(digests(&long, 3 * CHUNK as u64 + 1), None);
    }

    #[test]
    fn the_rate_is_kept_and_a_rest_is_not_saved_up() {
        let mut pace = Pace::new(1000);
        let start = Instant::now();
        let ten_minutes = start + Duration::from_secs(600);
        for now in [start, ten_minutes] {
            let burst = pace.spend(100, now);
            assert_eq!(burst, Duration::ZERO);
            let wait = pace.spend(1000, now);
            assert_eq!(wait, Duration::from_secs(1));
        }
    }
}
