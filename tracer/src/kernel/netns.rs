//! Network namespaces: which there are, and what they are called.
//!
//! In: /proc and /run/netns. Out: inode numbers, which identify a namespace as long as it lives, a process in
//! each, and names. A namespace that no process is in can have a name but no process.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

use hashbrown::HashMap;

use crate::{event::BootTime, host};

/// Where `ip netns` and others keep namespaces by name.
const NAMED: &str = "/run/netns";

/// How often to look for names, in nanoseconds.
const LOOK_INTERVAL_NS: u64 = 5_000_000_000;

/// The namespace that this process is in.
pub fn own() -> Option<u32> {
    of_file("/proc/self/ns/net")
}

/// A process in each namespace, by the namespace's inode number.
pub fn processes() -> HashMap<u32, u32> {
    let mut found = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(netns) = of_file(&format!("/proc/{pid}/ns/net"))
        {
            found.entry(netns).or_insert(pid);
        }
    }
    found
}

/// Names of namespaces, looked up again now and then.
#[derive(Debug, Default)]
pub struct Names {
    /// The namespace that this process is in: most events are from there, and it needs no name.
    own: Option<u32>,
    names: HashMap<u32, String>,
    looked_at: Option<BootTime>,
    fixed: bool,
}

impl Names {
    /// The names that this host gives.
    pub fn of_host() -> Self {
        Self {
            own: own(),
            ..Self::default()
        }
    }

    /// Names that somebody wrote down; every other namespace has none.
    pub fn remembered(names: BTreeMap<u32, String>) -> Self {
        Self {
            names: names.into_iter().collect(),
            fixed: true,
            ..Self::default()
        }
    }

    /// The names, if somebody wrote them down.
    pub fn recorded(&self) -> Option<BTreeMap<u32, String>> {
        let names = self.names.iter().map(|(&id, name)| (id, name.clone()));
        (self.fixed && self.own.is_none()).then(|| names.collect())
    }

    /// Fixed names, for tests.
    pub fn fixed(own: u32, names: &[(u32, &str)]) -> Self {
        let names = names.iter().map(|&(id, name)| (id, name.to_owned()));
        Self {
            own: Some(own),
            names: names.collect(),
            fixed: true,
            ..Self::default()
        }
    }

    /// The name of a namespace, if it is another than this process's and has one; `now` decides whether to
    /// look again.
    #[inline]
    pub fn of(&mut self, netns: u32, now: BootTime) -> Option<&str> {
        if self.own == Some(netns) {
            return None;
        }
        self.of_other(netns, now)
    }

    #[inline(never)]
    fn of_other(&mut self, netns: u32, now: BootTime) -> Option<&str> {
        let is_due = |at: BootTime| now.since(at) >= LOOK_INTERVAL_NS;
        if !self.fixed && self.looked_at.is_none_or(is_due) {
            self.names = look();
            self.looked_at = Some(now);
        }
        self.names.get(&netns).map(String::as_str)
    }
}

/// Names by inode number.
fn look() -> HashMap<u32, String> {
    // A container has none of the host's.
    let of_host = host::path(NAMED).and_then(|path| fs::read_dir(path).ok());
    let directory = of_host.or_else(|| fs::read_dir(NAMED).ok());
    let entries = directory.into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| {
        let inode = u32::try_from(entry.metadata().ok()?.ino()).ok()?;
        Some((inode, entry.file_name().to_string_lossy().into_owned()))
    };
    entries.filter_map(named).collect()
}

fn of_file(path: &str) -> Option<u32> {
    u32::try_from(fs::metadata(path).ok()?.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_a_namespace_that_has_a_process() {
        let own = own().unwrap();
        assert!(processes().contains_key(&own));
    }
}
