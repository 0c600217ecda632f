//! Who holds a socket, and whether that tells who opened it.
//!
//! In: processes and descriptor numbers, as they were found. Out: the processes, and the owner if it is
//! clear. A holder is no proof of the opener: the opener may have passed the socket on and closed its own
//! copy. So the owner is no more than inferred, and of several holders it is one only if fork alone can
//! have made them several: the others descend from it and have the socket under the number that it has.

use std::sync::Arc;

use super::entry::Owner;
use crate::event::{BootTime, HeldSocket, Task};
use crate::process::image::Image;
use crate::process::table::{ProcessId, ProcessTable};

/// Everyone who holds one socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Vec<Holder>);

#[derive(Clone, Debug)]
struct Holder {
    task: Task,
    descriptors: Vec<u32>,
}

impl Holders {
    /// Everyone who was found with one socket.
    pub(crate) fn of(held: &[HeldSocket]) -> Self {
        let mut holders = Self::default();
        for held in held {
            holders.add(&held.holder, held.descriptor);
        }
        holders
    }

    /// A process has the socket under a number.
    pub(crate) fn add(&mut self, task: &Task, descriptor: u32) {
        let is_same = |holder: &&mut Holder| {
            (holder.task.tgid, holder.task.start_ns) == (task.tgid, task.start_ns)
        };
        match self.0.iter_mut().find(is_same) {
            Some(holder) => holder.descriptors.push(descriptor),
            None => self.0.push(Holder {
                task: *task,
                descriptors: vec![descriptor],
            }),
        }
    }

    /// A thread of one of them.
    pub(super) fn thread(&self) -> u32 {
        self.0.first().map_or(0, |holder| holder.task.tid)
    }

    /// The processes as they are now, as far as they are known.
    pub(crate) fn images(&self, processes: &ProcessTable) -> Vec<Arc<Image>> {
        let ids = self.0.iter().filter_map(|it| processes.find_task(&it.task));
        let images = ids.filter_map(|id| processes.image(id));
        images.cloned().collect()
    }

    /// Makes the one who is believed to have opened it the owner.
    pub(super) fn owner(&self, time: BootTime, processes: &mut ProcessTable) -> Option<Owner> {
        for holder in &self.0 {
            processes.found(time, &holder.task)?;
        }
        let owner = self.opener(processes)?;
        Owner::take(processes, owner)
    }

    /// Who is believed to have opened it.
    pub(crate) fn opener(&self, processes: &ProcessTable) -> Option<ProcessId> {
        let find = |holder: &Holder| processes.find_task(&holder.task);
        let ids: Option<Vec<ProcessId>> = self.0.iter().map(find).collect();
        match &ids?[..] {
            [only] => Some(*only),
            several => self.origin(several, processes),
        }
    }

    /// The one from which all others have it by fork.
    fn origin(&self, ids: &[ProcessId], processes: &ProcessTable) -> Option<ProcessId> {
        let origin = ids.iter().position(|&candidate| {
            let Some(key) = processes.image(candidate).map(|image| image.key) else {
                return false;
            };
            let descends = |&id: &ProcessId| {
                processes
                    .image(id)
                    .is_some_and(|image| image.was_born_of(key))
            };
            ids.iter().all(|id| *id == candidate || descends(id))
        })?;
        let is_everywhere = |number: &&u32| {
            self.0
                .iter()
                .all(|holder| holder.descriptors.contains(number))
        };
        let number = self.0[origin].descriptors.iter().find(is_everywhere);
        number.map(|_| ids[origin])
    }
}
