//! The contents of executed files, each once: bounded.
//!
//! In: the version of a file at its exec. Out: the content that everyone who runs it shares. Where there
//! is no room, one that nobody runs any more goes first; what goes is examined again when it comes again.

use std::sync::Arc;

use hashbrown::HashMap;

use super::content::Content;
use crate::event::{CgroupId, FileVersion, RootId};

/// How many are remembered.
const CAPACITY: usize = 4096;

/// How many are looked at for one that nobody runs.
const ASKED: usize = 16;

/// The root directory from which a file was run: that of package databases. The address of a directory
/// may be used again, the ID of a cgroup is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// The one of PID 1.
    Host,
    /// Another one, that of a container most often, or one that is not known.
    Other(Option<RootId>, Option<CgroupId>),
}

/// What tells contents apart.
type Key = (FileVersion, Root);

/// Contents by their version, and where they were run: a container's word for what a file is must not
/// count for others that run the same file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Where in `places` each is.
    by_key: HashMap<Key, usize, foldhash::fast::RandomState>,
    places: Vec<(Key, Arc<Content>)>,
    /// Where to look for room next.
    next: usize,
}

impl Contents {
    /// The content of that version, run from that root: the same for the same.
    pub(super) fn of(&mut self, version: FileVersion, root: Root) -> Arc<Content> {
        let key = (version, root);
        if let Some(&place) = self.by_key.get(&key) {
            return Arc::clone(&self.places[place].1);
        }
        let content = Arc::new(Content::new(version));
        let place = self.place();
        let new = (key, Arc::clone(&content));
        if place < self.places.len() {
            let (old, _) = std::mem::replace(&mut self.places[place], new);
            self.by_key.remove(&old);
        } else {
            self.places.push(new);
        }
        self.by_key.insert(key, place);
        content
    }

    /// Where there is room, or will be.
    fn place(&mut self) -> usize {
        if self.places.len() < CAPACITY {
            return self.places.len();
        }
        let first = self.next;
        let asked = (first..first + ASKED).map(|place| place % CAPACITY);
        let is_unused = |place: &usize| Arc::strong_count(&self.places[*place].1) == 1;
        let place = asked.clone().find(is_unused).unwrap_or(first);
        self.next = (place + 1) % CAPACITY;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(size: u64) -> FileVersion {
        FileVersion {
            size,
            ..FileVersion::default()
        }
    }

    #[test]
    fn one_version_is_one_content_and_another_version_another() {
        let mut contents = Contents::default();
        let first = contents.of(version(1), Root::Host);
        assert!(Arc::ptr_eq(&first, &contents.of(version(1), Root::Host)));
        assert!(!Arc::ptr_eq(&first, &contents.of(version(2), Root::Host)));
        let container = Root::Other(Some(RootId(1)), None);
        assert!(!Arc::ptr_eq(&first, &contents.of(version(1), container)));
    }

    #[test]
    fn who_is_run_stays_while_others_go_and_there_are_never_too_many() {
        let mut contents = Contents::default();
        let kept: Vec<_> = (0..ASKED as u64 - 1)
            .map(|size| contents.of(version(size), Root::Host))
            .collect();
        for size in 0..3 * CAPACITY as u64 {
            contents.of(version(1000 + size), Root::Host);
        }
        assert_eq!(contents.places.len(), CAPACITY);
        assert_eq!(contents.by_key.len(), CAPACITY);
        for content in kept {
            assert!(Arc::ptr_eq(
                &content,
                &contents.of(*content.version(), Root::Host)
            ));
        }
    }

    #[test]
    fn a_table_of_contents_that_all_are_run_still_takes_new_ones() {
        let mut contents = Contents::default();
        let run: Vec<_> = (0..2 * CAPACITY as u64)
            .map(|size| contents.of(version(size), Root::Host))
            .collect();
        assert_eq!(contents.by_key.len(), CAPACITY);
        let last = run.last().unwrap();
        assert!(Arc::ptr_eq(last, &contents.of(*last.version(), Root::Host)));
    }
}
