//! `unusual_parent`: a server starts a shell, a downloader or another tool that it has no reason to start.
//!
//! In: processes that become another program. Out: a finding for each such child.

use super::finding::{Finding, Sentence};
use super::known_names::{SERVERS, is_one_of};
use super::places::{executable_name, program_name};
use super::rule::{Rule, Severity};
use super::{Detector, Scene};
use crate::observation::Fact;
use crate::output::action::{Action, ActionSet};
use crate::process::image::Parent;

pub(super) static RULE: Rule = Rule {
    id: "unusual_parent",
    name: "Tool started by a server",
    description: "A network server starts a shell, a downloader or another tool: a program that is attacked through what it \
                  serves does so when the attack succeeds.",
    techniques: &["T1059.004", "T1190", "T1505.003"],
    method: "The program that forked the process is a known server (web, database, name, mail, file servers) and the process \
             becomes a shell, an interpreter, a downloader or a tool for connections. Graver if the server was serving \
             somebody at the fork. CGI scripts and hooks that archive or notify look the same: allow their lineage.",
};

pub(super) struct Parents;

impl Detector for Parents {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE.with(Action::ProcessExec)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let Fact::ProcessExecuted(process) = scene.fact else {
            return;
        };
        let Parent::Known(_, parent) = &process.parent else {
            return;
        };
        // Of a script, its interpreter is the tool.
        let tool = executable_name(&process.program);
        if !scene.said.is_tool || !is_one_of(&SERVERS, program_name(&parent.program)) {
            return;
        }
        let text = Sentence::about(parent.name.as_bytes())
            .and(format_args!("[{}], a server, started ", parent.key.tgid))
            .name(tool);
        let (text, severity) = match &process.cause {
            Some(cause) => {
                let text = text.and(format_args!(" while it served {}", cause.peer));
                (text, Severity::High)
            }
            None => (text, Severity::Medium),
        };
        found.push(Finding::about(scene.time, &RULE, severity, process, text));
    }
}
