//! Strings of the outside world, made safe for an output.
//!
//! In: bytes of any value, from names, paths and arguments that anyone can choose. Out: JSON text
//! from which the bytes can be had back, or text that a terminal prints and never obeys.

/// Whether `bytes` stand for themselves in JSON, whatever surrounds them: printable ASCII without quote
/// and backslash. Nearly everything is, and this is a fraction of the cost of validating UTF-8.
pub fn is_plain(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks();
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    blocks.iter().all(is_plain_block) && is_plain_block(&last)
}

const BLOCK: usize = 16;

/// Without a way out in the middle, so that it becomes a few vector instructions.
fn is_plain_block(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(true, |plain, &byte| {
        plain & (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
    })
}

/// Whether `bytes` has to be written by [`write_json_escaped`], and its field to be named in
/// `tracer.escaped`.
pub fn needs_escaping(bytes: &[u8]) -> bool {
    !is_plain(bytes) && std::str::from_utf8(bytes).is_err()
}

/// Appends valid UTF-8 as the inside of a JSON string: control characters as `\u00XX`.
pub fn write_json(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if IS_PLAIN[usize::from(byte)] {
            continue;
        }
        // C1 controls are U+0080..U+009F: 0xC2 and the code itself.
        let (code, length) = match byte {
            0xc2 if bytes[index + 1] < 0xa0 => (bytes[index + 1], 2),
            0xc2 => continue,
            _ => (byte, 1),
        };
        out.extend_from_slice(&bytes[plain..index]);
        match code {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', code]),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex(code));
            }
        }
        plain = index + length;
    }
    out.extend_from_slice(&bytes[plain..]);
}

/// Appends bytes as the inside of a JSON string: each byte that is not UTF-8 becomes `\xHH` in the
/// text, and each backslash is doubled there.
pub fn write_json_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let mut parts = chunk.valid().split('\\');
        write_json(parts.next().unwrap_or_default(), out);
        for part in parts {
            out.extend_from_slice(br"\\\\");
            write_json(part, out);
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(br"\\x");
            out.extend_from_slice(&hex(byte));
        }
    }
}

/// The way back of [`write_json_escaped`], from the text of the string. `None` if a backslash stands where none can.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    while let Some(part) = parts.next() {
        let rest = match part.strip_prefix('x') {
            Some(hex) => {
                let (digits, rest) = hex.split_at_checked(2)?;
                let digit = |character: char| character.to_digit(16);
                let mut digits = digits.chars().map(digit);
                let (high, low) = (digits.next()??, digits.next()??);
                bytes.push(u8::try_from(high << 4 | low).ok()?);
                rest
            }
            // A doubled one.
            None if part.is_empty() => {
                bytes.push(b'\\');
                parts.next()?
            }
            None => return None,
        };
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

/// Appends bytes for a terminal: printable characters as they are, everything that could move the
/// cursor, change colours or turn the direction of writing as `\xHH` or `\u{HHHH}`.
pub fn write_terminal(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\x20'..='\x7e' => out.push(character as u8),
                _ if is_unsafe_on_a_terminal(character) => {
                    out.extend(character.escape_unicode().map(|escape| escape as u8));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(br"\x");
            out.extend_from_slice(&hex(byte));
        }
    }
}

/// Controls, line separators, marks that turn the direction, and characters without a width.
pub(super) fn is_unsafe_on_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

/// Bytes that stand for themselves in JSON, whatever follows them.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0x7f] = false;
    plain[0xc2] = false;
    plain
};

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        write_json(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn json_escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_json_escaped(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn terminal(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_terminal(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_valid_string_comes_back_from_json() {
        let all: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain("𝄞\u{202e}".chars())
            .collect();
        let line = format!("\"{}\"", json(&all));
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), all);
    }

    #[test]
    fn no_control_character_stands_raw_in_json() {
        let all: String = (0..0x200).filter_map(char::from_u32).collect();
        assert!(!json(&all).chars().any(char::is_control));
        assert_eq!(
            json("a\n\u{1b}\u{7f}\u{9b}é"),
            r"a\u000a\u001b\u007f\u009bé"
        );
    }

    #[test]
    fn what_is_plain_is_written_as_it_is() {
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    let mut out = Vec::new();
                    write_json_escaped(&bytes, &mut out);
                    let is_kept = std::str::from_utf8(&bytes).is_ok() && out == bytes;
                    assert_eq!(is_plain(&bytes), is_kept, "{byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_can_be_told_from_text_that_looks_like_them() {
        assert!(needs_escaping(b"a\xff"));
        assert_eq!(json_escaped(b"a\xff\\xff\""), r#"a\\xff\\\\xff\""#);
        assert_eq!(json_escaped(b"\xe2\x86"), r"\\xe2\\x86");
    }

    #[test]
    fn all_bytes_come_back_from_what_is_escaped() {
        let all: Vec<u8> = (0..=255).chain(*b"\\\\x\\\xff\\").collect();
        let line = format!("\"{}\"", json_escaped(&all));
        let text: String = serde_json::from_str(&line).unwrap();
        assert_eq!(unescaped(&text).as_deref(), Some(&all[..]));
        for wrong in [r"\", r"a\b", r"\x", r"\x1", r"\x+1", r"\xgg", r"\\\"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        assert_eq!(terminal(b"a\x1b[31m\xff\x07 b"), r"a\u{1b}[31m\xff\u{7} b");
        assert_eq!(
            terminal("x\u{202e}y\u{9b}2J\u{2066}é←".as_bytes()),
            r"x\u{202e}y\u{9b}2J\u{2066}é←"
        );
        let all: Vec<u8> = (0..=255).collect();
        assert!(!terminal(&all).chars().any(char::is_control));
    }
}
