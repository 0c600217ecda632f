//! The build ID of a program.
//!
//! In: a file that may be no ELF file, or one made to deceive. Out: the GNU build ID of its notes, if
//! it has one.

use std::io::{Read, Seek};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef, elf};

/// Programs have some ten.
const SEGMENTS_MAX: u16 = 256;

/// Notes of programs take some hundred bytes.
const NOTES_MAX: u64 = 64 << 10;

/// Linkers make 20 bytes of SHA-1, others up to 64.
const BUILD_ID_MAX: usize = 64;

/// The build ID of an ELF file of either class.
pub(super) fn build_id(file: impl Read + Seek) -> Option<Box<[u8]>> {
    let cache = ReadCache::new(file);
    let data = &cache;
    if let Ok(header) = elf::FileHeader64::<Endianness>::parse(data) {
        return find(header, data);
    }
    find(elf::FileHeader32::<Endianness>::parse(data).ok()?, data)
}

fn find<'data, Elf>(header: &Elf, data: impl ReadRef<'data>) -> Option<Box<[u8]>>
where
    Elf: FileHeader<Endian = Endianness>,
{
    let endian = header.endian().ok()?;
    if header.e_phnum(endian) > SEGMENTS_MAX {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let is_small = |segment: &&Elf::ProgramHeader| segment.p_filesz(endian).into() <= NOTES_MAX;
    segments
        .iter()
        .filter(is_small)
        .find_map(|segment| build_id_in(segment, endian, data))
}

fn build_id_in<'data, Segment>(
    segment: &Segment,
    endian: Endianness,
    data: impl ReadRef<'data>,
) -> Option<Box<[u8]>>
where
    Segment: ProgramHeader<Endian = Endianness>,
{
    let mut notes = segment.notes(endian, data).ok()??;
    while let Ok(Some(note)) = notes.next() {
        let id = note.desc();
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            return (1..=BUILD_ID_MAX).contains(&id.len()).then(|| id.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A program of 64 bits that has a build ID and nothing else.
    fn program(id: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [4, u32::try_from(id.len()).unwrap(), elf::NT_GNU_BUILD_ID] {
            note.extend(number.to_le_bytes());
        }
        note.extend(b"GNU\0");
        note.extend(id);
        let mut header = vec![0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header[0x10] = 2;
        header[0x14] = 1;
        header[0x20] = 64;
        header[0x34] = 64;
        header[0x36] = 56;
        header[0x38] = 1;
        let mut segment = vec![0; 56];
        segment[0] = 4;
        segment[0x08] = 120;
        segment[0x20..0x28].copy_from_slice(&(note.len() as u64).to_le_bytes());
        segment[0x30] = 4;
        [header, segment, note].concat()
    }

    #[test]
    fn the_build_id_is_that_of_the_notes() {
        let id: Vec<u8> = (1..=20).collect();
        assert_eq!(build_id(Cursor::new(program(&id))).as_deref(), Some(&*id));
        assert_eq!(build_id(Cursor::new(program(&[7; 65]))), None);
        assert_eq!(build_id(Cursor::new(b"#!/bin/sh\n")), None);
        assert_eq!(build_id(Cursor::new(b"")), None);
    }

    #[test]
    fn a_cut_program_has_none() {
        let whole = program(&[9; 20]);
        for length in 0..whole.len() {
            assert_eq!(build_id(Cursor::new(&whole[..length])), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            build_id(Cursor::new(bytes));
        }

        #[test]
        fn no_change_of_a_program_makes_it_panic(
            changes in prop::collection::vec((0..160_usize, any::<u8>()), 1..8)
        ) {
            let mut bytes = program(&[5; 20]);
            for (place, value) in changes {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            build_id(Cursor::new(bytes));
        }
    }
}
