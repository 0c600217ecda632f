//! The published description of the JSON output.

/// JSON Schema (draft 2020-12) of one line of the JSON output.
pub const EVENT: &str = include_str!("event.json");
