//! The cgroups that are there.
//!
//! In: those of the start, then each that is made or removed. Out: shared [`Cgroup`]s by their ID. There is
//! a bound: the oldest make room, and are then not known.

use std::sync::Arc;

use hashbrown::HashMap;

use super::cgroup::Cgroup;
use crate::arena::{Arena, Handle};
use crate::event::CgroupId;

/// How many are known at a time. One takes some 400 bytes.
const CAPACITY: usize = 16_384;

/// Cgroups by their ID.
#[derive(Debug)]
pub(super) struct Cgroups {
    cgroups: Arena<Arc<Cgroup>, 1>,
    by_id: HashMap<CgroupId, Handle, foldhash::fast::RandomState>,
    capacity: usize,
    evictions: u64,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Cgroups {
    fn new(capacity: usize) -> Self {
        Self {
            cgroups: Arena::new(),
            by_id: HashMap::default(),
            capacity,
            evictions: 0,
        }
    }

    /// The cgroup of this ID, if it is known.
    pub(super) fn get(&self, id: CgroupId) -> Option<&Arc<Cgroup>> {
        self.cgroups.get(*self.by_id.get(&id)?)
    }

    /// There is a cgroup of this ID and path.
    pub(super) fn insert(&mut self, id: CgroupId, path: &[u8]) {
        if self.by_id.contains_key(&id) {
            return;
        }
        if self.by_id.len() >= self.capacity
            && let Some((_, oldest)) = self.cgroups.first(0)
        {
            let oldest = oldest.id;
            self.remove(oldest);
            self.evictions += 1;
        }
        let handle = self.cgroups.push(0, Arc::new(Cgroup::new(id, path)));
        self.by_id.insert(id, handle);
    }

    /// It is gone. Whoever was in it keeps it.
    pub(super) fn remove(&mut self, id: CgroupId) {
        if let Some(handle) = self.by_id.remove(&id) {
            self.cgroups.remove(handle);
        }
    }

    /// How many had to make room since the start.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u64) -> CgroupId {
        CgroupId { hierarchy: 0, node }
    }

    #[test]
    fn a_cgroup_is_known_until_it_is_removed() {
        let mut cgroups = Cgroups::default();
        cgroups.insert(id(7), b"/system.slice");
        assert_eq!(cgroups.get(id(7)).unwrap().path, "/system.slice");
        let other = CgroupId {
            hierarchy: 4,
            ..id(7)
        };
        assert!(cgroups.get(other).is_none());
        cgroups.remove(id(7));
        assert!(cgroups.get(id(7)).is_none());
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut cgroups = Cgroups::new(2);
        for node in 1..=3 {
            cgroups.insert(id(node), b"/a");
        }
        assert!(cgroups.get(id(1)).is_none());
        assert!(cgroups.get(id(2)).is_some() && cgroups.get(id(3)).is_some());
        assert_eq!(cgroups.evictions(), 1);
    }
}
