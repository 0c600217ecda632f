//! The tools, with what each claims to tell, and one of them while it runs.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::output::Output;
use super::probe::Deed;
use crate::processor;

const OUTPUT: &str = "/tmp/output";
const ERRORS: &str = "/tmp/errors";

/// Where the guest has shared libraries of the tools.
const LIBRARIES: &str = "/usr/lib/foreign";

/// Longer than a tool holds anything back, or waits between two looks at its buffers.
const QUIET: Duration = Duration::from_millis(300);

/// Enough for what any buffer holds.
const CATCH_UP: Duration = Duration::from_secs(3);

/// How long its idleness is watched.
const IDLE: Duration = Duration::from_secs(6);

/// An event that a tool tells: a word that only such a line has (none, if a tool has one kind of line),
/// and how many one operation leads to.
pub(super) type Event = (&'static str, u32);

/// A tool as a user would start it.
pub(super) struct Tool {
    pub(super) name: &'static str,
    command: &'static [&'static str],
    /// What shows first whether it sees.
    pub(super) deed: Deed,
    /// What it claims to tell, by workload.
    events: &'static [(&'static str, &'static [Event])],
}

/// All of them.
const ALL: [Tool; 6] = [
    Tool {
        name: "tracer",
        command: &["/usr/bin/tracer", "run", "--output", "json"],
        deed: Deed::Connect,
        events: &[
            (
                "connection",
                &[
                    ("connection_opened", 1),
                    ("connection_accepted", 1),
                    ("connection_closed", 2),
                ],
            ),
            ("refused", &[("connection_failed", 1)]),
            ("process", &[("process_exec", 1), ("process_exit", 1)]),
        ],
    },
    Tool {
        name: "tcplife",
        command: &["/usr/bin/tcplife"],
        deed: Deed::Connect,
        events: &[("connection", &[("", 2)]), ("refused", &[("", 1)])],
    },
    Tool {
        name: "tcptracer",
        command: &["/usr/bin/tcptracer"],
        deed: Deed::Connect,
        events: &[("connection", &[("C", 1), ("A", 1), ("X", 2)])],
    },
    Tool {
        name: "tcpconnect",
        command: &["/usr/bin/tcpconnect"],
        deed: Deed::Connect,
        events: &[("connection", &[("", 1)]), ("refused", &[("", 1)])],
    },
    Tool {
        name: "execsnoop",
        command: &["/usr/bin/execsnoop"],
        deed: Deed::Execute,
        events: &[("process", &[("", 1)])],
    },
    Tool {
        name: "bpftrace",
        command: &["/usr/bin/bpftrace", "/usr/share/connections.bt"],
        deed: Deed::Connect,
        events: &[
            ("connection", &[("connect", 1), ("accept", 1), ("close", 2)]),
            ("refused", &[("connect", 1)]),
            ("process", &[("exec", 1), ("exit", 1)]),
        ],
    },
];

impl Tool {
    pub(super) fn find(name: &str) -> Result<&'static Self> {
        let tool = ALL.iter().find(|tool| tool.name == name);
        tool.with_context(|| format!("no tool {name}"))
    }

    /// What it claims to tell of one operation; empty, if it does not claim to see it.
    pub(super) fn events_of(&self, workload: &str) -> &'static [Event] {
        let events = self.events.iter().find(|(name, _)| *name == workload);
        events.map_or(&[], |(_, events)| events)
    }
}

/// A tool while it runs.
pub(super) struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    pub(super) fn start(tool: &Tool) -> Result<Self> {
        let (program, arguments) = tool.command.split_first().context("no program")?;
        let child = Command::new(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", LIBRARIES)
            .stdin(Stdio::null())
            .stdout(File::create(OUTPUT).context(OUTPUT)?)
            .stderr(File::create(ERRORS).context(ERRORS)?)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self {
            name: tool.name,
            child,
        })
    }

    /// Whether it waits for something just now.
    pub(super) fn is_asleep(&mut self) -> Result<bool> {
        if let Some(status) = self.child.try_wait().context("waiting for the tool")? {
            bail!("{} ended with {status}:\n{}", self.name, errors());
        }
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).context(path)?;
        // The name in parentheses may contain anything.
        let state = stat.rsplit_once(") ").context("no state")?.1;
        Ok(state.starts_with('S'))
    }

    /// Its part of the processor when nothing happens.
    pub(super) fn idle(&self) -> Result<f64> {
        let before = self.own_time()?;
        thread::sleep(IDLE);
        Ok((self.own_time()? - before).as_secs_f64() / IDLE.as_secs_f64())
    }

    /// A round beside it: how long the round and what it left to do took together, without what the tool
    /// does in any case.
    pub(super) fn round(
        &self,
        idle: f64,
        round: impl FnOnce() -> Result<Duration>,
    ) -> Result<Duration> {
        let took = round()?;
        let mut left = 0.0;
        loop {
            let before = self.own_time()?;
            thread::sleep(QUIET);
            let spent = (self.own_time()? - before).as_secs_f64();
            let extra = spent - idle * QUIET.as_secs_f64();
            // What is less than a second's idleness is no work that was left.
            if extra <= idle {
                return Ok(took + Duration::from_secs_f64(f64::max(left, 0.0)));
            }
            left += extra;
        }
    }

    /// A round while it stands still, and time to catch up.
    pub(super) fn held_off(&self, round: impl FnOnce() -> Result<Duration>) -> Result<()> {
        self.signal(Signal::STOP)?;
        thread::sleep(QUIET);
        round()?;
        self.signal(Signal::CONT)?;
        thread::sleep(CATCH_UP);
        Ok(())
    }

    /// Bytes of memory that are its own or that it uses.
    pub(super) fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).context(path)?;
        let kilobytes = status.lines().find_map(|line| {
            let value = line.strip_prefix("VmRSS:")?.trim();
            value.strip_suffix(" kB")?.parse::<u64>().ok()
        });
        Ok(kilobytes.context("no VmRSS")? * 1024)
    }

    /// Ends it as a user does, with Ctrl-C. What it has told.
    pub(super) fn end(mut self) -> Result<Output> {
        thread::sleep(QUIET);
        self.signal(Signal::INT)?;
        let status = self.child.wait().context("waiting for the tool")?;
        let errors = errors();
        ensure!(
            status.success(),
            "{} ended with {status}:\n{errors}",
            self.name
        );
        eprint!("{errors}");
        Output::read(OUTPUT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let result = kill_process(Pid::from_child(&self.child), signal);
        result.with_context(|| format!("sending {} a signal", self.name))
    }

    fn own_time(&self) -> Result<Duration> {
        processor::time_of(self.child.id())
    }
}

fn errors() -> String {
    fs::read_to_string(ERRORS).unwrap_or_default()
}
