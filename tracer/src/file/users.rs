//! The users of a root directory that is not the host's.
//!
//! In: the root in which a process lives. Out: the names in its `/etc/passwd`. It is a container's word, and
//! counts for what runs there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::root::Root;
use crate::passwd::{self, Names};

/// The longest file that is read, in bytes, and how many of its lines.
const LONGEST: u64 = 64 << 10;
const LINES: usize = 512;

/// How many are remembered, to be shared by what runs in the same root.
const RECENT: usize = 16;

/// Reads users.
#[derive(Default)]
pub(super) struct Users {
    recent: VecDeque<Arc<Names>>,
}

impl Users {
    /// The users of a root; `None` if it has no list of them.
    pub(super) fn of(&mut self, root: &Root) -> Option<Arc<Names>> {
        let lines = root.lines(b"/etc/passwd", LONGEST).ok()?.take(LINES);
        let lines: Vec<Vec<u8>> = lines.collect::<Result<_, _>>().ok()?;
        let names = passwd::parse(str::from_utf8(&lines.join(&b'\n')).ok()?);
        if let Some(known) = self.recent.iter().find(|known| ***known == names) {
            return Some(Arc::clone(known));
        }
        let names = Arc::new(names);
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(Arc::clone(&names));
        Some(names)
    }
}
