//! A running tracer whose lines are looked at once and not kept: for runs that say millions of them.
//!
//! In: what to do with a line. Out: what came of it, when the tracer has ended. The checks of
//! [`crate::daemon::Tracer`], which takes a file and remembers every event, are left out.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Owned, ends_within};
use crate::lines::Lines;
use crate::loopback::free_address;
use crate::wait::DEADLINE;
use crate::{daemon, http};

/// A tracer that is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Folding<T> {
    child: Owned,
    stderr: Lines,
    reader: JoinHandle<T>,
    metrics: SocketAddr,
}

impl<T: Send + 'static> Folding<T> {
    /// Starts a tracer in the mode under test and hands every line that it says to `fold`.
    ///
    /// # Panics
    /// If it does not become ready; the message shows its stderr.
    pub fn start(initial: T, fold: fn(&mut T, &[u8])) -> Folding<T> {
        let metrics = free_address();
        let mut command = daemon::command(metrics, "off");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Owned::spawn(&mut command);
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = Lines::drain(child.stderr.take().expect("stderr is a pipe"));
        let reader = std::thread::spawn(move || read(stdout, initial, fold));
        assert!(
            daemon::becomes_ready(&stderr),
            "the tracer did not become ready:\n{}",
            stderr.text()
        );
        Folding {
            child,
            stderr,
            reader,
            metrics,
        }
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its metrics, as of now.
    ///
    /// # Panics
    /// If it does not serve them.
    #[track_caller]
    pub fn page(&self) -> String {
        let response = http::get(self.metrics, "/metrics").expect("the tracer serves metrics");
        assert_eq!(response.status, 200);
        response.body
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// If it does not end with status 0.
    #[track_caller]
    pub fn stop(mut self) -> T {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("an own child");
        assert!(ends_within(&self.child, DEADLINE), "it still runs");
        let status = self.child.status();
        self.stderr.finish();
        assert_eq!(status.code(), Some(0), "stderr:\n{}", self.stderr.text());
        self.reader.join().expect("every line can be folded")
    }
}

fn read<T>(pipe: impl Read, mut state: T, fold: fn(&mut T, &[u8])) -> T {
    let mut pipe = BufReader::with_capacity(1 << 20, pipe);
    let mut line = Vec::new();
    while pipe
        .read_until(b'\n', &mut line)
        .expect("a pipe can be read")
        > 0
    {
        fold(&mut state, &line);
        line.clear();
    }
    state
}
