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
    /// From when until when, in nanoseconds since 1970.
    window: (i64, i64),
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
        Self::new(stderr.is_terminal().then_some(stderr), window)
    }
}

impl<W: Write> Progress<W> {
    fn new(out: Option<W>, window: (i64, i64)) -> Self {
        Self {
            out,
            window,
            rows: 0,
            told: Instant::now(),
        }
    }

    /// One more row, of this time in nanoseconds since 1970.
    pub(super) fn row(&mut self, time: i64) {
        self.rows += 1;
        if self.out.is_some() && self.told.elapsed() >= INTERVAL {
            self.tell(time);
        }
    }

    fn tell(&mut self, time: i64) {
        self.told = Instant::now();
        let (rows, share) = (self.rows, self.share(time));
        if let Some(out) = &mut self.out {
            // Where it cannot be shown, nobody misses it.
            let _ = write!(out, "\r\x1b[Ktracer: {rows} rows, {share} %");
            let _ = out.flush();
        }
    }

    /// In percent.
    fn share(&self, time: i64) -> u8 {
        let (since, until) = self.window;
        let whole = i128::from(until) - i128::from(since);
        let done = i128::from(time) - i128::from(since);
        let share = (done * 100).checked_div(whole).unwrap_or(100);
        u8::try_from(share.clamp(0, 100)).unwrap_or(100)
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
        let progress = Progress::<Vec<u8>>::new(None, (1000, 3000));
        let shares = [0, 1000, 1500, 3000, 9000].map(|time| progress.share(time));
        assert_eq!(shares, [0, 0, 25, 100, 100]);
        let all = Progress::<Vec<u8>>::new(None, (i64::MIN, i64::MAX));
        assert_eq!(all.share(0), 50);
    }

    #[test]
    fn rows_and_share_are_told_in_one_line_that_is_written_over() {
        let mut progress = Progress::new(Some(Vec::new()), (0, 100));
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
        let mut progress = Progress::<Vec<u8>>::new(None, (0, 100));
        progress.row(10);
        progress.tell(10);
        progress.finish();
    }
}
