//! What surrounds the tracer: the kernel, its settings, and what is mounted.
//!
//! In: /proc and /sys, read once. Out: [`Facts`]; what cannot be read is `None`, never a guess.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    process::{Resource, getrlimit},
};
use serde::Serialize;

use super::{btf, cgroup::mounted_at, configuration::Configuration};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// As `uname -r` prints it.
    pub release: String,
    /// As `uname -m` prints it.
    pub architecture: String,
    /// Size of the kernel's type information in bytes.
    pub btf_bytes: Option<u64>,
    /// The lockdown mode in force: `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// The active security modules, in their order.
    pub security_modules: Option<Vec<String>>,
    /// Where file systems are mounted that matter.
    pub mounts: Mounts,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `kernel.bpf_stats_enabled`: whether the kernel counts the runs of programs.
    pub bpf_stats_enabled: Option<u32>,
    /// `net.core.bpf_jit_enable`: whether programs are compiled.
    pub bpf_jit_enable: Option<u32>,
    /// The limit on locked memory in bytes; `None` if there is none.
    pub memlock_limit_bytes: Option<u64>,
    /// How the kernel was configured.
    pub configuration: Option<Configuration>,
}

/// Where file systems are mounted, in this process's mount namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mounts {
    /// Tracepoints by name.
    pub tracefs: Option<PathBuf>,
    /// The unified cgroup hierarchy, from its root.
    pub cgroup2: Option<PathBuf>,
    /// Pinned programs and maps.
    pub bpffs: Option<PathBuf>,
    /// What security modules tell.
    pub securityfs: Option<PathBuf>,
}

impl Facts {
    /// Those of this machine.
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let security = |name| read_security(mounts.securityfs.as_deref(), name);
        Self {
            architecture: uname.machine().to_string_lossy().into_owned(),
            btf_bytes: fs::metadata(btf::VMLINUX).ok().map(|file| file.len()),
            lockdown: security("lockdown").as_deref().and_then(lockdown_mode),
            security_modules: security("lsm").as_deref().map(security_modules),
            unprivileged_bpf_disabled: setting("kernel/unprivileged_bpf_disabled"),
            bpf_stats_enabled: setting("kernel/bpf_stats_enabled"),
            bpf_jit_enable: setting("net/core/bpf_jit_enable"),
            memlock_limit_bytes: getrlimit(Resource::Memlock).current,
            configuration: Configuration::of_running_kernel(&release),
            mounts,
            release,
        }
    }

    /// Whether maps and programs count against RLIMIT_MEMLOCK: before 5.11.
    pub fn counts_memlock(&self) -> bool {
        version(&self.release).is_some_and(|version| version < (5, 11))
    }
}

impl Mounts {
    fn parse(mountinfo: &str) -> Self {
        let at = |filesystem| mounted_at(mountinfo, filesystem);
        Self {
            tracefs: at("tracefs"),
            cgroup2: at("cgroup2"),
            bpffs: at("bpf"),
            securityfs: at("securityfs"),
        }
    }
}

fn setting(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// Reads a file of securityfs: where it is mounted, or else through a mount that nobody else sees.
fn read_security(mounted: Option<&Path>, name: &str) -> Option<String> {
    match mounted {
        Some(directory) => fs::read_to_string(directory.join(name)).ok(),
        None => read_unmounted("securityfs", name).ok(),
    }
}

fn read_unmounted(filesystem: &str, name: &str) -> std::io::Result<String> {
    let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let root = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    fs::File::from(openat(&root, name, flags, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text)
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn lockdown_mode(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

fn security_modules(text: &str) -> Vec<String> {
    text.trim()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The first two numbers of a release such as `6.1.0-40-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        let mode = |text| lockdown_mode(text);
        assert_eq!(
            mode("[none] integrity confidentiality\n").as_deref(),
            Some("none")
        );
        assert_eq!(
            mode("none integrity [confidentiality]\n").as_deref(),
            Some("confidentiality")
        );
        assert_eq!(mode(""), None);
    }

    #[test]
    fn security_modules_come_in_their_order() {
        assert_eq!(
            security_modules("lockdown,capability,yama,bpf"),
            ["lockdown", "capability", "yama", "bpf"]
        );
        assert_eq!(security_modules("\n"), Vec::<String>::new());
    }

    #[test]
    fn mounts_are_found_by_type_and_only_as_a_whole() {
        let mountinfo = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 23 0:7 / /sys/kernel/security rw - securityfs securityfs rw
31 23 0:12 / /sys/kernel/tracing rw,nosuid - tracefs tracefs rw
41 31 0:38 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        let mounts = Mounts::parse(mountinfo);
        assert_eq!(mounts.tracefs, Some("/sys/kernel/tracing".into()));
        assert_eq!(mounts.securityfs, Some("/sys/kernel/security".into()));
        assert_eq!((mounts.cgroup2, mounts.bpffs), (None, None));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("5.10.0-32-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("7.2-rc1"), Some((7, 2)));
        assert!(version("5.9.1") < Some((5, 11)));
        assert_eq!(version("strange"), None);
    }
}
