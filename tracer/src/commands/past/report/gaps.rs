//! Times of which nothing can be known, because no tracer ran.
//!
//! In: when each run of a daemon began, and when things happened. Out: notes for people.

use jiff::Timestamp;

use crate::history::reader::{History, ReadError};
use crate::history::window::Window;

/// On a host that is used, something happens more often than that, in nanoseconds.
const QUIET: i64 = 60_000_000_000;

/// Between runs, and between the last of what is known and the end of the window.
pub(super) struct Gaps {
    window: Window,
    /// When the report is made, in nanoseconds since 1970.
    made: i64,
    /// The first file of each run, when it began, and the last thing that is known of it.
    runs: Vec<(usize, i64, Option<i64>)>,
}

impl Gaps {
    /// Of a history of which only the ends of connections are known yet, for a report made at this time.
    pub(super) fn of(history: &History, made: i64) -> Result<Self, ReadError> {
        let runs = history.runs().into_iter();
        let mut gaps = Self {
            made,
            window: history.window(),
            runs: runs.map(|(file, begun)| (file, begun, None)).collect(),
        };
        for (file, last) in history.last_ends()?.into_iter().enumerate() {
            if let Some(last) = last {
                gaps.saw(file, last);
            }
        }
        Ok(gaps)
    }

    /// Something of a file happened.
    pub(super) fn saw(&mut self, file: usize, time: i64) {
        let of = self
            .runs
            .iter_mut()
            .rev()
            .find(|(first, ..)| *first <= file);
        if let Some((.., last)) = of {
            *last = Some(last.map_or(time, |last| last.max(time)));
        }
    }

    /// What whoever reads the report ought to know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for pair in self.runs.windows(2) {
            let [(.., last), (_, begun, _)] = pair else {
                continue;
            };
            if !self.window.contains(*begun) {
                continue;
            }
            let begun = moment(*begun);
            notes.push(match last {
                Some(last) => format!(
                    "the tracer was started at {begun}; of the time since {}, the last thing that the run before it \
                     saw, nothing may be known",
                    moment(*last)
                ),
                None => format!(
                    "the tracer was started at {begun}; of the time before, nothing may be known"
                ),
            });
        }
        notes.extend(self.after());
        notes
    }

    /// Whether anything ran at the end of the window is not known, unless something was seen shortly before.
    fn after(&self) -> Option<String> {
        let last = self.runs.iter().filter_map(|(.., last)| *last).max()?;
        let is_late = self.made.min(self.window.until).saturating_sub(last) > QUIET;
        is_late.then(|| format!("the last thing that is known at all is of {}", moment(last)))
    }
}

fn moment(time: i64) -> Timestamp {
    let seconds = time.div_euclid(1_000_000_000);
    Timestamp::from_second(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_between_two_runs_is_told() {
        let second = 1_000_000_000;
        let mut gaps = Gaps {
            window: Window::ALL,
            made: 200 * second,
            runs: vec![(0, 0, None), (2, 100 * second, None)],
        };
        gaps.saw(1, 60 * second);
        gaps.saw(0, 50 * second);
        gaps.saw(3, 200 * second);
        let notes = gaps.notes();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("1970-01-01T00:01:40Z"), "{notes:?}");
        assert!(notes[0].contains("since 1970-01-01T00:01:00Z"), "{notes:?}");
    }

    #[test]
    fn a_silence_at_the_end_is_told() {
        let mut gaps = Gaps {
            window: Window::ALL,
            made: 2 * QUIET,
            runs: vec![(0, 0, None)],
        };
        gaps.saw(0, QUIET / 2);
        assert_eq!(
            gaps.notes(),
            ["the last thing that is known at all is of 1970-01-01T00:00:30Z"]
        );
        gaps.saw(0, 2 * QUIET);
        assert!(gaps.notes().is_empty());
    }
}
