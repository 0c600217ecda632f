//! Why a line is not one of our events.

use std::borrow::Cow;

/// Why a line is not one of our events.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is no JSON, or a member has the wrong type.
    #[error("column {column}: {message}")]
    Json {
        /// Where, in bytes from 1 on.
        column: usize,
        /// What was expected.
        message: String,
    },
    /// It is something else.
    #[error("column 1: expected a JSON object, as `tracer run` writes them")]
    NoObject,
    /// It is longer than lines may be.
    #[error("it has more than {limit} bytes")]
    TooLong {
        /// How long they may be.
        limit: usize,
    },
    /// A member is missing that its action needs.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A member says nothing that is known.
    #[error("{field} is not {expected}")]
    Wrong {
        /// Which.
        field: &'static str,
        /// What it should be.
        expected: Cow<'static, str>,
    },
}

impl LineError {
    /// A member that should be something else.
    pub(super) fn wrong(field: &'static str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::Wrong {
            field,
            expected: expected.into(),
        }
    }
}

impl From<std::str::Utf8Error> for LineError {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::Json {
            column: error.valid_up_to() + 1,
            message: "expected UTF-8".to_owned(),
        }
    }
}

impl From<serde_json::Error> for LineError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // A line has one line.
        let end = text.rfind(" at line ").unwrap_or(text.len());
        Self::Json {
            column: error.column(),
            message: text[..end].to_owned(),
        }
    }
}
