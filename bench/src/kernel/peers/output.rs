//! What a tool has told: lines of any format, as the words in them.

use std::collections::HashSet;
use std::fs;
use std::process;

use anyhow::{Context as _, Result};

use crate::workload::{PROGRAM, Workload};

/// The words of each line.
pub(super) struct Output(Vec<HashSet<String>>);

impl Output {
    pub(super) fn read(path: &str) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.to_owned())?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Self(text.lines().map(words).collect()))
    }

    /// Whether any line has the word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.0.iter().any(|line| line.contains(word))
    }

    /// Lines about a workload that have `word`, unless it is empty: those with our PID and its port, or those
    /// with our PID and the program that it executes.
    pub(super) fn count(&self, word: &str, workload: &Workload) -> u32 {
        let us = process::id().to_string();
        let program = PROGRAM[0].rsplit('/').next().unwrap_or_default();
        let what = workload
            .port
            .map_or(program.to_owned(), |port| port.to_string());
        let is_told = |line: &&HashSet<String>| {
            line.contains(&us) && line.contains(&what) && (word.is_empty() || line.contains(word))
        };
        self.0.iter().filter(is_told).count() as u32
    }
}

/// What stands between punctuation; addresses stay whole.
fn words(line: &str) -> HashSet<String> {
    let is_between = |c: char| !(c.is_ascii_alphanumeric() || ".:_".contains(c));
    let words = line.split(is_between);
    // JSON has colons behind keys.
    let words = words.map(|word| word.trim_matches(':'));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_columns_and_of_json_are_the_same() {
        let columns = words("123  bench-kernel  127.0.0.1  4567");
        let json = words(r#"{"process":{"pid":123},"destination":{"ip":"127.0.0.1","port":4567}}"#);
        for word in ["123", "127.0.0.1", "4567"] {
            assert!(columns.contains(word) && json.contains(word), "{word}");
        }
    }
}
