//! Presentation format: names and strings of messages as printable ASCII.
//!
//! In: labels of any bytes. Out: text from which they can be had back, as `dig` writes it (RFC 1035,
//! section 5.1): `\.` for a dot within a label, `\DDD` for whatever is not printable.

use std::fmt::Write as _;

use hickory_proto::rr::Name;

/// A name without its last dot; `.` for the root.
pub(super) fn name(name: &Name) -> String {
    let mut text = String::new();
    for (index, label) in name.iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        label.iter().for_each(|&byte| push(byte, b".\\", &mut text));
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// A character string in quotes.
pub(super) fn string(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b' ' => text.push(' '),
            _ => push(byte, b"\"\\", &mut text),
        }
    }
    text.push('"');
    text
}

/// Bytes of which no meaning is known (RFC 3597).
pub(super) fn opaque(bytes: &[u8]) -> String {
    let mut text = format!("\\# {}", bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{byte:02x}", if index == 0 { " " } else { "" });
    }
    text
}

fn push(byte: u8, special: &[u8], text: &mut String) {
    match byte {
        _ if special.contains(&byte) => text.extend(['\\', char::from(byte)]),
        b'!'..=b'~' => text.push(char::from(byte)),
        _ => {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\{byte:03}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_whatever_its_labels_are() {
        let labels: [&[u8]; 4] = [b"a.b", b"\x1b[31m\xff", b"sp ace\\", b"Org"];
        let odd = Name::from_labels(labels).unwrap();
        assert_eq!(name(&odd), r"a\.b.\027[31m\255.sp\032ace\\.Org");
        assert_eq!(name(&Name::root()), ".");
    }

    #[test]
    fn strings_and_opaque_data_are_printable() {
        assert_eq!(string(b"v=spf1 \"x\"\n"), r#""v=spf1 \"x\"\010""#);
        assert_eq!(opaque(&[1, 0xab]), r"\# 2 01ab");
        assert_eq!(opaque(&[]), r"\# 0");
    }
}
