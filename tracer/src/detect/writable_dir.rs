//! `exec_from_writable_dir`: a program in a directory that anyone may write to uses the network.
//!
//! In: connections, listeners and flows. Out: a finding for each program.

use super::finding::{Finding, Sentence};
use super::places::{program_name, writable_place};
use super::rule::{Rule, Severity};
use super::{Detector, Scene};
use crate::observation::{Fact, FlowStage};
use crate::output::action::{Action, ActionSet};

pub(super) static RULE: Rule = Rule {
    id: "exec_from_writable_dir",
    name: "Program in a writable directory uses the network",
    description: "A program that lies in /tmp, /var/tmp, /dev/shm or /run/user, or in memory alone, connects, listens or \
                  exchanges datagrams. Packages do not put programs there; who breaks in does.",
    techniques: &["T1105", "T1036.005"],
    method: "The path of the executable, or of the script that an interpreter runs, is below one of these directories, or the \
             executable is a memfd. Told once for each lineage. Build systems and installers do so, too: allow them \
             by lineage or path.",
};

pub(super) struct WritableDir;

impl Detector for WritableDir {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE
            .with(Action::ConnectionOpened)
            .with(Action::ConnectionAccepted)
            .with(Action::ConnectionFailed)
            .with(Action::ListenOpened)
            .with(Action::DatagramFlow)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let fact = scene.fact;
        if matches!(fact, Fact::DatagramFlow { stage, .. } if *stage != FlowStage::Start) {
            return;
        }
        let (Some(process), Some(connection)) = (fact.process(), fact.connection()) else {
            return;
        };
        let Some(place) = writable_place(&process.program) else {
            return;
        };
        let in_memory = process.program.memfd;
        let text = Sentence::about(process.name.as_bytes()).and(match fact {
            Fact::ListenOpened { .. } => " listens",
            _ => " uses the network",
        });
        let text = if in_memory {
            text.and(", and its program exists in memory alone")
        } else {
            text.and(", and its program ")
                .name(program_name(&process.program))
                .and(format_args!(" lies in {place}, where anyone can put one"))
        };
        let severity = if in_memory {
            Severity::High
        } else {
            Severity::Medium
        };
        let finding = Finding::about(scene.time, &RULE, severity, process, text);
        found.push(finding.with(connection));
    }
}
