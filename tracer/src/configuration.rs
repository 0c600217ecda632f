//! The configuration file: `/etc/tracer/tracer.toml`.
//!
//! In: a file. Out: what it asks for, each value checked, or where it is wrong.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::detect::settings::Settings;

/// Where it is, unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/tracer/tracer.toml";

/// What the file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Which detections are wanted.
    pub detect: Settings,
}

/// Why a file does not say what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("{path}: {message}")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where, and what would be right.
        message: String,
    },
}

impl Configuration {
    /// That of a file; that of none, if there is none at the default place.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigurationError> {
        let is_default = path.is_none();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|message| ConfigurationError::Wrong {
                path: path.to_owned(),
                message,
            }),
            Err(error) if is_default && error.kind() == ErrorKind::NotFound => Self::parse("")
                .map_err(|message| ConfigurationError::Wrong {
                    path: path.to_owned(),
                    message,
                }),
            Err(source) => Err(ConfigurationError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let parsed: Self = toml::from_str(text).map_err(|error| match error.span() {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1;
                format!("line {line}, column {column}: {}", error.message())
            }
            None => error.message().to_owned(),
        })?;
        let detect = parsed.detect.check()?;
        Ok(Self { detect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Configuration::parse(text).unwrap_err()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let parsed =
            Configuration::parse("[detect]\n[detect.beacon]\nmin_period = \"2s\"").unwrap();
        assert_eq!(parsed.detect.beacon.min_contacts, 8);
        assert_eq!(parsed.detect.beacon.min_period.ns(), 2_000_000_000);
        assert_eq!(
            Configuration::parse("").unwrap().detect.port_scan,
            parsed.detect.port_scan
        );
    }

    #[test]
    fn a_word_that_is_not_known_is_told_with_its_place() {
        let text = "[detect]\nenabled = true\nbeacons = 1\n";
        assert!(
            wrong(text).starts_with("line 3, column 1: unknown field `beacons`"),
            "{}",
            wrong(text)
        );
        assert!(wrong("[detect.beacon]\nmin_period = \"soon\"").contains("line 2, column 14"));
        assert!(wrong("detect = [").starts_with("line 1"));
    }

    #[test]
    fn a_rule_that_there_is_not_is_told_with_those_that_there_are() {
        let message = wrong("[detect]\noff = [\"beacons\"]");
        assert!(
            message.contains("no rule \"beacons\"; there are beacon, "),
            "{message}"
        );
    }

    #[test]
    fn what_would_allow_everything_is_refused() {
        let message = wrong("[[detect.allow]]\nreason = \"noise\"\nrules = [\"beacon\"]");
        assert!(message.contains("has no condition"), "{message}");
    }
}
