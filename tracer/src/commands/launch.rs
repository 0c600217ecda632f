//! `trace -- CMD`: starts the command so that nothing it does is missed.
//!
//! The tracer first starts a copy of itself, which stops. Once the tracer knows that process and
//! shows its tree, it lets the copy go on, which then becomes the command.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitCode, ExitStatus},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use crate::{event::ProcessKey, failure::Failure, observation::Sink, session::Session};

/// What the copy is called; [`is_launcher`] knows it by that.
const NAME: &str = "tracer-launcher";

/// Exit status of a copy that could not become the command, as docker's.
const NOT_RUN: u8 = 125;

/// Whether this process is the copy.
pub fn is_launcher() -> bool {
    env::args_os().next().is_some_and(|name| name == NAME)
}

/// What the copy does: stops, and becomes the command that its arguments are.
pub fn become_command() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return ExitCode::from(NOT_RUN);
    };
    let error = match kill_process(getpid(), Signal::STOP) {
        Ok(()) => Command::new(&program).args(arguments).exec(),
        Err(errno) => errno.into(),
    };
    let _ = writeln!(
        io::stderr(),
        "tracer: cannot run {}: {error}",
        program.display()
    );
    ExitCode::from(NOT_RUN)
}

/// A command that waits to be let go.
pub(super) struct Launched {
    child: Child,
    key: ProcessKey,
}

impl Launched {
    /// Starts the copy and waits until it has stopped; `None` if there is no command.
    pub(super) fn start<S: Sink>(
        command: &[OsString],
        session: &mut Session<S>,
    ) -> Result<Option<Self>, Failure> {
        if command.is_empty() {
            return Ok(None);
        }
        let failed = |error: io::Error| {
            let name = command[0].display();
            Failure::failed(format_args!("cannot start {name}: {error}"))
        };
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .args(command)
            .spawn()
            .map_err(failed)?;
        waitpid(
            Pid::from_raw(child.id().cast_signed()),
            WaitOptions::UNTRACED,
        )
        .map_err(|errno| failed(errno.into()))?;
        session.pipeline.take_all();
        let key = session
            .pipeline
            .state()
            .child_of(session.own_key)
            .ok_or_else(|| failed(io::Error::other("its fork was not seen")))?;
        Ok(Some(Self { child, key }))
    }

    /// The process that will be the command.
    pub(super) fn key(&self) -> ProcessKey {
        self.key
    }

    /// Lets it go.
    pub(super) fn release(self) -> Result<Child, Failure> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        pid.map_or(Ok(()), |pid| kill_process(pid, Signal::CONT))
            .map_err(|errno| Failure::failed(format_args!("cannot start the command: {errno}")))?;
        Ok(self.child)
    }
}

/// What the command's end means for us: nothing, unless it never began.
pub(super) fn judge(status: ExitStatus) -> Result<(), Failure> {
    if status.code() == Some(i32::from(NOT_RUN)) && status.signal().is_none() {
        return Err(Failure::failed("the command was not run"));
    }
    Ok(())
}
