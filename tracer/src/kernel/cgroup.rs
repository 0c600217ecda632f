//! The root of the cgroup v2 hierarchy, to which cgroup programs attach.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

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
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let is_whole = after.split(' ').next() == Some(filesystem) && root == "/";
        is_whole.then(|| Path::new(&unescape(point)).to_path_buf())
    })
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
