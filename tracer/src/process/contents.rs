//! The contents of executed files, each once: bounded.
//!
//! In: the version of a file at its exec. Out: the content that everyone who runs it shares. Where there
//! is no room, one that nobody runs any more goes first; what goes is examined again when it comes again.

use std::sync::Arc;

use hashbrown::HashMap;

use super::content::Content;
use crate::event::FileVersion;

/// How many are remembered.
const CAPACITY: usize = 4096;

/// How many are looked at for one that nobody runs.
const ASKED: usize = 16;

/// Contents by their version.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Where in `places` each is.
    by_version: HashMap<FileVersion, usize, foldhash::fast::RandomState>,
    places: Vec<Arc<Content>>,
    /// Where to look for room next.
    next: usize,
}

impl Contents {
    /// The content of that version: the same for the same version.
    pub(super) fn of(&mut self, version: FileVersion) -> Arc<Content> {
        if let Some(&place) = self.by_version.get(&version) {
            return Arc::clone(&self.places[place]);
        }
        let content = Arc::new(Content::new(version));
        let place = self.place();
        if place < self.places.len() {
            let old = std::mem::replace(&mut self.places[place], Arc::clone(&content));
            self.by_version.remove(old.version());
        } else {
            self.places.push(Arc::clone(&content));
        }
        self.by_version.insert(version, place);
        content
    }

    /// Where there is room, or will be.
    fn place(&mut self) -> usize {
        if self.places.len() < CAPACITY {
            return self.places.len();
        }
        let first = self.next;
        let asked = (first..first + ASKED).map(|place| place % CAPACITY);
        let is_unused = |place: &usize| Arc::strong_count(&self.places[*place]) == 1;
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
        let first = contents.of(version(1));
        assert!(Arc::ptr_eq(&first, &contents.of(version(1))));
        assert!(!Arc::ptr_eq(&first, &contents.of(version(2))));
    }

    #[test]
    fn who_is_run_stays_while_others_go_and_there_are_never_too_many() {
        let mut contents = Contents::default();
        let kept: Vec<_> = (0..ASKED as u64 - 1)
            .map(|size| contents.of(version(size)))
            .collect();
        for size in 0..3 * CAPACITY as u64 {
            contents.of(version(1000 + size));
        }
        assert_eq!(contents.places.len(), CAPACITY);
        assert_eq!(contents.by_version.len(), CAPACITY);
        for content in kept {
            assert!(Arc::ptr_eq(&content, &contents.of(*content.version())));
        }
    }

    #[test]
    fn a_table_of_contents_that_all_are_run_still_takes_new_ones() {
        let mut contents = Contents::default();
        let run: Vec<_> = (0..2 * CAPACITY as u64)
            .map(|size| contents.of(version(size)))
            .collect();
        assert_eq!(contents.by_version.len(), CAPACITY);
        let last = run.last().unwrap();
        assert!(Arc::ptr_eq(last, &contents.of(*last.version())));
    }
}
