//! The header of an RPM package, as its database keeps it.
//!
//! In: the bytes of a header, from a database that anyone may have made. Out: the values of its tags.
//! Format: two counts, an index of entries of 16 bytes, and the values, all in big-endian order.

/// Entries of a header; packages have some hundred.
const ENTRIES_MAX: usize = 4096;

/// What a header can say, of that which is asked for here (rpmtag.h).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names as rpm has them")]
pub(super) enum Tag {
    Name = 1000,
    Version = 1001,
    Release = 1002,
    Epoch = 1003,
    Architecture = 1022,
    FileDigests = 1035,
    DirIndexes = 1116,
    BaseNames = 1117,
    DirNames = 1118,
    FileDigestAlgorithm = 5011,
}

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// A header.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    /// Tag, type, offset and count each.
    entries: &'a [[u8; 16]],
    values: &'a [u8],
}

impl<'a> Header<'a> {
    /// A header whose counts fit its size.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (counts, rest) = bytes.split_first_chunk::<8>()?;
        let (entries, size) = (number(counts, 0)? as usize, number(counts, 4)? as usize);
        if entries > ENTRIES_MAX {
            return None;
        }
        let (entries, values) = rest.split_at_checked(entries * 16)?;
        Some(Self {
            entries: entries.as_chunks().0,
            values: values.get(..size)?,
        })
    }

    /// The strings of a tag: no more than it says, and none if it has no strings.
    pub(super) fn strings(&self, tag: Tag) -> impl Iterator<Item = &'a [u8]> {
        let kinds = [STRING, STRING_ARRAY, I18N_STRING];
        let (count, mut rest) = self.values_of(tag, &kinds).unwrap_or((0, b""));
        (0..count).map_while(move |_| {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let string = &rest[..end];
            rest = &rest[end + 1..];
            Some(string)
        })
    }

    /// The first string of a tag.
    pub(super) fn string(&self, tag: Tag) -> Option<&'a [u8]> {
        self.strings(tag).next()
    }

    /// The number of a tag at `index`.
    pub(super) fn number(&self, tag: Tag, index: usize) -> Option<u32> {
        let (count, values) = self.values_of(tag, &[INT32])?;
        (index < count).then_some(())?;
        number(values, index.checked_mul(4)?)
    }

    /// How many values a tag has, and where they begin.
    fn values_of(&self, tag: Tag, kinds: &[u32]) -> Option<(usize, &'a [u8])> {
        let entry = self
            .entries
            .iter()
            .find(|entry| number(*entry, 0) == Some(tag as u32))?;
        kinds.contains(&number(entry, 4)?).then_some(())?;
        let values = self.values.get(number(entry, 8)? as usize..)?;
        Some((number(entry, 12)? as usize, values))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of a tag: its type, how many, and the bytes.
    pub(in crate::file::package) type Values = (Tag, u32, u32, Vec<u8>);

    pub(in crate::file::package) fn strings(tag: Tag, strings: &[&str]) -> Values {
        let bytes = strings.iter().flat_map(|text| [text.as_bytes(), b"\0"]);
        let kind = if strings.len() == 1 {
            STRING
        } else {
            STRING_ARRAY
        };
        let count = u32::try_from(strings.len()).unwrap();
        (tag, kind, count, bytes.flatten().copied().collect())
    }

    pub(in crate::file::package) fn numbers(tag: Tag, numbers: &[u32]) -> Values {
        let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
        let count = u32::try_from(numbers.len()).unwrap();
        (tag, INT32, count, bytes.collect())
    }

    pub(in crate::file::package) fn header(tags: &[Values]) -> Vec<u8> {
        let (mut entries, mut values) = (Vec::new(), Vec::new());
        for (tag, kind, count, bytes) in tags {
            let offset = u32::try_from(values.len()).unwrap();
            for number in [*tag as u32, *kind, offset, *count] {
                entries.extend(number.to_be_bytes());
            }
            values.extend(bytes);
        }
        let counts = [tags.len(), values.len()];
        let counts = counts.map(|count| u32::try_from(count).unwrap().to_be_bytes());
        [counts.concat(), entries, values].concat()
    }

    #[test]
    fn values_are_those_of_their_tag() {
        let bytes = header(&[
            strings(Tag::Name, &["bash"]),
            numbers(Tag::DirIndexes, &[0, 7]),
            strings(Tag::BaseNames, &["bash", "sh"]),
        ]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.string(Tag::Name), Some(&b"bash"[..]));
        assert_eq!(header.strings(Tag::BaseNames).nth(1), Some(&b"sh"[..]));
        assert_eq!(header.strings(Tag::BaseNames).count(), 2);
        assert_eq!(header.number(Tag::DirIndexes, 1), Some(7));
        assert_eq!(header.number(Tag::DirIndexes, 2), None);
        assert_eq!(header.string(Tag::Version), None);
        assert_eq!(header.number(Tag::Name, 0), None, "of another type");
    }

    #[test]
    fn a_header_that_lacks_its_end_is_none() {
        let bytes = header(&[strings(Tag::Name, &["bash"])]);
        for length in 0..bytes.len() {
            assert!(Header::parse(&bytes[..length]).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            counts in (0..4_u32, 0..64_u32),
            rest in prop::collection::vec(0..3_u8, 0..100),
        ) {
            let counts = [counts.0.to_be_bytes(), counts.1.to_be_bytes()].concat();
            let bytes = [counts, rest].concat();
            if let Some(header) = Header::parse(&bytes) {
                header.strings(Tag::BaseNames).count();
                header.number(Tag::DirIndexes, usize::MAX / 4);
            }
        }

        #[test]
        fn no_change_of_a_header_makes_it_panic(
            changes in prop::collection::vec((0..60_usize, any::<u8>()), 1..6)
        ) {
            let mut bytes = header(&[
                strings(Tag::BaseNames, &["bash", "sh"]),
                numbers(Tag::DirIndexes, &[0, 1]),
            ]);
            for (place, value) in changes {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            if let Some(header) = Header::parse(&bytes) {
                header.strings(Tag::BaseNames).count();
                header.number(Tag::DirIndexes, 1);
            }
        }
    }
}
