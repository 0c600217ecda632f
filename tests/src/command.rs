//! Programs that run to their end: a command in, its exit status and output out.

use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

use crate::lines::Lines;
use crate::wait;

/// A child that is killed when it is dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Owned(Child);

impl Owned {
    /// Starts a command.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Owned {
        let die_with_parent = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec, this only makes a system call.
        unsafe { command.pre_exec(die_with_parent) };
        let child = command.spawn();
        Owned(child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
    }

    /// Waits for its end.
    pub fn status(&mut self) -> ExitStatus {
        self.0.wait().expect("an own child can be waited for")
    }

    /// Kills it and waits for its end.
    pub fn end(&mut self) {
        self.0.kill().expect("an own child can be killed");
        self.status();
    }
}

impl Deref for Owned {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs a command to its end and collects what it writes, unless the caller has already said where
/// stdout goes.
///
/// # Panics
/// If it does not start, or has not ended by [`wait::DEADLINE`]; then it is killed first.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let mut child = Owned::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
    let mut stdout = child.stdout.take().map(Lines::drain);
    let mut stderr = Lines::drain(child.stderr.take().expect("stderr is a pipe"));
    let ended = ends_within(&child, wait::DEADLINE);
    if !ended {
        child.end();
    }
    let status = child.status();
    stderr.finish();
    let stdout = stdout.as_mut().map_or_else(String::new, |lines| {
        lines.finish();
        lines.text()
    });
    let finished = Finished {
        code: status.code(),
        stdout,
        stderr: stderr.text(),
    };
    assert!(ended, "{command:?} did not end: {finished:#?}");
    finished
}

/// Waits at most `limit` for a child to end; whether it did. It remains to be waited for.
pub fn ends_within(child: &Child, limit: Duration) -> bool {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .expect("the child has not been waited for");
    let limit = Timespec::try_from(limit).expect("a limit of seconds fits");
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).expect("poll accepts a pidfd") > 0
}
