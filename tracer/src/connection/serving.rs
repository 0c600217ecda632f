//! Which accepted connections a process is serving, the latest first, and what comes of that.
//!
//! In: connections as they are accepted and closed, forks and connects. Out: the [`Cause`] of what happens
//! meanwhile. The list of a process runs through the entries of its connections.

use std::sync::Arc;

use super::entry::Entry;
use super::peers::Flow;
use super::table::ConnectionTable;
use crate::arena::Handle;
use crate::event::BootTime;
use crate::observation::Direction;
use crate::process::cause::{Cause, Certainty};
use crate::process::image::Brief;
use crate::process::table::{ProcessId, ProcessTable};

/// What a process is serving.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Serving {
    count: u32,
    latest: Option<Handle>,
    /// When the process forked the last time.
    forked_at: BootTime,
}

/// Where an entry stands among those that its owner is serving: arena slots, since a whole handle would make
/// each connection dearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    older: u32,
    newer: u32,
}

const NONE: u32 = u32::MAX;

impl Place {
    /// Its owner is not serving it.
    pub(super) const NOWHERE: Self = Self {
        older: NONE - 1,
        newer: NONE - 1,
    };
}

impl ConnectionTable {
    /// From now on the owner of an entry is serving it.
    pub(super) fn begin_serving(&mut self, handle: Handle, processes: &mut ProcessTable) {
        let Some(serving) = self.serving_of(handle, processes) else {
            return;
        };
        let older = serving.latest.replace(handle);
        serving.count += 1;
        self.entries[handle].place = Place {
            older: older.map_or(NONE, Handle::slot),
            newer: NONE,
        };
        if let Some(older) = older {
            self.entries[older].place.newer = handle.slot();
        }
    }

    /// Its owner is serving it no more, if it was.
    pub(super) fn end_serving(&mut self, handle: Handle, processes: &mut ProcessTable) {
        let entry = &mut self.entries[handle];
        let Place { older, newer } = std::mem::replace(&mut entry.place, Place::NOWHERE);
        if (Place { older, newer }) == Place::NOWHERE {
            return;
        }
        let [older_entry, newer_entry] = [older, newer].map(|slot| self.entries.handle(slot));
        if let Some(handle) = older_entry {
            self.entries[handle].place.newer = newer;
        }
        if let Some(handle) = newer_entry {
            self.entries[handle].place.older = older;
        }
        if let Some(serving) = self.serving_of(handle, processes) {
            serving.count -= 1;
            if newer_entry.is_none() {
                serving.latest = older_entry;
            }
        }
    }

    /// What leads a process to fork now.
    pub(crate) fn cause_of_fork(
        &self,
        time: BootTime,
        forker: ProcessId,
        processes: &mut ProcessTable,
    ) -> Option<Arc<Cause>> {
        let serving = processes.serving_mut(forker)?;
        let forked_at = std::mem::replace(&mut serving.forked_at, time);
        let serving = *serving;
        let Some(latest) = serving.latest.map(|latest| &self.entries[latest]) else {
            return processes.image(forker)?.cause.clone();
        };
        let is_new = |entry: &Entry| entry.opened_at().is_some_and(|at| at > forked_at);
        let older = self.entries.handle(latest.place.older);
        let is_only_new = is_new(latest) && !older.is_some_and(|it| is_new(&self.entries[it]));
        self.cause(latest, serving.count, is_only_new, processes)
    }

    /// What leads a process to act now (to connect, to open a raw socket), beyond what led to the process itself.
    pub(crate) fn cause_of_act(
        &self,
        process: ProcessId,
        processes: &mut ProcessTable,
    ) -> Option<Arc<Cause>> {
        let serving = *processes.serving_mut(process)?;
        let latest = &self.entries[serving.latest?];
        self.cause(latest, serving.count, false, processes)
    }

    fn cause(
        &self,
        served: &Entry,
        candidates: u32,
        is_only_new: bool,
        processes: &mut ProcessTable,
    ) -> Option<Arc<Cause>> {
        let certainty = if candidates == 1 || is_only_new {
            Certainty::Likely
        } else {
            Certainty::Possible
        };
        let cause = Cause::new(
            served.id,
            served.ends.remote.into(),
            Brief::from(&**served.process_at_open()?),
            (certainty, candidates),
            self.cause_of_peer(served).cloned(),
        );
        Some(processes.share_cause(cause))
    }

    /// What led to the other end of a connection, if that is on this host.
    fn cause_of_peer(&self, served: &Entry) -> Option<&Arc<Cause>> {
        served.peer()?;
        let flow = Flow::of(&served.ends)?;
        let peer = self.peers.find(flow.reversed(), &self.entries)?;
        self.entries[peer].cause()
    }

    fn serving_of<'a>(
        &self,
        handle: Handle,
        processes: &'a mut ProcessTable,
    ) -> Option<&'a mut Serving> {
        let entry = &self.entries[handle];
        let owner = entry.owner.as_ref()?;
        let is_served = entry.direction == Direction::Ingress;
        is_served
            .then(|| processes.serving_mut(owner.process))
            .flatten()
    }
}
