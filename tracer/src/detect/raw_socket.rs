//! `raw_socket`: a process that is not known for it opens a socket that can see or forge traffic.
//!
//! In: raw and packet sockets that are opened. Out: a finding for each lineage.

use super::finding::{Finding, Sentence};
use super::known_names::{RAW_SOCKET_USERS, is_one_of};
use super::places::{program_name, writable_place};
use super::rule::{Rule, Severity};
use super::{Detector, Scene};
use crate::event::RawFamily;
use crate::observation::Fact;
use crate::output::action::{Action, ActionSet};

pub(super) static RULE: Rule = Rule {
    id: "raw_socket",
    name: "Raw or packet socket",
    description: "A program opens a socket by which it can see traffic that is not its own, or forge packets: sniffers, scanners \
                  and backdoors that wait for a magic packet do.",
    techniques: &["T1040", "T1205.002"],
    method: "Told of every lineage but those of programs that are known for it (ping, traceroute, tcpdump, DHCP clients, \
             network managers and the like) and lie where packages put them. A name alone does not count.",
};

pub(super) struct RawSockets;

impl Detector for RawSockets {
    fn rules(&self) -> &'static [&'static Rule] {
        const { &[&RULE] }
    }

    fn actions(&self) -> ActionSet {
        ActionSet::NONE.with(Action::SocketOpened)
    }

    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>) {
        let &Fact::SocketOpened {
            socket,
            process: Some(process),
            ..
        } = scene.fact
        else {
            return;
        };
        let program = &process.program;
        let is_installed = program.executable.starts_with(b"/usr/")
            || program.executable.starts_with(b"/sbin/")
            || program.executable.starts_with(b"/bin/");
        let is_altered = program
            .facts()
            .is_some_and(super::super::process::content::Facts::is_altered);
        let is_known = is_one_of(&RAW_SOCKET_USERS, program_name(program));
        if process.kernel_thread || (is_installed && is_known && !is_altered) {
            return;
        }
        let (kind, severity) = match socket.family {
            RawFamily::Packet => (
                " opened a packet socket: it can see all traffic of an interface",
                Severity::Medium,
            ),
            RawFamily::Ipv4 | RawFamily::Ipv6 => (
                " opened a raw socket: it can see and forge packets",
                Severity::Low,
            ),
        };
        let severity = match writable_place(program) {
            Some(_) => Severity::High,
            None => severity,
        };
        let text = Sentence::about(process.name.as_bytes())
            .and(kind)
            .and(format_args!(" (protocol {})", socket.protocol));
        let finding = Finding::about(scene.time, &RULE, severity, process, text);
        found.push(finding.on(socket.family));
    }
}
