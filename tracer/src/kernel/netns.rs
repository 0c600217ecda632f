//! Network namespaces: which there are, and what they are called.
//!
//! In: /proc and /run/netns. Out: inode numbers, which identify a namespace as long as it lives, a process in
//! each, and names. A namespace that no process is in can have a name but no process.

use std::{fs, os::unix::fs::MetadataExt as _};

use hashbrown::HashMap;

/// Where `ip netns` and others keep namespaces by name.
const NAMED: &str = "/run/netns";

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

/// Names by inode number.
pub fn names() -> HashMap<u32, String> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
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
