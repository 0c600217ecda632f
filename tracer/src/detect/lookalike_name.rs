//! `lookalike_name` and `masquerade`: programs that are named nearly, or exactly, as a daemon or a kernel thread, and are
//! something else.
//!
//! In: processes that become another program. Out: a finding, once it is known that no package brought the program.

use std::sync::Arc;

use super::Detector;
use super::finding::{Finding, Sentence};
use super::known_names::{KERNEL_THREADS, SYSTEM};
use super::places::{program_name, writable_place};
use super::rule::{Rule, Severity};
use super::unexamined::Unexamined;
use crate::event::BootTime;
use crate::observation::{Fact, Observation};
use crate::output::action::{Action, ActionSet};
use crate::process::image::{Image, Program};

pub(super) static RULE: Rule = Rule {
    id: "lookalike_name",
    name: "Name that resembles another",
    description: "A program has a name that differs from that of a known daemon or tool by one character, or by characters that \
                  look the same: it wants to be overlooked.",
    techniques: &["T1036.005"],
    method: "The last part of the path (of the script, where an interpreter runs one) is at a distance of one insertion, \
             deletion, exchange or swap from a known name of five characters or more, or has the same skeleton by Unicode's \
             confusables (TR 39), and no package brought the file, or it lies in a writable directory or in memory. \
             The known names are those of this build.",
};

pub(super) static MASQUERADE: Rule = Rule {
    id: "masquerade",
    name: "Program under another's name",
    description: "A process calls itself a kernel thread although it is none, or a known daemon although its program lies where \
                  anyone can put one, is deleted, or was altered since its package brought it.",
    techniques: &["T1036.003", "T1036.004"],
    method: "The name of the file, of the process (comm) or its first argument is a kernel thread's, e.g. [kworker/0:1], \
             and the process runs a program; or one of them is a known daemon's, and the program lies in a writable \
             directory or in memory alone, is deleted, or differs from what its package brought.",
};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lookalike,
    Masquerade,
}

pub(super) struct Names {
    kind: Kind,
    /// Programs whose name is suspicious, and whom they resemble.
    unexamined: Unexamined<&'static str>,
}

impl Names {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            unexamined: Unexamined::default(),
        }
    }

    fn judge(&self, time: BootTime, process: &Arc<Image>, known: &'static str) -> Option<Finding> {
        let why = reason(&process.program)?;
        if self.kind == Kind::Masquerade && why == Reason::Unpackaged {
            // Whoever builds a known program himself gives it its own name.
            return None;
        }
        let text = Sentence::about(program_name(&process.program));
        let (rule, text) = match self.kind {
            Kind::Lookalike => (&RULE, text.and(" is nearly the name of ")),
            Kind::Masquerade => (&MASQUERADE, text.and(" runs under the name of ")),
        };
        let text = text
            .and(format_args!("{known}, and its program "))
            .name(&process.program.executable)
            .and(why.text());
        let severity = match why {
            Reason::Unpackaged => Severity::Low,
            _ => Severity::High,
        };
        Some(Finding::about(time, rule, severity, process, text))
    }
}

impl Detector for Names {
    fn rule(&self) -> &'static Rule {
        match self.kind {
            Kind::Lookalike => &RULE,
            Kind::Masquerade => &MASQUERADE,
        }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE.with(Action::ProcessExec)
    }

    fn observe(&mut self, observation: &Observation<'_>, found: &mut Vec<Finding>) {
        let &Fact::ProcessExecuted(process) = &observation.fact else {
            return;
        };
        if process.kernel_thread || process.program.executable.is_empty() {
            return;
        }
        let time = observation.time;
        let known = match self.kind {
            Kind::Lookalike => resembled(program_name(&process.program)),
            Kind::Masquerade => {
                if let Some(thread) = kernel_thread(process) {
                    found.push(kernel_thread_finding(time, process, thread));
                    return;
                }
                daemon(process)
            }
        };
        let Some(known) = known else { return };
        let is_certain = writable_place(&process.program).is_some() || process.program.deleted;
        if is_certain || process.program.facts().is_some() {
            found.extend(self.judge(time, process, known));
        } else {
            self.unexamined.push(time, process, known);
        }
    }

    fn advance(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        for (_, process, known) in self.unexamined.ready(now) {
            found.extend(self.judge(now, &process, known));
        }
    }

    fn evictions(&self) -> u64 {
        self.unexamined.evictions()
    }
}

/// Why a name is not believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Memory,
    Writable,
    Deleted,
    Altered,
    Unpackaged,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Memory => " exists in memory alone",
            Self::Writable => " lies where anyone can put one",
            Self::Deleted => " has been deleted",
            Self::Altered => " is not what its package brought",
            Self::Unpackaged => " came with no package",
        }
    }
}

fn reason(program: &Program) -> Option<Reason> {
    let facts = program.facts();
    let reasons = [
        (program.memfd, Reason::Memory),
        (writable_place(program).is_some(), Reason::Writable),
        (program.deleted, Reason::Deleted),
        (
            facts.is_some_and(super::super::process::content::Facts::is_altered),
            Reason::Altered,
        ),
        (
            facts.is_some_and(super::super::process::content::Facts::is_unpackaged),
            Reason::Unpackaged,
        ),
    ];
    reasons
        .into_iter()
        .find_map(|(applies, reason)| applies.then_some(reason))
}

/// The known name that `name` resembles and is not.
pub(super) fn resembled(name: &[u8]) -> Option<&'static str> {
    const LENGTH_MIN: usize = 5;
    let name = std::str::from_utf8(name).ok()?;
    if name.len() < LENGTH_MIN || SYSTEM.contains(&name) {
        return None;
    }
    let skeleton: String = unicode_security::skeleton(name).collect();
    SYSTEM.into_iter().find(|known| {
        if known.len() < LENGTH_MIN {
            return false;
        }
        let looks_the_same = || unicode_security::skeleton(known).eq(skeleton.chars());
        // A distance of one cannot change the length by more.
        let is_near = known.len().abs_diff(name.len()) <= 1
            && !is_version_of(name, known)
            && strsim::osa_distance(name, known) == 1;
        is_near || looks_the_same()
    })
}

/// Whether they differ in digits at most, as `python3` and `python4` do.
fn is_version_of(name: &str, known: &str) -> bool {
    let bare = |name: &str| name.replace(|letter: char| letter.is_ascii_digit(), "");
    bare(name) == bare(known)
}

/// The kernel thread that a process claims to be.
fn kernel_thread(process: &Image) -> Option<&'static str> {
    let is_named = |name: &[u8], thread: &str| {
        let rest = name.strip_prefix(thread.as_bytes());
        rest.is_some_and(|rest| {
            rest.first()
                .is_none_or(|next| !next.is_ascii_alphanumeric())
        })
    };
    let first = first_argument(&process.program);
    // Brackets are how ps shows a thread without arguments.
    let bracketed = first.and_then(|first| first.strip_prefix(b"["));
    KERNEL_THREADS.into_iter().find(|thread| {
        is_named(process.name.as_bytes(), thread)
            || bracketed.is_some_and(|first| is_named(first, thread))
    })
}

fn kernel_thread_finding(time: BootTime, process: &Arc<Image>, thread: &'static str) -> Finding {
    let text = Sentence::about(b"a process calls itself ")
        .and(format_args!("{thread}, a thread of the kernel, and runs "))
        .name(&process.program.executable);
    Finding::about(time, &MASQUERADE, Severity::High, process, text)
}

/// The daemon that a process says it is.
fn daemon(process: &Image) -> Option<&'static str> {
    let first = first_argument(&process.program).map(|first| {
        let path = first.split(|&byte| byte == b' ').next().unwrap_or(first);
        path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
    });
    let names = [Some(program_name(&process.program)), first];
    names
        .into_iter()
        .flatten()
        .find_map(|name| SYSTEM.into_iter().find(|known| known.as_bytes() == name))
}

fn first_argument(program: &Program) -> Option<&[u8]> {
    program
        .arguments
        .as_deref()?
        .split(|&byte| byte == 0)
        .next()
}

#[cfg(test)]
mod tests {
    use super::resembled;

    #[test]
    fn a_name_one_letter_away_resembles_another() {
        for (name, known) in [
            ("systemd-jounald", "systemd-journald"),
            ("sytsemd", "systemd"),
            ("nginix", "nginx"),
            ("containerd-shin", "containerd-shim"),
            // A Cyrillic letter, and a digit in place of a letter.
            ("dоckerd", "dockerd"),
            ("conta1nerd", "containerd"),
        ] {
            assert_eq!(resembled(name.as_bytes()), Some(known), "{name}");
        }
    }

    #[test]
    fn other_names_do_not() {
        for name in [
            "systemd",
            "python4",
            "sh",
            "cron",
            "postgrest-api",
            "myserver",
            "sshd",
        ] {
            assert_eq!(resembled(name.as_bytes()), None, "{name}");
        }
        assert_eq!(resembled(b"systemd-jou\xffnald"), None);
    }
}
