//! What holds for every line of output: raw lines in, events and a list of breaches out.
//!
//! Each line is one JSON object without control characters, valid against `tracer schema`, and
//! `event.sequence` rises by one.

use std::process::Command;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::environment;
use crate::event::Event;

/// Checks the lines of one output, in order.
#[derive(Debug, Default)]
pub struct Checker {
    last_sequence: Option<u64>,
    breaches: Vec<String>,
}

impl Checker {
    /// Checks the next line and remembers what does not hold.
    ///
    /// # Panics
    /// If it is not an event at all.
    pub fn check(&mut self, line: &[u8]) -> Event {
        let shown = String::from_utf8_lossy(line);
        if let Some(control) = control_character(line) {
            self.breaches
                .push(format!("{control:?} stands raw in {shown:?}"));
        }
        let value: Value =
            serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error} in {shown}"));
        let event = Event::from(value);
        let sequence = event.sequence();
        if let Some(last) = self.last_sequence.replace(sequence)
            && sequence != last + 1
        {
            self.breaches.push(format!(
                "sequence {last} is followed by {sequence}: {event}"
            ));
        }
        self.breaches.extend(breach_of_schema(&event));
        event
    }

    /// Asserts that every line since the last time was as it should be.
    ///
    /// # Panics
    /// If one was not.
    #[track_caller]
    pub fn expect_none(&mut self) {
        let breaches = std::mem::take(&mut self.breaches);
        let shown: Vec<_> = breaches.iter().take(3).map(String::as_str).collect();
        assert!(
            breaches.is_empty(),
            "{} lines are not as they should be: {}",
            breaches.len(),
            shown.join("\n")
        );
    }
}

/// The first control character of a line (C0, DEL or C1), or U+FFFD where it is not UTF-8.
fn control_character(line: &[u8]) -> Option<char> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Some(char::REPLACEMENT_CHARACTER);
    };
    text.chars().find(|character| character.is_control())
}

/// In what an event differs from what `tracer schema` describes.
fn breach_of_schema(event: &Event) -> Option<String> {
    // Telling whether is several times cheaper than telling what.
    if schema().is_valid(event.json()) {
        return None;
    }
    let errors: Vec<_> = schema()
        .iter_errors(event.json())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    Some(format!(
        "not as `tracer schema` says:\n{}\n{event}",
        errors.join("\n")
    ))
}

/// The published schema, compiled once.
fn schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let output = Command::new(environment::tracer_bin())
            .arg("schema")
            .output()
            .expect("`tracer schema` starts");
        assert!(
            output.status.success(),
            "`tracer schema` ended with {}",
            output.status
        );
        let schema = serde_json::from_slice(&output.stdout).expect("`tracer schema` prints JSON");
        jsonschema::validator_for(&schema).expect("`tracer schema` prints a JSON Schema")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_controls_pass_and_raw_ones_do_not() {
        assert_eq!(control_character(br#"{"a":"\u001b[31m"}"#), None);
        assert_eq!(control_character(b"{\"a\":\"\x1b[31m\"}"), Some('\x1b'));
        assert_eq!(control_character("\u{85}".as_bytes()), Some('\u{85}'));
        assert_eq!(control_character(b"\xff"), Some('\u{fffd}'));
    }
}
