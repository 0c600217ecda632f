//! Names in handshakes as printable ASCII.
//!
//! In: any bytes. Out: text from which they can be had back: `\\` for a backslash, `\DDD` for whatever is not
//! printable.

use std::fmt::Write as _;

pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str(r"\\"),
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_stays_and_all_else_is_told_by_number() {
        assert_eq!(escaped(b"www.example.org"), "www.example.org");
        assert_eq!(escaped(b"h2"), "h2");
        assert_eq!(escaped(b"\x1b[31m\\ \xff"), r"\027[31m\\\032\255");
        assert_eq!(escaped(&[0x0a, 0x0a]), r"\010\010");
    }
}
