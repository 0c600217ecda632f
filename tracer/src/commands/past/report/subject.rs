//! Whom a report is about.
//!
//! In: a subject as it was typed, and the history. Out: which items belong to it.

use std::ops::ControlFlow;

use hashbrown::HashSet;

use super::super::who::{has, may_have};
use crate::cli::{ReportSubject, WantedEnd};
use crate::event::ProcessKey;
use crate::history::reader::{Glance, History, Kind, ReadError};
use crate::history::{Item, What};
use crate::identity::BootId;
use crate::output::About;
use crate::process::image::Image;
use crate::process::population::Wanted;

/// At most so many processes are followed for an address.
const PROCESSES_MAX: usize = 65_536;

/// What belongs to a report.
pub(super) struct Subject {
    wanted: Option<ReportSubject>,
    /// Those that had to do with an address.
    processes: HashSet<(BootId, ProcessKey)>,
    /// Whether there were more than can be followed.
    pub(super) too_many: bool,
}

impl Subject {
    /// Finds out who had to do with it.
    pub(super) fn find(
        wanted: Option<ReportSubject>,
        history: &mut History,
        abouts: &[About],
    ) -> Result<Self, ReadError> {
        let mut subject = Self {
            wanted,
            processes: HashSet::new(),
            too_many: false,
        };
        if let Some(ReportSubject::End(end)) = wanted {
            let mut follow = |file: usize, item: Item| {
                subject.follow(abouts[file].host.boot_id, end, &item);
                ControlFlow::Continue(())
            };
            history.visit_contacts(end.ip, &|contact| may_have(contact, end), &mut follow)?;
            for kind in [Kind::Flows, Kind::Lookups, Kind::Listeners] {
                history.visit(kind, &mut follow)?;
            }
        }
        Ok(subject)
    }

    fn follow(&mut self, boot: BootId, end: WantedEnd, item: &Item) {
        let Some(image) = item.process.as_ref().filter(|_| is_at(item, end)) else {
            return;
        };
        if self.processes.len() >= PROCESSES_MAX {
            self.too_many = true;
            return;
        }
        self.processes.insert((boot, image.key));
    }

    /// Whether it is about a process and what descends from it, and this is one of them.
    pub(super) fn owns(&self, boot: BootId, image: &Image) -> bool {
        let Some(ReportSubject::Process(process)) = self.wanted else {
            return false;
        };
        process.boot.is_none_or(|wanted| wanted == boot) && is_of(image, process.wanted)
    }

    /// Which connections may belong to it; `owns` is [`Self::owns`] by file.
    pub(super) fn glance<'a>(&self, owns: &'a dyn Fn(usize, &Image) -> bool) -> Glance<'a> {
        match self.wanted {
            None => Glance::All,
            Some(ReportSubject::Process(_)) => Glance::Owner(owns),
            Some(ReportSubject::End(end)) => Glance::End(end.ip),
        }
    }

    /// Whether an item belongs to it. A loss may concern everybody.
    pub(super) fn has(&self, boot: BootId, item: &Item) -> bool {
        if matches!(item.what, What::Lost(_)) {
            return true;
        }
        let image = item.process.as_deref();
        match self.wanted {
            None => true,
            Some(ReportSubject::Process(_)) => image.is_some_and(|image| self.owns(boot, image)),
            Some(ReportSubject::End(end)) => {
                let is_life = matches!(item.what, What::Executed | What::Exited { .. });
                let is_involved =
                    image.is_some_and(|image| self.processes.contains(&(boot, image.key)));
                is_at(item, end) || is_life && is_involved
            }
        }
    }

    /// In words, for people.
    pub(super) fn words(&self) -> String {
        match self.wanted {
            None => "Everything on this host".to_owned(),
            Some(ReportSubject::Process(process)) => match process.wanted {
                Wanted::Pid(pid) => format!("PID {pid} and what descends from it"),
                Wanted::Process { tgid, .. } => {
                    format!("One process, PID {tgid}, and what descends from it")
                }
            },
            Some(ReportSubject::End(end)) => match end.port {
                Some(port) => format!("{}, port {port}, and whoever talked with it", end.ip),
                None => format!("{} and whoever talked with it", end.ip),
            },
        }
    }
}

/// Whether a process is the one that is wanted, or descends from it.
fn is_of(image: &Image, wanted: Wanted) -> bool {
    image.lineage().any(|ancestor| match wanted {
        Wanted::Pid(pid) => ancestor.key.tgid == pid,
        Wanted::Process { tgid, start_ns, .. } => {
            ancestor.key.tgid == tgid && ancestor.key.start_ns == start_ns
        }
    })
}

/// Whether something happened at an end: it was talked with, listened on, or given as an answer.
fn is_at(item: &Item, end: WantedEnd) -> bool {
    match &item.what {
        What::Lookup(lookup, _) => {
            let server = lookup.endpoints.remote;
            let is_server =
                server.ip() == end.ip && end.port.is_none_or(|port| port == server.port());
            is_server || lookup.addresses().any(|address| address == end.ip)
        }
        _ => has(item, end),
    }
}
