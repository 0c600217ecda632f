//! The bytes behind a text of the output: an event and a field in, what the kernel had out.
//!
//! A field that is named in `tracer.escaped` has `\xHH` for a byte that is no UTF-8, and each backslash twice.
//! All others stand for themselves.

use serde_json::Value;

use crate::event::Event;

/// The bytes of a field such as `process.args`: one for each text in it, or of it.
///
/// # Panics
/// If it is not there, or escaped as it should not be.
#[track_caller]
pub fn bytes(event: &Event, field: &str) -> Vec<Vec<u8>> {
    let pointer = format!("/{}", field.replace('.', "/"));
    let value = event.get(&pointer);
    let texts = match value {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(_)) => event.words(&pointer),
        _ => panic!("no text {field} in {event}"),
    };
    let texts = texts.into_iter().map(|text| decode(event, field, text));
    texts.collect()
}

/// The bytes of a text that is in this field, or in one of an object of a list, as in `tracer.lineage.name`.
///
/// # Panics
/// If it is escaped as it should not be.
#[track_caller]
pub fn decode(event: &Event, field: &str, text: &str) -> Vec<u8> {
    if !event.words("/tracer/escaped").contains(&field) {
        return text.as_bytes().to_vec();
    }
    unescape(text).unwrap_or_else(|| panic!("{text:?} is no escaped text, in {event}"))
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            bytes.push(b'\\');
            bytes.extend_from_slice(parts.next()?.as_bytes());
            continue;
        }
        let (digits, rest) = part.strip_prefix('x')?.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_come_back_from_escapes() {
        let escaped = [
            (r"a\xffb", &b"a\xffb"[..]),
            (r"\\xff", b"\\xff"),
            (r"\\\\\xfe\\", b"\\\\\xfe\\"),
            ("caf\u{e9}\n", b"caf\xc3\xa9\n"),
        ];
        for (text, bytes) in escaped {
            assert_eq!(unescape(text).as_deref(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_is_noticed() {
        for text in [r"\", r"\n", r"\x", r"\xf", r"\xgg", r"a\\\"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_named_fields_are_escaped() {
        let event = Event::from(json!({
            "process": {"name": r"\xff", "args": [r"\xff", "b"]},
            "tracer": {"escaped": ["process.args"]},
        }));
        assert_eq!(bytes(&event, "process.name"), [br"\xff"]);
        assert_eq!(bytes(&event, "process.args"), [&b"\xff"[..], b"b"]);
    }
}
