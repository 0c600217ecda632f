//! A table of what was measured beside what is allowed, a line each, and the verdict over all of it.

use std::fmt;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::conditions::Conditions;
use crate::test::libtest::Tally;

/// A figure may exceed its budget by this part of it.
const TOLERANCE: f64 = 0.02;

/// Ends a line that does.
const TOO_MANY: &str = "  TOO MANY";

/// Lines that are added one by one.
pub(crate) struct Comparison {
    title: String,
    lines: String,
    is_over: bool,
    /// What was not the same when the budget was recorded.
    changes: Option<String>,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    Over,
    /// Not measured with what the budget was recorded with.
    Incomparable,
}

impl Comparison {
    pub(crate) fn new(title: String, now: &Conditions, recorded: &Conditions) -> Self {
        Self {
            title,
            lines: String::new(),
            is_over: false,
            changes: now.changes(recorded),
        }
    }

    /// A figure that must keep to its budget, where `uncertainty` is what it wanders by in any case.
    pub(crate) fn limited(&mut self, what: &str, budget: i64, now: i64, uncertainty: f64) {
        let is_over = now as f64 > budget as f64 * (1.0 + TOLERANCE) + uncertainty;
        self.is_over |= is_over;
        self.line(
            what,
            &budget.to_string(),
            now,
            &change(budget, now),
            is_over,
        );
    }

    /// A figure that explains others.
    pub(crate) fn part(&mut self, what: &str, budget: i64, now: i64) {
        let what = format!("  {what}");
        self.line(&what, &budget.to_string(), now, &change(budget, now), false);
    }

    /// A figure that nobody has recorded yet.
    pub(crate) fn unbudgeted(&mut self, what: &str, now: i64) {
        self.line(what, "none", now, "--record enters it", false);
    }

    /// As one of many checks. What could not be judged has neither passed nor failed; what has failed names
    /// the lines that are over.
    pub(crate) fn judged(&self) -> Result<Tally> {
        match self.verdict() {
            Verdict::Within => Ok(Tally::SUCCESS),
            Verdict::Incomparable => Ok(Tally::default()),
            Verdict::Over => {
                let lines = self.lines.lines().filter(|line| line.ends_with(TOO_MANY));
                let lines: Vec<&str> = lines.collect();
                bail!("{}: over budget\n{}", self.title, lines.join("\n"))
            }
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (&self.changes, self.is_over) {
            (Some(_), _) => Verdict::Incomparable,
            (None, true) => Verdict::Over,
            (None, false) => Verdict::Within,
        }
    }

    fn line(&mut self, what: &str, budget: &str, now: i64, change: &str, is_over: bool) {
        let verdict = if is_over { TOO_MANY } else { "" };
        self.lines += &format!("  {what:40} {budget:>9} {now:>9}  {change}{verdict}\n");
    }
}

fn change(budget: i64, now: i64) -> String {
    if budget == 0 {
        return format!("{:+}", now - budget);
    }
    format!("{:+.1} %", (now as f64 / budget as f64 - 1.0) * 100.0)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:42} {:>9} {:>9}", self.title, "budget", "now")?;
        f.write_str(&self.lines)?;
        if let Some(changes) = &self.changes {
            write!(
                f,
                "  NOT JUDGED: {changes}. Record a new budget with --record."
            )?;
        } else if self.is_over {
            write!(f, "  OVER BUDGET by more than {:.0} %", TOLERANCE * 100.0)?;
        } else {
            write!(f, "  within budget")?;
        }
        Ok(())
    }
}

impl Verdict {
    /// That of a command that does nothing else.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Over => ExitCode::FAILURE,
            Self::Within | Self::Incomparable => ExitCode::SUCCESS,
        }
    }

    /// The worse of two.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Over, _) | (_, Self::Over) => Self::Over,
            (Self::Incomparable, _) | (_, Self::Incomparable) => Self::Incomparable,
            _ => Self::Within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let same = Conditions::default();
        Comparison::new("title".to_owned(), &same, &same)
    }

    #[test]
    fn two_percent_more_is_borne() {
        let mut comparison = comparison();
        comparison.limited("in total", 1000, 1020, 0.0);
        assert_eq!(comparison.verdict(), Verdict::Within);
        comparison.limited("in total", 1000, 1021, 0.0);
        assert_eq!(comparison.verdict(), Verdict::Over);
        assert!(comparison.to_string().contains("1021  +2.1 %  TOO MANY"));
        let error = comparison.judged().unwrap_err().to_string();
        assert!(error.starts_with("title: over budget\n") && error.contains("1021"));
        assert!(!error.contains("1020"), "{error}");
    }

    #[test]
    fn a_part_explains_and_is_not_judged() {
        let mut comparison = comparison();
        comparison.part("hook", 100, 200);
        assert_eq!(comparison.verdict(), Verdict::Within);
    }

    #[test]
    fn a_figure_without_a_budget_says_how_to_record_one() {
        let mut comparison = comparison();
        comparison.unbudgeted("in total", 7);
        assert!(comparison.to_string().contains("--record"), "{comparison}");
    }

    #[test]
    fn what_was_measured_with_something_else_is_told_and_not_judged() {
        let before = toml::Value::Table("kernel = \"6.12.1\"".parse().unwrap());
        let now = toml::Value::Table("kernel = \"6.12.2\"".parse().unwrap());
        let [before, now] = [before, now].map(|table| Conditions::parse(Some(&table)));
        let mut comparison = Comparison::new("title".to_owned(), &now, &before);
        comparison.limited("in total", 1000, 2000, 0.0);
        assert_eq!(comparison.verdict(), Verdict::Incomparable);
        let text = comparison.to_string();
        assert!(
            text.contains("NOT JUDGED: kernel 6.12.2 instead of 6.12.1"),
            "{text}"
        );
        assert_eq!(comparison.judged().unwrap(), Tally::default());
    }
}
