//! BPF programs, links and maps that the kernel holds: what a tracer must not leave behind, or let grow.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::{fs, io};

use aya::maps::{MapInfo, MapType, loaded_maps};
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
        Objects {
            programs: ids(pid, "prog_id:"),
            links: ids(pid, "link_id:"),
        }
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

/// Names of the programs that process `pid` holds, as the kernel has them: cut after 15 characters.
///
/// # Panics
/// If the kernel refuses to say.
pub fn programs_held_by(pid: u32) -> Vec<String> {
    let held = ids(pid, "prog_id:");
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| held.contains(&program.id()))
        .map(|program| program.name_as_str().unwrap_or_default().to_owned())
        .collect()
}

/// How many entries each hash table has that process `pid` holds, by name.
///
/// # Panics
/// If the kernel refuses to say.
pub fn entries_held_by(pid: u32) -> Vec<(String, usize)> {
    let held = ids(pid, "map_id:");
    let mut entries: Vec<_> = loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| held.contains(&map.id()) && is_hash(map))
        .map(|map| {
            let name = map.name_as_str().unwrap_or_default().to_owned();
            (name, count(&map).expect("a map can be read"))
        })
        .collect();
    entries.sort();
    entries
}

fn is_hash(map: &MapInfo) -> bool {
    use MapType::{Hash, LruHash, LruPerCpuHash, PerCpuHash};
    matches!(
        map.map_type(),
        Ok(Hash | LruHash | LruPerCpuHash | PerCpuHash)
    )
}

/// Walks through the keys of a map.
fn count(map: &MapInfo) -> io::Result<usize> {
    /// `BPF_MAP_GET_NEXT_KEY`, and its part of `union bpf_attr`.
    const GET_NEXT_KEY: libc::c_int = 4;
    #[repr(C)]
    struct Attributes {
        map: u64,
        key: u64,
        next: u64,
    }
    let descriptor = map.fd().map_err(io::Error::other)?;
    let mut keys = [(); 2].map(|()| vec![0_u8; map.key_size() as usize]);
    let mut count = 0;
    loop {
        let [key, next] = &mut keys;
        let attributes = Attributes {
            map: u64::from(descriptor.as_fd().as_raw_fd().unsigned_abs()),
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            next: next.as_mut_ptr() as u64,
        };
        // SAFETY: both keys have the size that the map gives its keys, and live until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                GET_NEXT_KEY,
                &raw const attributes,
                size_of::<Attributes>(),
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            let at_end = error.raw_os_error() == Some(libc::ENOENT);
            return if at_end { Ok(count) } else { Err(error) };
        }
        count += 1;
        keys.swap(0, 1);
    }
}

/// The IDs that process `pid` holds under a key of `/proc/PID/fdinfo`.
fn ids(pid: u32, key: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process lives");
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| number(&text, key))
        .collect()
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
