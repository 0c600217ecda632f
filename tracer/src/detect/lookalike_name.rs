//! `lookalike_name` and `masquerade`: programs that are named nearly, or exactly, as a daemon or a kernel thread, and are
//! something else.
//!
//! In: processes that become another program. Out: a finding, once it is known that no package brought the program.

use std::sync::Arc;

use super::finding::{Finding, Sentence};
use super::places::{program_name, writable_place};
use super::rule::{Rule, Severity};
use super::unexamined::Unexamined;
use super::{Detector, Scene};
use crate::event::BootTime;
use crate::observation::Fact;
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

/// What a name claims.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nearly this.
    Nearly(&'static str),
    /// Exactly this.
    Exactly(&'static str),
}

#[derive(Default)]
pub(super) struct Claims {
    /// Programs whose name is suspicious.
    unexamined: Unexamined<Claim>,
}

fn judge(time: BootTime, process: &Arc<Image>, claim: Claim) -> Option<Finding> {
    let why = reason(&process.program)?;
    let text = Sentence::about(program_name(&process.program));
    let (rule, text, known) = match claim {
        Claim::Nearly(known) => (&RULE, text.and(" is nearly the name of "), known),
        // Whoever builds a known program himself gives it its own name.
        Claim::Exactly(_) if why == Reason::Unpackaged => return None,
        Claim::Exactly(known) => (&MASQUERADE, text.and(" runs under the name of "), known),
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

impl Detector for Claims {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE, &MASQUERADE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE.with(Action::ProcessExec)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let &Fact::ProcessExecuted(process) = scene.fact else {
            return;
        };
        if process.kernel_thread || process.program.executable.is_empty() {
            return;
        }
        let said = scene.said;
        if let Some(thread) = said.thread {
            found.push(kernel_thread_finding(scene.time, process, thread));
            return;
        }
        let nearly = said.resembles.map(Claim::Nearly);
        let Some(claim) = nearly.or(said.daemon.map(Claim::Exactly)) else {
            return;
        };
        let is_certain = writable_place(&process.program).is_some() || process.program.deleted;
        if is_certain || process.program.facts().is_some() {
            found.extend(judge(scene.time, process, claim));
        } else {
            self.unexamined.push(scene.time, process, claim);
        }
    }

    fn advance(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        for (_, process, claim) in self.unexamined.ready(now) {
            found.extend(judge(now, &process, claim));
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

fn kernel_thread_finding(time: BootTime, process: &Arc<Image>, thread: &'static str) -> Finding {
    let text = Sentence::about(b"a process calls itself ")
        .and(format_args!("{thread}, a thread of the kernel, and runs "))
        .name(&process.program.executable);
    Finding::about(time, &MASQUERADE, Severity::High, process, text)
}
