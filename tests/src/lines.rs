//! The lines that a process writes: a pipe in, lines out, kept as they came.
//!
//! A thread drains the pipe and does nothing else, so that the writer never waits for a test.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that have come so far, without their newlines.
#[derive(Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Arc<[u8]>>,
    ended: bool,
}

impl Lines {
    /// Begins to drain `pipe`.
    pub fn drain(pipe: impl Read + Send + 'static) -> Lines {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::with_capacity(1 << 16, pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                line.pop_if(|last| *last == b'\n');
                writer.push(line.as_slice().into());
                line.clear();
            }
            writer.end();
        });
        Lines {
            shared,
            reader: Some(reader),
        }
    }

    /// The lines from number `first` on that have come by now.
    pub fn since(&self, first: usize) -> Vec<Arc<[u8]>> {
        self.shared
            .lock()
            .lines
            .get(first..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Waits for more than `count` lines; whether they came within `limit` and before the end.
    pub fn wait_past(&self, count: usize, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        while state.lines.len() <= count && !state.ended {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                break;
            };
            state = self
                .shared
                .grown
                .wait_timeout(state, left)
                .expect("the drain does not panic")
                .0;
        }
        state.lines.len() > count
    }

    /// Whether the writer has closed the pipe.
    pub fn ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// All lines that have come by now, for people to read.
    pub fn text(&self) -> String {
        let lines = self.since(0);
        lines
            .iter()
            .map(|line| String::from_utf8_lossy(line) + "\n")
            .collect()
    }

    /// Waits for the writer to close the pipe, so that [`Lines::since`] has everything.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the drain does not panic");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the drain does not panic")
    }

    fn push(&self, line: Arc<[u8]>) {
        self.lock().lines.push(line);
        self.grown.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.grown.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_without_newline_counts() {
        let mut lines = Lines::drain(&b"one\n\ntwo"[..]);
        lines.finish();
        let text: Vec<_> = lines.since(0).iter().map(|line| line.to_vec()).collect();
        assert_eq!(text, [&b"one"[..], b"", b"two"]);
        assert!(lines.ended());
    }

    #[test]
    fn waiting_past_the_end_returns_at_once() {
        let mut lines = Lines::drain(&b"one\n"[..]);
        assert!(lines.wait_past(0, Duration::from_secs(60)));
        lines.finish();
        assert!(!lines.wait_past(1, Duration::from_secs(60)));
    }
}
