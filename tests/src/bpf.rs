//! BPF programs and links that the kernel holds: what a tracer must not leave behind.

use std::collections::BTreeSet;
use std::fs;

use aya::programs::{loaded_links, loaded_programs};

use crate::wait;

/// IDs of programs and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// IDs of programs.
    pub programs: BTreeSet<u32>,
    /// IDs of links.
    pub links: BTreeSet<u32>,
}

impl Objects {
    /// Everything that the kernel holds. What vanishes meanwhile is left out.
    pub fn loaded() -> Objects {
        Objects {
            programs: loaded_programs()
                .filter_map(|info| Some(info.ok()?.id()))
                .collect(),
            links: loaded_links()
                .filter_map(|info| Some(info.ok()?.id()))
                .collect(),
        }
    }

    /// What process `pid` holds through its descriptors, from `/proc/PID/fdinfo`.
    pub fn held_by(pid: u32) -> Objects {
        let mut objects = Objects::default();
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process lives");
        for text in entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        {
            objects.links.extend(number(&text, "link_id:"));
            objects.programs.extend(number(&text, "prog_id:"));
        }
        objects
    }

    /// Those that are not in `other`.
    pub fn without(&self, other: &Objects) -> Objects {
        Objects {
            programs: &self.programs - &other.programs,
            links: &self.links - &other.links,
        }
    }

    /// Those that are also in `other`.
    pub fn both(&self, other: &Objects) -> Objects {
        Objects {
            programs: &self.programs & &other.programs,
            links: &self.links & &other.links,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.links.is_empty()
    }
}

/// Waits until the kernel holds none of `objects` any more; it frees them some time after the last
/// descriptor is closed.
///
/// # Panics
/// If one stays.
#[track_caller]
pub fn wait_until_gone(objects: &Objects) {
    let mut left = objects.clone();
    let gone = wait::within(wait::DEADLINE, || {
        left = left.both(&Objects::loaded());
        left.is_empty().then_some(())
    });
    assert!(gone.is_some(), "still in the kernel: {left:?}");
}

fn number(fdinfo: &str, key: &str) -> Option<u32> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_of_a_link_names_link_and_program() {
        let fdinfo = "pos:\t0\nflags:\t02000002\nlink_type:\ttracing\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t42\n";
        assert_eq!(number(fdinfo, "link_id:"), Some(7));
        assert_eq!(number(fdinfo, "prog_id:"), Some(42));
        assert_eq!(number(fdinfo, "map_id:"), None);
    }
}
