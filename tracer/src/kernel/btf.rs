//! The running kernel's type information: where members lie, how many arguments functions take.
//!
//! In: the file `/sys/kernel/btf/vmlinux` (format: Documentation/bpf/btf.rst in the kernel's tree).
//! Out: offsets. Only what that takes is decoded; Aya has the type information for loading programs,
//! but offers no look-up of members.

use std::{fs, io, path::PathBuf};

use hashbrown::HashMap;
use thiserror::Error;

/// Where the kernel shows its type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why type information is not to be had.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read the kernel's type information {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file is not what it should be.
    #[error("the kernel's type information is damaged at byte {offset}: {what}")]
    Malformed {
        /// Where in the file.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The kernel has no such structure.
    #[error("this kernel has no structure `{0}`")]
    NoStructure(String),
    /// The structure has no such member.
    #[error("this kernel's structure `{structure}` has no member `{member}`")]
    NoMember {
        /// Which structure.
        structure: String,
        /// Which member.
        member: String,
    },
}

/// `BTF_KIND_*`, include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER: usize = 24;
const TYPE: usize = 12;
const MEMBER: usize = 12;
const ENUMERATOR: usize = 8;

/// What the name of the type of a tracepoint's function begins with.
const TRACEPOINT: &[u8] = b"btf_trace_";

/// A type that is nothing but declared, and has no name.
const NAMELESS: [u8; TYPE] = {
    let info = (kind::FWD << 24).to_ne_bytes();
    [0, 0, 0, 0, info[0], info[1], info[2], info[3], 0, 0, 0, 0]
};

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Distance from the beginning of the structure, in bits.
    pub bit_offset: u32,
    /// Width in bits if it is a bit field, otherwise 0.
    pub bit_field_width: u32,
    /// Its type.
    type_id: u32,
}

/// The kernel's types.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Position of each type's description in `data`; type 0 is void.
    types: Vec<u32>,
    /// Position of the first string in `data`.
    strings: usize,
    /// Named structures and unions.
    structures: HashMap<Box<[u8]>, u32>,
    /// Functions.
    functions: HashMap<Box<[u8]>, u32>,
}

impl Btf {
    /// Reads what the running kernel shows.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let data = fs::read(VMLINUX).map_err(|error| BtfError::Read {
            path: VMLINUX.into(),
            error,
        })?;
        Self::parse(data)
    }

    /// Finds the types in `data`. Names are looked up only for what is asked later: see
    /// [`Self::member`].
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self {
            data,
            types: vec![u32::MAX],
            strings: 0,
            structures: HashMap::new(),
            functions: HashMap::new(),
        };
        if btf.u16(0)? != MAGIC {
            return Err(BtfError::Malformed {
                offset: 0,
                what: "not in this machine's BTF format",
            });
        }
        let header = btf.u32(4)? as usize;
        let start = header + btf.u32(8)? as usize;
        let end = start + btf.u32(12)? as usize;
        btf.strings = header + btf.u32(16)? as usize;
        if header < HEADER || end > btf.data.len() || btf.strings > btf.data.len() {
            return Err(BtfError::Malformed {
                offset: 4,
                what: "a section lies outside the file",
            });
        }
        btf.index(start, end)?;
        Ok(btf)
    }

    /// The same types in the same format and under the same numbers, but nothing of them other than the names
    /// of functions and tracepoints: all that it takes to find what programs attach to, small and quickly read.
    pub fn outline(&self) -> Result<Vec<u8>, BtfError> {
        let mut types = Vec::with_capacity(self.types.len() * TYPE);
        let mut strings = vec![0];
        for &at in &self.types[1..] {
            let at = at as usize;
            let kind = self.info(at)?.0;
            let name = self.string(self.u32(at)?)?;
            let is_tracepoint = kind == kind::TYPEDEF && name.starts_with(TRACEPOINT);
            if is_tracepoint || kind == kind::FUNC {
                types.extend((strings.len() as u32).to_ne_bytes());
                types.extend(self.bytes::<{ TYPE - 4 }>(at + 4)?);
                strings.extend(name);
                strings.push(0);
            } else {
                types.extend(NAMELESS);
            }
        }
        let mut outline = Vec::with_capacity(HEADER + types.len() + strings.len());
        outline.extend(MAGIC.to_ne_bytes());
        outline.extend([VERSION, 0]);
        for field in [HEADER, 0, types.len(), types.len(), strings.len()] {
            outline.extend((field as u32).to_ne_bytes());
        }
        outline.extend(types);
        outline.extend(strings);
        Ok(outline)
    }

    fn index(&mut self, start: usize, end: usize) -> Result<(), BtfError> {
        let mut at = start;
        while at < end {
            let id = self.types.len() as u32;
            let (kind, count) = self.info(at)?;
            match kind {
                kind::STRUCT | kind::UNION => {
                    let name = self.string(self.u32(at)?)?;
                    if !name.is_empty() {
                        let name = name.into();
                        self.structures.entry(name).or_insert(id);
                    }
                }
                kind::FUNC => {
                    let name = self.string(self.u32(at)?)?.into();
                    self.functions.entry(name).or_insert(id);
                }
                _ => {}
            }
            self.types.push(at as u32);
            at += TYPE + trailing(kind, count as usize);
        }
        Ok(())
    }

    /// Byte offset of `member`, a path such as `d_name.name`, in `structure`. Anonymous structures
    /// and unions on the way are looked into.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        self.member(structure, member)
            .map(|member| member.bit_offset / 8)
    }

    /// Where `member` lies in `structure`; see [`Self::offset`].
    pub fn member(&self, structure: &str, member: &str) -> Result<Member, BtfError> {
        let mut id = *self
            .structures
            .get(structure.as_bytes())
            .ok_or_else(|| BtfError::NoStructure(structure.to_owned()))?;
        let mut found = Member {
            bit_offset: 0,
            bit_field_width: 0,
            type_id: id,
        };
        for name in member.split('.') {
            let step = self
                .find(id, name.as_bytes())?
                .ok_or_else(|| BtfError::NoMember {
                    structure: structure.to_owned(),
                    member: member.to_owned(),
                })?;
            found = Member {
                bit_offset: found.bit_offset + step.bit_offset,
                ..step
            };
            id = self.resolve(step.type_id)?;
        }
        Ok(found)
    }

    /// How large a structure is, in bytes.
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        let id = self.structures.get(structure.as_bytes());
        let id = *id.ok_or_else(|| BtfError::NoStructure(structure.to_owned()))?;
        self.u32(self.position(id)? + 8)
    }

    /// Number of parameters of the function `name`, if the kernel has it.
    pub fn parameters(&self, name: &str) -> Result<Option<u32>, BtfError> {
        let Some(&function) = self.functions.get(name.as_bytes()) else {
            return Ok(None);
        };
        let prototype = self.position(self.u32(self.position(function)? + 8)?)?;
        Ok(Some(self.info(prototype)?.1))
    }

    /// The value of `name` in an enumeration of that name; several have none.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Result<u32, BtfError> {
        for &at in &self.types[1..] {
            let at = at as usize;
            let (kind, count) = self.info(at)?;
            if kind != kind::ENUM || self.string(self.u32(at)?)? != enumeration.as_bytes() {
                continue;
            }
            for index in 0..count as usize {
                let value = at + TYPE + index * ENUMERATOR;
                if self.string(self.u32(value)?)? == name.as_bytes() {
                    return self.u32(value + 4);
                }
            }
        }
        Err(BtfError::NoMember {
            structure: enumeration.to_owned(),
            member: name.to_owned(),
        })
    }

    /// Looks for `name` among the members of the type `id` and of its anonymous members.
    fn find(&self, id: u32, name: &[u8]) -> Result<Option<Member>, BtfError> {
        let at = self.position(id)?;
        let info = self.u32(at + 4)?;
        let (kind, count) = self.info(at)?;
        if kind != kind::STRUCT && kind != kind::UNION {
            return Ok(None);
        }
        let has_bit_fields = info >> 31 == 1;
        for index in 0..count as usize {
            let member = at + TYPE + index * MEMBER;
            let offset = self.u32(member + 8)?;
            let (bit_offset, bit_field_width) = if has_bit_fields {
                (offset & 0x00ff_ffff, offset >> 24)
            } else {
                (offset, 0)
            };
            let type_id = self.u32(member + 4)?;
            let member_name = self.string(self.u32(member)?)?;
            if member_name == name {
                return Ok(Some(Member {
                    bit_offset,
                    bit_field_width,
                    type_id,
                }));
            }
            if member_name.is_empty()
                && let Some(inner) = self.find(self.resolve(type_id)?, name)?
            {
                return Ok(Some(Member {
                    bit_offset: bit_offset + inner.bit_offset,
                    ..inner
                }));
            }
        }
        Ok(None)
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<u32, BtfError> {
        // The kernel's chains are short; the bound is for a damaged file.
        for _ in 0..32 {
            if id == 0 {
                return Ok(id);
            }
            let at = self.position(id)?;
            match self.info(at)?.0 {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.u32(at + 8)?;
                }
                _ => return Ok(id),
            }
        }
        Err(BtfError::Malformed {
            offset: 0,
            what: "types refer to one another in a circle",
        })
    }

    fn position(&self, id: u32) -> Result<usize, BtfError> {
        self.types
            .get(id as usize)
            .filter(|_| id != 0)
            .map(|&at| at as usize)
            .ok_or(BtfError::Malformed {
                offset: 0,
                what: "a type refers to one that is not there",
            })
    }

    /// Kind of the type at `at`, and the number of what it consists of.
    fn info(&self, at: usize) -> Result<(u32, u32), BtfError> {
        let info = self.u32(at + 4)?;
        Ok((info >> 24 & 0x1f, info & 0xffff))
    }

    fn string(&self, offset: u32) -> Result<&[u8], BtfError> {
        let start = self.strings + offset as usize;
        let rest = self.data.get(start..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(BtfError::Malformed {
                offset: start,
                what: "a name without an end",
            })?;
        Ok(&rest[..end])
    }

    fn u16(&self, at: usize) -> Result<u16, BtfError> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], BtfError> {
        self.data
            .get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BtfError::Malformed {
                offset: at,
                what: "ends too early",
            })
    }
}

/// Bytes that follow a type's common part.
fn trailing(kind: u32, count: usize) -> usize {
    match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION => count * MEMBER,
        kind::ENUM | kind::FUNC_PROTO => count * ENUMERATOR,
        kind::DATASEC | kind::ENUM64 => count * 12,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { u32 a; struct { u32 b; u32 c:3; u32 d:5; }; }`, `void f(u32, u32)` and
    /// `enum order { first, second = 7 }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0u32\0outer\0a\0b\0c\0d\0f\0order\0first\0second\0";
        let name = |wanted: &str| {
            let wanted = [&[0], wanted.as_bytes(), &[0]].concat();
            strings
                .windows(wanted.len())
                .position(|at| at == wanted)
                .map_or(0, |at| at as u32 + 1)
        };
        let types: Vec<u32> = [
            vec![name("u32"), kind::INT << 24, 4, 32],
            vec![
                0,
                kind::STRUCT << 24 | 1 << 31 | 3,
                8,
                name("b"),
                1,
                0,
                name("c"),
                1,
                3 << 24 | 32,
                name("d"),
                1,
                5 << 24 | 35,
            ],
            vec![
                name("outer"),
                kind::STRUCT << 24 | 2,
                12,
                name("a"),
                1,
                0,
                0,
                2,
                32,
            ],
            vec![0, kind::FUNC_PROTO << 24 | 2, 0, 0, 1, 0, 1],
            vec![name("f"), kind::FUNC << 24, 4],
            vec![
                name("order"),
                kind::ENUM << 24 | 2,
                4,
                name("first"),
                0,
                name("second"),
                7,
            ],
        ]
        .concat();
        let header = [
            u32::from(MAGIC) | 1 << 16,
            HEADER as u32,
            0,
            types.len() as u32 * 4,
            types.len() as u32 * 4,
            strings.len() as u32,
        ];
        let mut data: Vec<u8> = header
            .iter()
            .chain(&types)
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        data.extend(strings);
        data
    }

    #[test]
    fn members_of_anonymous_structures_are_found_at_their_place_in_the_outer_one() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "a").unwrap(), 0);
        assert_eq!(btf.offset("outer", "b").unwrap(), 4);
        let d = btf.member("outer", "d").unwrap();
        assert_eq!((d.bit_offset, d.bit_field_width), (32 + 35, 5));
    }

    #[test]
    fn an_outline_has_the_same_functions_under_the_same_numbers_and_no_structures() {
        for btf in [
            Btf::parse(sample()).unwrap(),
            Btf::of_running_kernel().unwrap(),
        ] {
            let outline = Btf::parse(btf.outline().unwrap()).unwrap();
            assert!(!btf.functions.is_empty() && !btf.structures.is_empty());
            assert_eq!(outline.functions, btf.functions);
            assert_eq!(outline.types.len(), btf.types.len());
            assert!(outline.structures.is_empty());
        }
    }

    #[test]
    fn an_outline_has_the_same_tracepoints_under_the_same_numbers() {
        let btf = Btf::of_running_kernel().unwrap();
        let outline = Btf::parse(btf.outline().unwrap()).unwrap();
        let tracepoints = |btf: &Btf| {
            let numbered = (1..)
                .zip(&btf.types[1..])
                .map(|(id, &at)| (id, at as usize));
            let typedefs = numbered.filter(|&(_, at)| btf.info(at).unwrap().0 == kind::TYPEDEF);
            typedefs
                .map(|(id, at)| (id, btf.string(btf.u32(at).unwrap()).unwrap().to_vec()))
                .filter(|(_, name)| name.starts_with(TRACEPOINT))
                .collect::<Vec<(u32, _)>>()
        };
        assert_eq!(tracepoints(&outline), tracepoints(&btf));
        let exec = b"btf_trace_sched_process_exec";
        assert!(tracepoints(&btf).iter().any(|(_, name)| name == exec));
    }

    #[test]
    fn enumerators_have_their_values() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.enumerator("order", "first").unwrap(), 0);
        assert_eq!(btf.enumerator("order", "second").unwrap(), 7);
        btf.enumerator("order", "third").unwrap_err();
        btf.enumerator("outer", "a").unwrap_err();
    }

    #[test]
    fn what_is_missing_is_named() {
        let btf = Btf::parse(sample()).unwrap();
        let error = btf.offset("outer", "x").unwrap_err().to_string();
        assert_eq!(error, "this kernel's structure `outer` has no member `x`");
        let error = btf.offset("inner", "x").unwrap_err().to_string();
        assert_eq!(error, "this kernel has no structure `inner`");
    }

    #[test]
    fn parameters_are_counted() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.parameters("f").unwrap(), Some(2));
        assert_eq!(btf.parameters("g").unwrap(), None);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_lacks_names_but_never_a_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..length].to_vec()) {
                let _ = btf.offset("outer", "d");
                let _ = btf.parameters("f");
            }
        }
    }
}
