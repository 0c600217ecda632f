//! A running tracer: arguments in, checked events out.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Owned, ends_within};
use crate::environment;
use crate::event::Event;
use crate::invariants::Checker;
use crate::journal::Journal;
use crate::lines::Lines;
use crate::loopback::{self, free_address};
use crate::procfs::TcpSocket;
use crate::wait::{self, DEADLINE, within};

/// How long the tracer may take from SIGINT or SIGTERM to its end, on a real machine.
const DRAIN: Duration = Duration::from_secs(5);

/// A tracer that is ready, and everything that it has said. Dropping it kills it.
#[derive(Debug)]
pub struct Tracer {
    child: Owned,
    stdout: Journal,
    stderr: Lines,
    checker: Checker,
    events: Vec<Event>,
    metrics: SocketAddr,
}

/// What remains of a tracer that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Every event, in order.
    pub events: Vec<Event>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Tracer {
    /// Starts `tracer run` in the mode under test, with further arguments, and waits until it is
    /// ready.
    ///
    /// # Panics
    /// If it does not become ready; the message shows its stderr.
    pub fn start(arguments: &[&str]) -> Tracer {
        Tracer::start_with_socket("off", arguments)
    }

    /// The same with a place to ask it.
    ///
    /// # Panics
    /// As [`Tracer::start`].
    pub fn start_with_socket(socket: &str, arguments: &[&str]) -> Tracer {
        let metrics = free_address();
        let mut tracer = Tracer::spawn(command(metrics, socket).args(arguments));
        tracer.metrics = metrics;
        assert!(
            tracer.becomes_ready(),
            "the tracer did not become ready:\n{}",
            tracer.stderr()
        );
        tracer
    }

    /// Starts a command that prints events on stdout, ready or not.
    pub fn spawn(command: &mut Command) -> Tracer {
        let stdout = Journal::create().expect("a temporary file");
        command
            .stdin(Stdio::null())
            .stdout(stdout.writer().expect("a descriptor"))
            .stderr(Stdio::piped());
        let mut child = Owned::spawn(command);
        let stderr = child.stderr.take().expect("stderr is a pipe");
        Tracer {
            child,
            stdout,
            stderr: Lines::drain(stderr),
            checker: Checker::default(),
            events: Vec::new(),
            metrics: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// Waits until it says that it is ready; false if it ends or falls silent before.
    pub fn becomes_ready(&mut self) -> bool {
        becomes_ready(&self.stderr)
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Every event so far.
    pub fn events(&mut self) -> &[Event] {
        for line in self.stdout.read().expect("a file can be read") {
            self.events.push(self.checker.check(&line));
        }
        &self.events
    }

    /// Waits until an event from number `first` on satisfies `wanted`; `what` names it.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, first: usize, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut looked = first;
        let found = within(DEADLINE, || {
            let ended = ends_within(&self.child, Duration::ZERO);
            let events = self.events();
            let new = &events[looked.min(events.len())..];
            looked = events.len();
            match new.iter().find(|event| wanted(event)) {
                None if ended => Some(None),
                None => None,
                found => Some(found.cloned()),
            }
        });
        found.flatten().unwrap_or_else(|| {
            let recent: String = self.events[first..]
                .iter()
                .rev()
                .take(3)
                .map(Event::to_string)
                .collect();
            panic!(
                "no event: {what}; the last ones are {recent}\nstderr:\n{}",
                self.stderr.text()
            )
        })
    }

    /// Does something and returns the events that came of it. They are complete as soon as no
    /// connection is left half closed and those of one made afterwards have come: the kernel's records
    /// are in a total order.
    ///
    /// # Panics
    /// If a line of the output is not as it should be.
    #[track_caller]
    pub fn observe<T>(&mut self, act: impl FnOnce() -> T) -> (T, Vec<Event>) {
        let first = self.events().len();
        let result = act();
        wait::until("connections to end", || {
            let is_ending = |socket: &TcpSocket| socket.is_loopback && socket.is_ending();
            (!TcpSocket::all().iter().any(is_ending)).then_some(())
        });
        self.fence(first);
        self.checker.expect_none();
        (result, self.events()[first..].to_vec())
    }

    /// As [`Tracer::observe`], for what is only told once it cannot be otherwise any more: waits for
    /// an event that is `wanted`, too; `what` names it.
    #[track_caller]
    pub fn observe_until<T>(
        &mut self,
        act: impl FnOnce() -> T,
        what: &str,
        wanted: impl Fn(&T, &Event) -> bool,
    ) -> (T, Vec<Event>) {
        let first = self.events().len();
        let (result, _) = self.observe(act);
        self.wait_for(what, first, |event| wanted(&result, event));
        self.checker.expect_none();
        (result, self.events()[first..].to_vec())
    }

    #[track_caller]
    fn fence(&mut self, first: usize) {
        let (listener, address) = loopback::listener();
        let client = TcpStream::connect(address).expect("it listens");
        let port = client
            .local_addr()
            .expect("a connected socket has an address")
            .port();
        let server = listener.accept().expect("a connection waits").0;
        drop(client);
        drop(server);
        let own = std::process::id();
        for direction in ["egress", "ingress"] {
            self.wait_for(
                &format!("the {direction} end of a fence is closed"),
                first,
                |event| {
                    event.is("connection_closed", own)
                        && (event.source_port(), event.destination_port()) == (port, address.port())
                        && event.text("/network/direction") == direction
                },
            );
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("an own child can be signalled");
    }

    /// Ends it by a signal that it must heed within [`DRAIN`], with status 0. An emulated machine takes
    /// seconds for what the kernel does alone: it detaches each kprobe by stopping every processor.
    #[track_caller]
    pub fn stop(self, signal: Signal) -> Ended {
        self.signal(signal);
        let limit = if environment::in_vm() {
            DEADLINE
        } else {
            DRAIN
        };
        let ended = self.wait(limit);
        assert_eq!(ended.status.code(), Some(0), "stderr:\n{}", ended.stderr);
        ended
    }

    /// Waits for it to end.
    ///
    /// # Panics
    /// If it does not within `limit`.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Ended {
        assert!(
            ends_within(&self.child, limit),
            "it still runs after {limit:?}; stderr:\n{}",
            self.stderr.text()
        );
        let status = self.child.status();
        self.stderr.finish();
        self.events();
        self.checker.expect_none();
        Ended {
            events: std::mem::take(&mut self.events),
            status,
            stderr: self.stderr.text(),
        }
    }
}

/// `tracer run` with JSON on stdout, in the mode under test, that serves `metrics` and answers at `socket`.
pub fn command(metrics: SocketAddr, socket: &str) -> Command {
    let mut command = Command::new(environment::tracer_bin());
    let mode = environment::hook_mode().as_str();
    command.args(["run", "-o", "json", "--hook-mode", mode]);
    command.args(["--metrics-listen", &metrics.to_string()]);
    command.args(["--socket", socket]);
    // A test that wants one says where, which counts instead of this.
    command.args(["--history", "off"]);
    // What it finds must be true at any time, also under load.
    command.args(["--comparison", "1s"]);
    command
}

/// Waits until a tracer says on stderr that it is ready; false if it ends or falls silent before.
pub fn becomes_ready(stderr: &Lines) -> bool {
    let mut seen = 0;
    while stderr.wait_past(seen, DEADLINE) {
        let lines = stderr.since(seen);
        seen += lines.len();
        if lines
            .iter()
            .any(|line| says_ready(&String::from_utf8_lossy(line)))
        {
            return true;
        }
    }
    false
}

/// Whether text has the word by which a tracer announces that everything is attached and works.
/// (`already` is none.)
pub fn says_ready(text: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric())
        .any(|word| word == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tracer {
        Tracer::spawn(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn already_is_not_ready() {
        assert!(says_ready("tracer: ready in 120 ms, connect by fentry"));
        assert!(!says_ready("127.0.0.1:10935: address already in use"));
    }

    #[test]
    fn a_tracer_that_ends_does_not_become_ready() {
        assert!(shell("echo starting >&2; echo ready >&2; read line").becomes_ready());
        assert!(!shell("echo starting >&2; exit 3").becomes_ready());
    }

    #[test]
    fn how_it_ended_is_kept() {
        let ended = shell("echo sorry >&2; exit 3").wait(DEADLINE);
        assert_eq!(
            (ended.status.code(), ended.stderr.as_str()),
            (Some(3), "sorry\n")
        );
    }
}
