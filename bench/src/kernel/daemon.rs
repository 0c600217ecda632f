//! The tracer under measurement: a process that can be stopped, whose own time can be read, and whose
//! output must be complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::processor;
use crate::workload::Workload;

const TRACER: &str = "/usr/bin/tracer";
const OUTPUT: &str = "/tmp/events.json";

/// Longer than the tracer holds anything back.
const QUIET: Duration = Duration::from_millis(300);

/// How many seconds its idleness is watched: what it does every half minute, it does twice.
const IDLE: u32 = 60;

/// A running `tracer run`.
pub(crate) struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts it in a hook mode, with some further arguments, and waits until it is ready.
    pub(crate) fn start(mode: &str, arguments: &[&str]) -> Result<Self> {
        // It would add to what the one before it told.
        if fs::exists(OUTPUT)? {
            fs::remove_file(OUTPUT).context(OUTPUT)?;
        }
        let mut child = Command::new(TRACER)
            .args(["run", "--output", "json", "--output-file", OUTPUT])
            .args(["--history", "off"])
            .args(["--hook-mode", mode])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {TRACER}"))?;
        let stderr = child.stderr.take().context("stderr is a pipe")?;
        let mut daemon = Self {
            child,
            stderr: BufReader::new(stderr),
        };
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with("tracer: ready")) {
            let length = daemon.stderr.read_line(&mut said).context("its stderr")?;
            ensure!(length > 0, "the tracer does not become ready:\n{said}");
        }
        eprint!("{said}");
        Ok(daemon)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it spends in a second in which nothing happens.
    pub(crate) fn idle(&self) -> Result<f64> {
        self.become_quiet()?;
        let before = self.own_time()?;
        thread::sleep(Duration::from_secs(1) * IDLE);
        let spent = self.own_time()? - before;
        Ok(spent.as_secs_f64() * 1e9 / f64::from(IDLE))
    }

    /// A round beside it while it runs: how long the round and what it left to do took together, and what
    /// of that was the tracer's own time.
    pub(crate) fn running(
        &self,
        round: impl FnOnce() -> Result<Duration>,
    ) -> Result<(Duration, Duration)> {
        self.become_quiet()?;
        let before = self.own_time()?;
        let took = round()?;
        let at_end = self.own_time()?;
        self.become_quiet()?;
        let afterwards = self.own_time()?;
        Ok((took + (afterwards - at_end), afterwards - before))
    }

    /// A round while it stands still.
    pub(crate) fn stopped(&self, round: impl FnOnce() -> Result<Duration>) -> Result<Duration> {
        self.become_quiet()?;
        self.stand_still()?;
        let took = round();
        kill_process(self.pid(), Signal::CONT).context("resuming the tracer")?;
        self.become_quiet()?;
        took
    }

    /// Ends it. Its output must tell everything that the workloads have done since it started.
    pub(crate) fn end(mut self, workloads: &[Workload]) -> Result<()> {
        kill_process(self.pid(), Signal::TERM).context("ending the tracer")?;
        let mut said = String::new();
        self.stderr
            .read_to_string(&mut said)
            .context("its stderr")?;
        let status = self.child.wait().context("waiting for the tracer")?;
        ensure!(status.success(), "the tracer ended with {status}:\n{said}");
        let told = actions()?;
        let told = |action: &str| told.get(action).copied().unwrap_or(0);
        ensure!(told("events_lost") == 0, "events were lost");
        for workload in workloads {
            for (action, each) in workload.events {
                let expected = each * workload.done;
                let told = told(action);
                // The kernel's own threads come and go, too.
                if told < expected {
                    bail!("{}: {told} {action} instead of {expected}", workload.name);
                }
            }
        }
        Ok(())
    }

    /// Waits until it has done all that it has to.
    fn become_quiet(&self) -> Result<()> {
        loop {
            let before = self.own_time()?;
            thread::sleep(QUIET);
            if self.own_time()? == before {
                return Ok(());
            }
        }
    }

    fn stand_still(&self) -> Result<()> {
        kill_process(self.pid(), Signal::STOP).context("stopping the tracer")?;
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED);
        let stopped = stopped.context("waiting for the tracer to stop")?;
        ensure!(
            stopped.is_some_and(|(_, status)| status.stopped()),
            "the tracer has ended"
        );
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn own_time(&self) -> Result<Duration> {
        processor::time_of(self.id()).context("the tracer has ended")
    }
}

/// The events of its output by action.
fn actions() -> Result<BTreeMap<String, u32>> {
    const KEY: &str = r#""action":""#;
    let mut actions = BTreeMap::new();
    for line in BufReader::new(File::open(OUTPUT).context(OUTPUT)?).lines() {
        let line = line.context(OUTPUT)?;
        let (_, rest) = line.split_once(KEY).context("an event without an action")?;
        let (action, _) = rest.split_once('"').context("an action without an end")?;
        *actions.entry(action.to_owned()).or_default() += 1;
    }
    Ok(actions)
}
