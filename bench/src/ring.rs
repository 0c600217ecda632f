//! A recorded ring: records one behind the other, as they lie in the kernel's ring buffer.

/// What stands before each record: its length, and a word that only the kernel needs.
const HEADER: usize = 8;

/// Records in the order in which they were reserved.
#[derive(Default)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    len: usize,
}

impl Ring {
    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        self.bytes
            .extend_from_slice(&(record.len() as u64).to_ne_bytes());
        self.bytes.extend_from_slice(record);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.len += 1;
    }

    /// Every record.
    pub(crate) fn records(&self) -> Records<'_> {
        Records(&self.bytes)
    }
}

/// What is left to be read.
pub(crate) struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (header, rest) = self.0.split_first_chunk::<HEADER>()?;
        let length = u64::from_ne_bytes(*header) as usize;
        self.0 = &rest[length.next_multiple_of(8)..];
        Some(&rest[..length])
    }
}
