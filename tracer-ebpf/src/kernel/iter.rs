//! The parts of a process's memory that a system call sends from or receives into.
//!
//! In: a `struct msghdr`. Out: where the bytes are. `struct iov_iter`, include/linux/uio.h, goes forward as
//! bytes are copied: of the part it is in, it says how much is done with; then it is at the beginning of the next.

use super::{
    layout::setting,
    source::{Remote, Source, read_remote},
};
use crate::dns::InProcess;

/// `struct iovec`, include/uapi/linux/uio.h.
#[derive(Clone, Copy)]
#[repr(C)]
struct Part {
    address: u64,
    length: u64,
}

/// An iterator over the memory of the current process.
#[derive(Clone, Copy)]
pub(crate) enum Iter {
    /// The parts from this one on, of which so many bytes are done with.
    Parts { first: *const u8, done: u64 },
    /// One part that begins there.
    Only { address: u64, done: u64 },
}

impl Iter {
    /// That of a message; `None` if it is over other memory, or cannot be read.
    #[inline(always)]
    pub(crate) fn of(message: *const u8) -> Option<Self> {
        let mask = setting!(iter.kind_mask);
        let iter = Remote(message.wrapping_add(setting!(iter.message) as usize));
        let kind = u32::from(iter.load::<u8>(setting!(iter.kind))?) & mask;
        let done = iter.load(setting!(iter.done))?;
        if mask != 0 && kind == setting!(iter.of_parts) {
            let first = iter.load(setting!(iter.parts))?;
            Some(Self::Parts { first, done })
        } else if mask != 0 && kind == setting!(iter.of_only) {
            let address = iter.load(setting!(iter.only))?;
            Some(Self::Only { address, done })
        } else {
            None
        }
    }

    /// What comes next in the part so many parts ahead.
    #[inline(always)]
    pub(crate) fn ahead(&self, index: u32) -> Option<InProcess> {
        match *self {
            Self::Parts { first, done } => {
                let done = if index == 0 { done } else { 0 };
                let part: Part = read_remote(first.wrapping_add(index as usize * PART))?;
                Some(InProcess {
                    address: part.address.wrapping_add(done),
                    length: part.length.saturating_sub(done) as u32,
                })
            }
            Self::Only { address, done } => (index == 0).then_some(InProcess {
                address: address.wrapping_add(done),
                length: u32::MAX,
            }),
        }
    }

    /// The bytes that were copied last; `None` unless they lie in one part.
    #[inline(always)]
    pub(crate) fn behind(&self, length: u32) -> Option<InProcess> {
        let wanted = u64::from(length);
        let (address, done) = match *self {
            Self::Only { address, done } => (address, done),
            Self::Parts { first, done: 0 } => {
                let part: Part = read_remote(first.wrapping_sub(PART))?;
                (part.address, part.length)
            }
            Self::Parts { first, done } => {
                let part: Part = read_remote(first)?;
                (part.address, done)
            }
        };
        let address = address.wrapping_add(done.wrapping_sub(wanted));
        (done >= wanted).then_some(InProcess { address, length })
    }
}

/// Size of a part.
const PART: usize = size_of::<Part>();
