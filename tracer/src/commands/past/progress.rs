//! How far long work has come.
//!
//! In: times that have been reached. Out: a line on a terminal, some times a second; elsewhere nothing.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::history::reader::History;

/// How often it is told.
const INTERVAL: Duration = Duration::from_millis(200);

/// Tells how much of a window has been worked through.
pub(super) struct Progress<W: Write> {
    /// Where to, if anywhere.
    out: Option<W>,
    /// Of what it tells a share: from when until when, in nanoseconds since 1970, or of so many bytes.
    whole: Option<(i64, i64)>,
    rows: u64,
    told: Instant,
}

impl Progress<io::Stderr> {
    /// On stderr, if that is a terminal.
    pub(super) fn of(history: &History) -> Self {
        let stderr = io::stderr();
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let window = history.window();
        let window = (window.since.max(history.begun()), window.until.min(now));
        Self::new(stderr.is_terminal().then_some(stderr), Some(window))
    }

    /// The same for a file of so many bytes, if that is known.
    pub(super) fn of_bytes(length: Option<u64>) -> Self {
        let stderr = io::stderr();
        let whole = length.map(|length| (0, i64::try_from(length).unwrap_or(i64::MAX)));
        Self::new(stderr.is_terminal().then_some(stderr), whole)
    }

    /// Nothing is told where lines are shown: they would be mixed.
    pub(super) fn silent(mut self, is_silent: bool) -> Self {
        self.out = self.out.filter(|_| !is_silent);
        self
    }
}

impl<W: Write> Progress<W> {
    fn new(out: Option<W>, whole: Option<(i64, i64)>) -> Self {
        Self {
            out,
            whole,
            rows: 0,
            told: Instant::now(),
        }
    }

    /// One more row, of this time in nanoseconds since 1970, or at this byte.
    pub(super) fn row(&mut self, place: i64) {
        self.rows += 1;
        if self.out.is_some() && self.told.elapsed() >= INTERVAL {
            self.tell(place);
        }
    }

    fn tell(&mut self, place: i64) {
        self.told = Instant::now();
        let rows = self.rows;
        let share = self.share(place);
        let share = share.map_or_else(String::new, |share| format!(", {share} %"));
        if let Some(out) = &mut self.out {
            // Where it cannot be shown, nobody misses it.
            let _ = write!(out, "\r\x1b[Ktracer: {rows} rows{share}");
            let _ = out.flush();
        }
    }

    /// In percent, if the whole is known.
    fn share(&self, place: i64) -> Option<u8> {
        let (since, until) = self.whole?;
        let whole = i128::from(until) - i128::from(since);
        let done = i128::from(place) - i128::from(since);
        let share = (done * 100).checked_div(whole).unwrap_or(100);
        u8::try_from(share.clamp(0, 100)).ok()
    }

    /// The work is done.
    pub(super) fn finish(mut self) {
        let rows = self.rows;
        if let Some(out) = &mut self.out {
            // As above.
            let _ = writeln!(out, "\r\x1b[Ktracer: {rows} rows");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_window() {
        let progress = Progress::<Vec<u8>>::new(None, Some((1000, 3000)));
        let shares = [0, 1000, 1500, 3000, 9000].map(|time| progress.share(time));
        assert_eq!(shares, [0, 0, 25, 100, 100].map(Some));
        let all = Progress::<Vec<u8>>::new(None, Some((i64::MIN, i64::MAX)));
        assert_eq!(all.share(0), Some(50));
        let unknown = Progress::<Vec<u8>>::new(None, None);
        assert_eq!(unknown.share(0), None);
    }

    #[test]
    fn rows_and_share_are_told_in_one_line_that_is_written_over() {
        let mut progress = Progress::new(Some(Vec::new()), Some((0, 100)));
        progress.row(10);
        assert!(
            progress.out.as_ref().unwrap().is_empty(),
            "not for every row"
        );
        progress.tell(50);
        let told = String::from_utf8(progress.out.unwrap()).unwrap();
        assert_eq!(told, "\r\u{1b}[Ktracer: 1 rows, 50 %");
    }

    #[test]
    fn nothing_is_told_where_nobody_looks() {
        let mut progress = Progress::<Vec<u8>>::new(None, Some((0, 100)));
        progress.row(10);
        progress.tell(10);
        progress.finish();
    }
}
