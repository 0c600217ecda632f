//! Cgroup hierarchies: the root of version 2, to which cgroup programs attach; which hierarchies count for a
//! process; and the cgroups that are there at start.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::DirEntryExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use crate::event::CgroupId;

/// A hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1 {
    /// As in `/proc/PID/cgroup`.
    pub hierarchy: u32,
    /// What it controls, e.g. `memory`.
    pub controller: &'static str,
}

impl V1 {
    /// The one in which containers are. Where version 1 has the controllers, container runtimes use its
    /// hierarchies, and perhaps version 2 for nothing; all of them use these controllers.
    pub fn of_containers() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// From the text of a cgroup file (cgroups(7)).
    fn parse(text: &str) -> Option<Self> {
        ["memory", "pids", "cpu"]
            .into_iter()
            .find_map(|controller| {
                text.lines().find_map(|line| {
                    let (hierarchy, rest) = line.split_once(':')?;
                    let (controllers, _) = rest.split_once(':')?;
                    let has = controllers.split(',').any(|other| other == controller);
                    has.then_some(Self {
                        hierarchy: hierarchy.parse().ok()?,
                        controller,
                    })
                })
            })
    }
}

/// The cgroups of the hierarchies that count, with their paths. None of a hierarchy whose root cannot be
/// seen: a path from elsewhere would be another one.
pub fn list() -> Vec<(CgroupId, Vec<u8>)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut cgroups = Vec::new();
    let v2 = mounts(&mountinfo, "cgroup2", None)
        .into_iter()
        .find(is_root);
    if let Some(root) = v2 {
        add(&root, 0, &mut cgroups);
    } else if let Ok(root) = open_root() {
        let root = PathBuf::from(format!("/proc/self/fd/{}/", root.as_raw_fd()));
        if is_root(&root) {
            add(&root, 0, &mut cgroups);
        }
    }
    if let Some(v1) = V1::of_containers() {
        let roots = mounts(&mountinfo, "cgroup", Some(v1.controller));
        if let Some(root) = roots.into_iter().find(is_root) {
            add(&root, v1.hierarchy, &mut cgroups);
        }
    }
    cgroups
}

/// Whether this is the root of a hierarchy, whatever the cgroup namespace calls it.
fn is_root(directory: &PathBuf) -> bool {
    /// The first number that kernfs gives.
    const ROOT: u64 = 1;
    fs::metadata(directory).is_ok_and(|metadata| metadata.ino() == ROOT)
}

/// Adds the root and all below it.
fn add(root: &Path, hierarchy: u32, cgroups: &mut Vec<(CgroupId, Vec<u8>)>) {
    let id = |node| CgroupId { hierarchy, node };
    let first = fs::metadata(root).map_or(0, |metadata| metadata.ino());
    cgroups.push((id(first), b"/".to_vec()));
    let mut waiting = vec![(root.to_path_buf(), Vec::new())];
    while let Some((directory, path)) = waiting.pop() {
        // One that is removed meanwhile has no entries.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                let path = [&path, &b"/"[..], name.as_bytes()].concat();
                cgroups.push((id(entry.ino()), path.clone()));
                waiting.push((entry.path(), path));
            }
        }
    }
}

/// Opens the root of the unified hierarchy: where it is mounted, or else through a mount of our own
/// that nobody else sees and that goes with the descriptor.
pub fn open_root() -> io::Result<OwnedFd> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    if let Some(path) = mounted_at(&mountinfo, "cgroup2") {
        return Ok(open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
}

/// Where the whole of a file system of this type is mounted, from the text of a mountinfo file
/// (proc(5)).
pub(super) fn mounted_at(mountinfo: &str, filesystem: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let mount = Mount::parse(line)?;
        let is_whole = mount.filesystem == filesystem && mount.root == "/";
        is_whole.then_some(mount.point)
    })
}

/// Where a file system of this type is mounted, or parts of it; with this among its options, if asked for.
fn mounts(mountinfo: &str, filesystem: &str, option: Option<&str>) -> Vec<PathBuf> {
    let is_wanted = |mount: &Mount<'_>| {
        let has = |wanted| mount.options.split(',').any(|option| option == wanted);
        mount.filesystem == filesystem && option.is_none_or(has)
    };
    let mounts = mountinfo.lines().filter_map(Mount::parse);
    mounts.filter(is_wanted).map(|mount| mount.point).collect()
}

/// A line of a mountinfo file.
struct Mount<'a> {
    filesystem: &'a str,
    /// What of the file system is mounted.
    root: &'a str,
    /// Where.
    point: PathBuf,
    /// Those of the file system.
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' '), after.split(' '));
        Some(Self {
            root: before.nth(3)?,
            point: Path::new(&unescape(before.next()?)).to_path_buf(),
            filesystem: after.next()?,
            options: after.nth(1)?,
        })
    }
}

/// Undoes proc(5)'s escapes of space, tab, newline and backslash: `\040` and so on.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_beside_version_1() {
        let mountinfo = "\
33 32 0:28 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
42 32 0:37 /kubepods /mnt/part rw - cgroup2 cgroup2 rw
43 32 0:37 / /sys/fs/my\\040cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw
";
        assert_eq!(
            mounted_at(mountinfo, "cgroup2"),
            Some("/sys/fs/my cgroup".into())
        );
        assert_eq!(
            mounted_at(mountinfo, "cgroup"),
            Some("/sys/fs/cgroup/cpu".into())
        );
    }

    #[test]
    fn a_controller_s_hierarchy_is_found_by_its_option() {
        let mountinfo = "\
33 32 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
34 32 0:29 /a /mnt/part rw - cgroup cgroup rw,memory
35 32 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";
        assert_eq!(
            mounts(mountinfo, "cgroup", Some("memory")),
            [Path::new("/mnt/part"), Path::new("/sys/fs/cgroup/memory")]
        );
    }

    #[test]
    fn containers_are_where_version_1_controls_memory_if_it_does() {
        let hybrid = "5:cpu,cpuacct:/\n4:memory:/a:b\n1:name=systemd:/\n0::/\n";
        let memory = V1 {
            hierarchy: 4,
            controller: "memory",
        };
        assert_eq!(V1::parse(hybrid), Some(memory));
        let without_memory = "7:net_cls:/\n5:cpu,cpuacct:/\n0::/\n";
        let cpu = V1 {
            hierarchy: 5,
            controller: "cpu",
        };
        assert_eq!(V1::parse(without_memory), Some(cpu));
        assert_eq!(
            V1::parse("7:net_cls:/\n1:name=systemd:/\n0::/init.scope\n"),
            None
        );
    }

    #[test]
    fn without_a_unified_hierarchy_nothing_is_found() {
        assert_eq!(
            mounted_at(
                "33 32 0:28 / /sys/fs/cgroup rw - cgroup cgroup rw\n",
                "cgroup2"
            ),
            None
        );
    }
}
