//! The tracer under measurement: started on some processors, its output in memory or in a pipe.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{self, Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::processors::{self, Processors};

/// What is measured.
pub(crate) struct Tracer {
    pub(crate) program: PathBuf,
    pub(crate) mode: OsString,
}

/// Where its lines go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// A file in memory
    Kept,
    /// A pipe that we read
    Read,
}

/// It, while it runs.
pub(crate) struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
    output: PathBuf,
}

/// What its threads have had.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) time: Duration,
    /// How often they were woken.
    pub(crate) wake_ups: u64,
}

impl Daemon {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(tracer: &Tracer, lines: Lines, processors: &Processors) -> Result<Self> {
        let output = PathBuf::from(format!("/dev/shm/tracer-bench-{}", process::id()));
        let stdout = match lines {
            Lines::Kept => Stdio::from(File::create(&output).context("creating its output")?),
            Lines::Read => Stdio::piped(),
        };
        let everywhere = processors::all()?;
        processors::keep_to(processors)?;
        let child = Command::new(&tracer.program)
            .args(["run", "--output", "json", "--history", "off"])
            // Another tracer may serve its metrics at the usual port.
            .args(["--metrics-listen", "127.0.0.1:0", "--hook-mode"])
            .arg(&tracer.mode)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn();
        processors::keep_to(&everywhere)?;
        let mut child = child.with_context(|| format!("starting {}", tracer.program.display()))?;
        let stderr = child.stderr.take().context("stderr is a pipe")?;
        let mut daemon = Self {
            child,
            stderr: BufReader::new(stderr),
            output,
        };
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with("tracer: ready")) {
            let length = daemon.stderr.read_line(&mut said).context("its stderr")?;
            ensure!(length > 0, "the tracer does not become ready:\n{said}");
        }
        Ok(daemon)
    }

    /// Its lines, if they are to be read.
    pub(crate) fn lines(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("its lines are kept")
    }

    /// How many lines it has kept.
    pub(crate) fn kept(&self) -> Result<usize> {
        let text = fs::read(&self.output).context("reading its output")?;
        Ok(text.iter().filter(|byte| **byte == b'\n').count())
    }

    /// What its threads have had since they began. A thread is woken as often as it gives the processor up
    /// of itself.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage {
            time: Duration::ZERO,
            wake_ups: 0,
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        for task in fs::read_dir(&tasks).context("the tracer has ended")? {
            let path = task?.path();
            let read = |file: &str| {
                let path = path.join(file);
                fs::read_to_string(&path).with_context(|| path.display().to_string())
            };
            let (time, status) = (read("schedstat")?, read("status")?);
            let time = time
                .split_whitespace()
                .next()
                .and_then(|time| time.parse().ok());
            usage.time += Duration::from_nanos(time.context("no time in schedstat")?);
            let mut lines = status.lines();
            let given_up = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let given_up = given_up.and_then(|count| count.trim().parse::<u64>().ok());
            usage.wake_ups += given_up.context("no switches in status")?;
        }
        Ok(usage)
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("ending the tracer")?;
        let mut said = String::new();
        self.stderr
            .read_to_string(&mut said)
            .context("its stderr")?;
        let status = self.child.wait().context("waiting for the tracer")?;
        ensure!(status.success(), "the tracer ended with {status}:\n{said}");
        Ok(())
    }
}

impl Drop for Daemon {
    /// Leaves neither the process nor its output behind, whatever has failed.
    fn drop(&mut self) {
        // Either may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.output);
    }
}
