//! A lineage as one line of text: `curl ← bash ← sshd ← systemd`.
//!
//! `←?` stands before a present parent of which nobody knows whether it is the birth parent, `← ?`
//! at the end for a parent that is not known, `← …` where the chain was cut to bound it. A name
//! that has an arrow of its own is quoted, so that no process can invent itself an ancestor.

use crate::output::text;
use crate::process::image::{Image, Parent, Relation};

/// Appends the lineage of `image`. Names are appended as they are: bytes of any value. Returns whether all
/// of them are [plain](text::is_plain), so that the whole is valid UTF-8 and stands for itself in JSON.
pub fn write_lineage(image: &Image, out: &mut Vec<u8>) -> bool {
    let mut is_plain = true;
    for ancestor in image.lineage() {
        is_plain &= write_name(ancestor.name.as_bytes(), out);
        let link = match ancestor.parent {
            Parent::Known(Relation::Birth, _) => " ← ",
            Parent::Known(Relation::Present, _) => " ←? ",
            Parent::Root => "",
            Parent::Unknown => " ← ?",
            Parent::Cut => " ← …",
        };
        out.extend_from_slice(link.as_bytes());
    }
    is_plain
}

/// Returns whether it is plain.
fn write_name(name: &[u8], out: &mut Vec<u8>) -> bool {
    if text::is_plain(name) {
        out.extend_from_slice(if name.is_empty() { b"?" } else { name });
        return true;
    }
    let has_arrow = name
        .windows("←".len())
        .any(|window| window == "←".as_bytes());
    if !has_arrow {
        out.extend_from_slice(name);
        return false;
    }
    out.push(b'"');
    for &byte in name {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    false
}
