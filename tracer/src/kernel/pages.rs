//! Where the kernel has its pages.
//!
//! In: the headers of `/proc/kcore`, an image of the kernel's memory, whose segments say which part of memory lies
//! at which address, and where the `struct page` of that part lie. Out: both addresses of the first page. An
//! architecture or a kernel may arrange them otherwise; then nothing is known.

use std::fs::File;
use std::io::{self, Read};

/// How many bytes the headers have at the most: those of a hundred segments take 6 KiB.
const HEADERS_MAX: u64 = 1 << 20;

/// Length of an ELF header of 64 bits, and of a program header behind it.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// `PT_LOAD`.
const LOAD: u32 = 1;

/// From here on x86-64 has the kernel's own program, and its modules.
const PROGRAM: u64 = 0xffff_ffff_8000_0000;

/// Addresses of the first page of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Where it lies.
    pub memory: u64,
    /// Where its `struct page` lies.
    pub pages: u64,
}

/// A segment: where it lies, where in memory that is, and how long it is.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    memory: Option<u64>,
    length: u64,
}

/// Reads where they lie; `size` is that of `struct page`.
pub fn read(size: u32) -> io::Result<Option<Pages>> {
    let mut headers = vec![0; ELF_HEADER];
    let mut file = File::open("/proc/kcore")?;
    file.read_exact(&mut headers)?;
    let count = u16::from_ne_bytes([headers[56], headers[57]]);
    let length = (usize::from(count) * PROGRAM_HEADER) as u64;
    file.take(length.min(HEADERS_MAX))
        .read_to_end(&mut headers)?;
    let shift = rustix::param::page_size().trailing_zeros();
    Ok(find(&segments(&headers), size, shift))
}

/// What the program headers behind an ELF header tell.
fn segments(headers: &[u8]) -> Vec<Segment> {
    let (program_headers, _) = headers
        .get(ELF_HEADER..)
        .unwrap_or_default()
        .as_chunks::<PROGRAM_HEADER>();
    let word = |header: &[u8; PROGRAM_HEADER], at: usize| {
        u64::from_ne_bytes(*header[at..].first_chunk().expect("it lies within"))
    };
    let loaded = program_headers
        .iter()
        .filter(|header| header[..4] == LOAD.to_ne_bytes());
    loaded
        .map(|header| Segment {
            address: word(header, 16),
            memory: Some(word(header, 24)).filter(|&memory| memory != u64::MAX),
            length: word(header, 40),
        })
        .collect()
}

/// Every part of memory has to be followed by its pages, and all of them have to agree.
fn find(segments: &[Segment], size: u32, shift: u32) -> Option<Pages> {
    let page = 1_u64 << shift;
    let mut found = None;
    for pair in segments.windows(2) {
        let [part, pages] = pair else { continue };
        let Some(memory) = part.memory.filter(|_| part.address < PROGRAM) else {
            continue;
        };
        // From the first page's to the last one's, in whole pages.
        let place = |memory: u64| (memory >> shift) * u64::from(size);
        let first = place(memory) & !(page - 1);
        let end = place(memory + part.length).next_multiple_of(page);
        if pages.memory.is_some() || pages.length != end - first {
            return None;
        }
        let these = Pages {
            memory: part.address.wrapping_sub(memory),
            pages: pages.address.wrapping_sub(first),
        };
        if found.is_some_and(|found| found != these) {
            return None;
        }
        found = Some(these);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, memory: u64, length: u64) -> Segment {
        Segment {
            address,
            memory: Some(memory).filter(|&memory| memory != u64::MAX),
            length,
        }
    }

    /// As Linux 5.10 told it with 1 GiB.
    fn sample() -> Vec<Segment> {
        vec![
            segment(0xffff_ffff_a920_0000, 0x3660_0000, 0x222_c000),
            segment(0xffff_a973_8000_0000, u64::MAX, 0x1fff_ffff_ffff),
            segment(0xffff_ffff_c000_0000, u64::MAX, 0x3f00_0000),
            segment(0xffff_92e3_0000_1000, 0x1000, 0x9_e000),
            segment(0xffff_f67b_c000_0000, u64::MAX, 0x3000),
            segment(0xffff_92e3_0010_0000, 0x10_0000, 0x3fee_0000),
            segment(0xffff_f67b_c000_4000, u64::MAX, 0xff_c000),
        ]
    }

    #[test]
    fn the_parts_of_memory_and_their_pages_tell_where_the_first_one_lies() {
        let pages = Pages {
            memory: 0xffff_92e3_0000_0000,
            pages: 0xffff_f67b_c000_0000,
        };
        assert_eq!(find(&sample(), 64, 12), Some(pages));
    }

    #[test]
    fn what_is_arranged_otherwise_is_not_guessed() {
        let mut disagreeing = sample();
        disagreeing[6].address += 0x1000;
        let mut longer = sample();
        longer[4].length += 0x1000;
        let without_pages: Vec<_> = sample().into_iter().take(4).collect();
        for segments in [disagreeing, longer, without_pages] {
            assert_eq!(find(&segments, 64, 12), None);
        }
        assert_eq!(find(&sample(), 56, 12), None);
    }

    #[test]
    fn headers_that_are_cut_are_read_as_far_as_they_go() {
        assert!(segments(&[]).is_empty());
        let mut headers = vec![0; ELF_HEADER + PROGRAM_HEADER + 20];
        headers[ELF_HEADER] = 1;
        assert_eq!(segments(&headers).len(), 1);
    }
}
