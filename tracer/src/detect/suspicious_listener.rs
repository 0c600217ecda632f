//! `suspicious_listener`: a program listens that did not come with the system and hides, or is left over.
//!
//! In: listeners, and the passing of time. Out: a finding for each lineage and port at which enough speaks against it.

use std::sync::Arc;

use super::finding::{Finding, Sentence};
use super::names::resembled;
use super::places::{program_name, writable_place};
use super::rule::{Rule, Severity};
use super::unexamined::Unexamined;
use super::{Detector, Scene};
use crate::event::BootTime;
use crate::observation::Connection;
use crate::output::action::{Action, ActionSet};
use crate::process::image::{Image, Parent};

pub(super) static RULE: Rule = Rule {
    id: "suspicious_listener",
    name: "Suspicious listener",
    description: "A program waits for connections that is not part of the system and hides: a back door, or a tool that somebody left \
                  running.",
    techniques: &["T1571", "T1205"],
    method: "Points: the program exists in memory alone or has been deleted 2; lies where anyone can put one 2; differs from what \
             its package brought 2; came with no package 1; \
             resembles the name of a known one 2; calls itself otherwise than its file 1; outlived the process that started it 1. \
             Three are told, five are grave. A listener at this host's own addresses alone counts the same.",
};

#[derive(Default)]
pub(super) struct Listeners {
    unexamined: Unexamined<Connection>,
}

impl Detector for Listeners {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE.with(Action::ListenOpened)
    }

    fn observe(&mut self, scene: &Scene<'_>, _: &mut Vec<Finding>) {
        let (Some(connection), Some(process)) = (scene.fact.connection(), scene.fact.process())
        else {
            return;
        };
        if !process.kernel_thread {
            self.unexamined
                .push(scene.time, process, connection.clone());
        }
    }

    fn advance(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        for (_, process, connection) in self.unexamined.ready(now) {
            found.extend(judge(now, &process, &connection));
        }
    }

    fn evictions(&self) -> u64 {
        self.unexamined.evictions()
    }
}

fn judge(time: BootTime, process: &Arc<Image>, connection: &Connection) -> Option<Finding> {
    const TOLD: u32 = 3;
    const GRAVE: u32 = 5;
    let reasons = reasons(process);
    let points: u32 = reasons.iter().map(|(points, _)| points).sum();
    if points < TOLD {
        return None;
    }
    let local = connection.endpoints.local;
    let reasons: Vec<String> = reasons.into_iter().map(|(_, reason)| reason).collect();
    let text = Sentence::about(process.name.as_bytes())
        .and(format_args!(" listens at {local}; its program "))
        .name(&process.program.executable)
        .and(format_args!(" {}", reasons.join(", ")));
    let severity = if points >= GRAVE {
        Severity::High
    } else {
        Severity::Medium
    };
    let finding = Finding::about(time, &RULE, severity, process, text);
    Some(finding.with(connection).on(local.port()))
}

/// What speaks against it, with points.
fn reasons(process: &Image) -> Vec<(u32, String)> {
    let program = &*process.program;
    let facts = program.facts();
    let disagreements = process.disagreements();
    let mut reasons: Vec<(u32, String)> = Vec::new();
    let mut add = |applies: bool, points: u32, text: &str| {
        if applies {
            reasons.push((points, text.to_owned()));
        }
    };
    let in_writable_place = !program.memfd && writable_place(program).is_some();
    add(program.memfd, 2, "exists in memory alone");
    add(program.deleted && !program.memfd, 2, "has been deleted");
    add(in_writable_place, 2, "lies where anyone can put one");
    let is_altered = facts.is_some_and(super::super::process::content::Facts::is_altered);
    add(is_altered, 2, "is not what its package brought");
    let is_unpackaged = facts.is_some_and(super::super::process::content::Facts::is_unpackaged);
    add(is_unpackaged, 1, "came with no package");
    if let Some(known) = resembled(program_name(program)) {
        add(true, 2, &format!("resembles the name {known}"));
    }
    let disagrees = disagreements.name || disagreements.first_argument;
    add(disagrees, 1, "is not called what the process calls itself");
    add(
        is_orphan(process),
        1,
        "outlived the process that started it",
    );
    reasons
}

/// Whether another process than the one that forked it is its parent now.
fn is_orphan(process: &Image) -> bool {
    match (&process.parent, &process.present_parent) {
        (Parent::Known(_, parent), Some(present)) => present.key != parent.key,
        _ => false,
    }
}
