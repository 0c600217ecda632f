//! Processes that do something on the network and tell what they did.
//!
//! In: a name and arguments. Out: facts, one line of JSON each, from the process itself. It is the
//! test's own binary, started again as `BINARY --workload NAME ARGUMENTS`, so that each workload is
//! a fresh process whose PID, executable and arguments are known.

mod accepting;
mod asking;
mod belonging;
mod born;
mod cloning;
mod connecting;
mod datagrams;
mod echo;
mod exchange;
mod failing;
mod fast_open;
mod greeting;
mod handing;
mod holding;
pub mod kernel_client;
mod lives;
pub mod mix;
pub mod mptcp;
mod path_manager;
mod racing;
pub mod raw_sockets;
mod reconnecting;
mod running;
mod stories;
mod unreachable;
pub mod uring;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{Owned, ends_within};
use crate::lines::Lines;
use crate::wait::DEADLINE;

/// The argument that makes a test binary a workload.
pub const FLAG: &str = "--workload";

type Run = fn(&[OsString]) -> Result<()>;

/// Every workload by name; each function documents its arguments and its facts.
const WORKLOADS: &[(&str, Run)] = &[
    ("serve", exchange::serve),
    ("connect", exchange::connect),
    ("connect-in-thread", connecting::in_thread),
    ("connect-then-exec", connecting::then_exec),
    ("connect-until-told", connecting::until_told),
    ("accept", accepting::accept),
    ("accept-and-run", accepting::and_run),
    ("accept-never", accepting::never),
    ("listen", accepting::listen),
    ("hold", holding::hold),
    ("reset", failing::reset),
    ("refused", failing::refused),
    ("refused-later", failing::refused_later),
    ("refused-when-told", failing::refused_when_told),
    ("reconnect", reconnecting::reconnect),
    ("unreachable", failing::unreachable),
    ("give-up", failing::give_up),
    ("time-out", failing::time_out),
    ("uring-connect", uring::connect),
    ("uring-refused", uring::refused),
    ("uring-accept", uring::accept),
    ("uring-accept-and-reset", uring::accept_and_reset),
    ("hand-listener", handing::listener),
    ("take-listener", handing::take_listener),
    ("hand-over", handing::hand_over),
    ("keep", handing::keep),
    ("mix", mix::mix),
    ("mix-server", mix::server),
    ("mix-client", mix::client),
    ("mix-close", mix::close_passed),
    ("fast-open", fast_open::open),
    ("mptcp", mptcp::connect_to_itself),
    ("mptcp-paths", mptcp::over_several_paths),
    ("mptcp-falls-back", mptcp::fall_back),
    ("answer", asking::answer),
    ("ask", asking::ask),
    ("greet", greeting::greet),
    ("datagrams", datagrams::exchange),
    ("datagrams-without-ports", echo::exchange),
    ("datagrams-inherited", datagrams::with_inherited_socket),
    ("told-unreachable", unreachable::told),
    ("mount-nfs", kernel_client::mount),
    ("enter-cgroup", belonging::enter_cgroup),
    ("clone-into-cgroup", belonging::clone_into_cgroup),
    ("in-namespace", belonging::in_namespace),
    ("log-in", belonging::log_in),
    ("born", born::born),
    ("lives", lives::lives),
    ("crowd", lives::crowd),
    ("race", racing::race),
    ("tell-itself", racing::tell_itself),
    ("raw-sockets", raw_sockets::open),
    ("raw-sockets-refused", raw_sockets::refused),
    ("raw-sockets-not-handed-out", raw_sockets::not_handed_out),
    ("raw-socket-through-uring", raw_sockets::through_io_uring),
    ("exit", running::exit),
    ("wait", running::wait),
    ("beacon", stories::beacon),
    ("knock", stories::knock),
    ("scan", stories::scan),
    ("back-door", stories::back_door),
    ("with-mount", running::with_mount),
];

/// Runs a workload and ends the process, if its arguments ask for that. A test binary calls this
/// before anything else.
pub fn run_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != FLAG) {
        return;
    }
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    let run = WORKLOADS
        .iter()
        .find(|(known, _)| name == *known)
        .map(|(_, run)| run);
    let result = run
        .context("no such workload")
        .and_then(|run| run(&arguments));
    if let Err(error) = result {
        // The one who reads the facts sees that they end, and stderr says why.
        eprintln!("workload {}: {error:#}", name.display());
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Hands a fact to the test.
fn tell(fact: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{fact}")?;
    stdout.flush().context("the test listens")
}

/// Waits for [`Workload::go`], or for the test to lose interest.
fn wait_for_go() -> Result<()> {
    std::io::stdin()
        .read_line(&mut String::new())
        .context("stdin is a pipe")?;
    Ok(())
}

/// The argument at `index`, as UTF-8.
fn word(arguments: &[OsString], index: usize) -> Result<&str> {
    let Some(word) = arguments.get(index) else {
        bail!("argument {index} is missing")
    };
    word.to_str().context("the argument is not UTF-8")
}

/// The argument at `index`, as a value.
fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    arguments: &[OsString],
    index: usize,
) -> Result<T> {
    let word = word(arguments, index)?;
    word.parse()
        .with_context(|| format!("argument {index} is {word:?}"))
}

/// This test binary, which is also every workload's.
pub fn binary() -> PathBuf {
    std::env::current_exe().expect("/proc is mounted")
}

/// A command that runs a workload.
pub fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args([FLAG, name]).args(arguments);
    command
}

/// A workload that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Workload {
    child: Owned,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    told: usize,
}

impl Workload {
    /// Starts a workload.
    ///
    /// # Panics
    /// If it does not start. The other methods panic if it fails or falls silent.
    pub fn start(name: &str, arguments: &[&str]) -> Workload {
        Workload::spawn(&mut command(name, arguments))
    }

    /// Starts a command that tells facts as a workload does.
    pub fn spawn(command: &mut Command) -> Workload {
        let mut child = Owned::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = child.stdin.take();
        let stdout = Lines::drain(child.stdout.take().expect("stdout is a pipe"));
        Workload {
            child,
            stdin,
            stdout,
            told: 0,
        }
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next fact.
    #[track_caller]
    pub fn fact(&mut self) -> Value {
        self.fact_within(DEADLINE)
    }

    /// The next fact, from a workload that has much to do before it.
    #[track_caller]
    pub fn fact_within(&mut self, limit: Duration) -> Value {
        assert!(
            self.stdout.wait_past(self.told, limit),
            "workload {} tells nothing more",
            self.pid()
        );
        let line = &self.stdout.since(self.told)[0];
        self.told += 1;
        serde_json::from_slice(line).expect("facts are JSON")
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.stdin
            .as_mut()
            .expect("stdin is open until the end")
            .write_all(b"\n")
            .expect("the workload waits");
    }

    /// Kills it and waits for its end.
    pub fn kill(mut self) {
        self.child.end();
    }

    /// Lets it run to its end, which must be a success.
    #[track_caller]
    pub fn finish(mut self) {
        self.stdin = None;
        assert!(
            ends_within(&self.child, DEADLINE),
            "workload {} does not end",
            self.pid()
        );
        let status = self.child.status();
        assert!(
            status.success(),
            "workload {} ended with {status}",
            self.pid()
        );
    }
}

/// Runs a workload that tells one fact to its end.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn run(name: &str, arguments: &[&str]) -> (u32, Value) {
    let mut workload = Workload::start(name, arguments);
    let fact = workload.fact();
    let pid = workload.pid();
    workload.finish();
    (pid, fact)
}
