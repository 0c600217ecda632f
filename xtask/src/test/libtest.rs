//! Reads what test programs print: the closing lines of libtest's format. A program that ends without
//! one, or skips a test, has failed.

use std::iter::Sum;
use std::ops::Add;
use std::process::ExitCode;

/// What ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// Skipped: under `cargo xtask test` as bad as failed.
    pub(crate) ignored: u32,
}

impl Tally {
    /// One thing that passed.
    pub(crate) const SUCCESS: Self = Self {
        passed: 1,
        failed: 0,
        ignored: 0,
    };

    /// One thing that failed without a closing line of its own.
    pub(crate) const FAILURE: Self = Self {
        passed: 0,
        failed: 1,
        ignored: 0,
    };

    /// Sums up the closing lines of a program that ended with or without success.
    pub(crate) fn read(output: &str, success: bool) -> Self {
        let tally: Self = output.lines().filter_map(closing_line).sum();
        // Died, or never began: no line says so.
        if !success && tally.failed == 0 {
            tally + Self::FAILURE
        } else {
            tally
        }
    }

    /// The same, or a failure if nothing ran although nothing was filtered out.
    pub(crate) fn or_nothing_ran(self, filter: Option<&str>) -> Self {
        if self == Self::default() && filter.is_none() {
            Self::FAILURE
        } else {
            self
        }
    }

    /// Whether everything that should run has run and passed.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.ignored == 0
    }

    /// What the process says of it in the end.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.is_good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn closing_line(line: &str) -> Option<Tally> {
    let (_, counts) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let count = |what: &str| {
        let mut counts = counts.split("; ");
        counts.find_map(|count| count.strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        ignored: count("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "running 3 tests\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
        test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn closing_lines_add_up() {
        assert_eq!(
            Tally::read(TWO, false),
            Tally {
                passed: 4,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_program_that_died_without_a_closing_line_counts_as_one_failure() {
        assert_eq!(Tally::read("running 3 tests\n", false), Tally::FAILURE);
    }

    #[test]
    fn a_program_without_tests_has_failed_unless_they_were_filtered_out() {
        assert_eq!(Tally::default().or_nothing_ran(None), Tally::FAILURE);
        assert!(Tally::default().or_nothing_ran(Some("name")).is_good());
    }

    #[test]
    fn a_skipped_test_is_not_good() {
        assert!(
            !Tally {
                passed: 1,
                failed: 0,
                ignored: 1
            }
            .is_good()
        );
    }
}
