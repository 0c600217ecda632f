//! How a command fails: with a status for programs and one line for people.

use std::fmt;
use std::process::ExitCode;

use crate::output::text;

/// Exit statuses other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Something failed at run time.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The kernel lacks something, or a privilege is missing.
    Unsupported = 3,
    /// Detections were made.
    Detected = 4,
}

/// Why a command ends before it has done what it was asked to.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    /// A failure at run time. The message says what failed, on what, and what the user can do.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Status::Failed, message)
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Status::Usage, message)
    }

    /// An unsupported kernel or a missing privilege.
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(Status::Unsupported, message)
    }

    /// What was replayed led to so many detections.
    pub fn detected(count: u64) -> Self {
        let detections = if count == 1 {
            "detection"
        } else {
            "detections"
        };
        Self::new(Status::Detected, format_args!("{count} {detections}"))
    }

    fn new(status: Status, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: message.to_string(),
        }
    }

    /// The status to exit with.
    pub fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the message quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self
            .message
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let mut safe = Vec::new();
        text::write_terminal(line.as_bytes(), &mut safe);
        f.write_str(&String::from_utf8_lossy(&safe))
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format_args!("{error:#}"))
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_that_a_terminal_can_print() {
        let failure = Failure::usage("no such\nthing: \u{1b}[31m 'x'");
        assert_eq!(failure.to_string(), r"no such thing: \u{1b}[31m 'x'");
        assert_eq!(failure.status() as u8, 2);
    }
}
