//! Who is the parent now, where that is not the one by birth.
//!
//! In: the parent that a task tells. Out: nothing, if that one forked it; else who it is, as far as the
//! table knows.

use std::sync::Arc;

use super::{Image, Parent, ProcessTable, Relation, inventory, is_key_of, lineage, unknown};
use crate::arena::Handle;
use crate::event::{BootTime, ProcessKey, Task};
use crate::process::image::Brief;

impl ProcessTable {
    /// Adds a process of which nothing is known but what its task tells. Who forked it was not seen, only
    /// who is its parent by now.
    pub(super) fn insert_unknown(&mut self, time: BootTime, task: &Task) -> Handle {
        let parent = task.parent.filter(|_| !inventory::is_root(task.tgid));
        let parent = parent.and_then(|key| self.find(key.tgid, Some(key.start_ns)));
        let mut image = unknown(task);
        if let Some(handle) = parent {
            let parent = &mut self.processes[handle].image;
            lineage::bound(parent);
            (image.parent, image.depth) = lineage::link(Relation::Present, parent);
        }
        self.insert(time, Arc::new(image), false)
    }

    /// The parent that a task tells, unless that is the one by birth.
    pub(super) fn present_parent(&self, image: &Image, task: &Task) -> Option<Arc<Brief>> {
        let parent = task.parent?;
        if is_parent_in(image, parent) {
            return image.present_parent.clone();
        }
        if matches!(&image.parent, Parent::Known(_, birth) if is_key_of(birth.key, birth.key_rounded, parent))
        {
            return None;
        }
        let known = self.find(parent.tgid, Some(parent.start_ns));
        Some(Arc::new(known.map_or_else(
            || Brief::unknown(parent),
            |handle| Brief::from(&*self.processes[handle].image),
        )))
    }
}

/// Whether an image has this present parent.
pub(super) fn is_parent_in(image: &Image, parent: ProcessKey) -> bool {
    match (&image.present_parent, &image.parent) {
        (Some(present), _) => is_key_of(present.key, present.key_rounded, parent),
        (None, Parent::Known(_, birth)) => is_key_of(birth.key, birth.key_rounded, parent),
        (None, Parent::Root) => true,
        (None, Parent::Unknown | Parent::Cut) => false,
    }
}
