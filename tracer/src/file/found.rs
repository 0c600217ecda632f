//! The file that a process runs, found again and known to be that very content.
//!
//! In: an image and the version that the kernel told. Out: the open file, and the root directory below
//! which it has its path. Whatever has only the same path is refused.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fstatfs, open, openat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_getres};

use super::mounts::is_remote;
use super::root::{Root, is_same_file, open_regular};
use crate::event::FileVersion;
use crate::kernel::inventory::file_status;
use crate::process::image::Image;

/// Ancestors in whose root directories a path is looked for.
const ANCESTORS: usize = 16;

/// A change within so many nanoseconds of another one may have the same time: the kernel takes it from its
/// coarse clock, which moves by ticks. A millisecond more is for what the wall clock is set by.
static TICK_NS: LazyLock<i64> =
    LazyLock::new(|| clock_getres(ClockId::RealtimeCoarse).tv_nsec + 1_000_000);

/// File systems that keep seconds alone (FAT: two of them) have a whole second in every time.
const SECOND_NS: i64 = 1_000_000_000;
const COARSE_NS: i64 = 2 * SECOND_NS;

/// exFAT keeps hundredths.
const HUNDREDTH_NS: i64 = 10_000_000;

/// File systems whose files have another device number for programs than within the kernel.
const OWN_DEVICES: [u32; 3] = [
    0x794c_7630, // overlayfs
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
];

/// A file that is what a process runs, or ran.
pub(super) struct Found {
    /// Open at its beginning.
    pub(super) file: File,
    /// Where it was looked for by its path: in the process's own root, or in that of an ancestor.
    pub(super) root: Option<Root>,
    /// The process itself, if it was found through it.
    process: Option<OwnedFd>,
}

/// Why there is no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The process has ended, and nobody has the file.
    Gone,
    /// What is there is another content.
    Changed,
    /// It may not be opened.
    Unreadable,
    /// What is read of it comes from elsewhere, and need not be what ran.
    Remote,
}

impl Found {
    /// Finds what `image` runs, or ran.
    pub(super) fn of(image: &Image, version: &FileVersion) -> Result<Self, Missing> {
        let mut missing = match Self::by_process(image.key.tgid, version) {
            Ok(found) => return Ok(found),
            Err(error) => Missing::Gone.or(&error),
        };
        if missing == Missing::Remote {
            return Err(missing);
        }
        let path = &image.program.executable;
        if !path.starts_with(b"/") {
            return Err(missing);
        }
        for ancestor in image.lineage().skip(1).take(ANCESTORS) {
            match Self::by_path(ancestor.key.tgid, path, version) {
                Ok(found) => return Ok(found),
                Err(error) => missing = missing.or(&error),
            }
        }
        Err(missing)
    }

    fn by_process(pid: u32, version: &FileVersion) -> io::Result<Self> {
        let process = process_directory(pid)?;
        let executed = executed_by(&process)?;
        refuse_remote(&process, version, &executed)?;
        let file = open_regular(&executed)?;
        if !is_version(&file, version)? {
            return Err(changed());
        }
        Ok(Self {
            file,
            root: root_in(&process).ok(),
            process: Some(process),
        })
    }

    fn by_path(ancestor: u32, path: &[u8], version: &FileVersion) -> io::Result<Self> {
        let process = process_directory(ancestor)?;
        let root = root_in(&process)?;
        let found = root.find(path)?;
        refuse_remote(&process, version, &found)?;
        if !is_version(&found, version)? {
            return Err(changed());
        }
        Ok(Self {
            file: open_regular(&found)?,
            root: Some(root),
            process: None,
        })
    }

    /// The root in which the process itself lives, if it was found through that.
    pub(super) fn own_root(&self) -> Option<&Root> {
        self.root.as_ref().filter(|_| self.process.is_some())
    }

    /// Whether the file has this version now.
    pub(super) fn is_still(&self, version: &FileVersion) -> bool {
        is_version(&self.file, version).unwrap_or(false)
    }

    /// Whether the process through which it was found runs it now. While it does nobody writes to it, so
    /// that a content as young as its exec is told from a later one.
    pub(super) fn is_running(&self) -> bool {
        let running = |process| executed_by(process)?.metadata();
        let running = self.process.as_ref().map(running);
        match (running, self.file.metadata()) {
            (Some(Ok(running)), Ok(file)) => is_same_file(&running, &file),
            _ => false,
        }
    }
}

/// Whether a content was changed so shortly before a time (since 1970) that another change could have
/// the same time.
pub(super) fn is_young(version: &FileVersion, at_ns: i64) -> bool {
    !time_to_age(version, at_ns).is_zero()
}

/// How long after a time (since 1970) another change has another time for sure.
pub(super) fn time_to_age(version: &FileVersion, at_ns: i64) -> Duration {
    let distinct_ns = version
        .changed_ns
        .saturating_add(granularity_ns(version.changed_ns))
        .saturating_add(1);
    Duration::from_nanos(u64::try_from(distinct_ns.saturating_sub(at_ns)).unwrap_or(0))
}

/// Within how many nanoseconds of a change another one may have the same time.
fn granularity_ns(changed_ns: i64) -> i64 {
    let kept = match changed_ns {
        ns if ns % SECOND_NS == 0 => COARSE_NS,
        ns if ns % HUNDREDTH_NS == 0 => HUNDREDTH_NS,
        _ => 0,
    };
    kept + *TICK_NS
}

impl Missing {
    /// What two failures say together: a look at another content says the most.
    fn or(self, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::REMOTE) => Self::Remote,
            Some(Errno::STALE) => Self::Changed,
            Some(Errno::ACCESS | Errno::PERM) if self == Self::Gone => Self::Unreadable,
            _ => self,
        }
    }
}

/// What is there is not what was.
fn changed() -> io::Error {
    Errno::STALE.into()
}

/// It stays that process's: of another one with the same PID nothing is seen through it.
fn process_directory(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/{pid}"), flags, Mode::empty())?)
}

/// What a process runs now.
fn executed_by(process: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat(process, "exe", flags, Mode::empty())?.into())
}

fn root_in(process: &OwnedFd) -> io::Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Root::new(openat(process, "root", flags, Mode::empty())?))
}

/// Refuses what another process or host may give differently to everyone who reads it.
fn refuse_remote(process: &OwnedFd, version: &FileVersion, found: &File) -> io::Result<()> {
    if is_remote(process, version.id.device, found)? {
        return Err(Errno::REMOTE.into());
    }
    Ok(())
}

fn is_version(file: &File, version: &FileVersion) -> io::Result<bool> {
    let mut found = file_status(&file.metadata()?).version;
    if found.id.device != version.id.device {
        let file_system = fstatfs(file)?.f_type as u32;
        if OWN_DEVICES.contains(&file_system) {
            found.id.device = version.id.device;
        }
    }
    Ok(found == *version)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::process::image::{Parent, Program, Relation};

    fn version_at(path: &std::path::Path) -> FileVersion {
        file_status(&fs::metadata(path).unwrap()).version
    }

    fn image_of_this_process() -> Image {
        Image::sample(std::process::id(), b"this")
    }

    #[test]
    fn what_this_process_runs_is_found_and_no_other_version_of_it() {
        let image = image_of_this_process();
        let version = version_at(&std::env::current_exe().unwrap());
        let found = Found::of(&image, &version).unwrap();
        assert!(found.root.is_some());
        assert!(found.is_still(&version) && found.is_running());
        let other = FileVersion {
            changed_ns: version.changed_ns + 1,
            ..version
        };
        assert_eq!(Found::of(&image, &other).err(), Some(Missing::Changed));
    }

    #[test]
    fn what_a_process_ran_is_found_by_its_path_below_the_root_of_an_ancestor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, "content").unwrap();
        let version = version_at(&path);
        let mut image = Image::sample(u32::MAX, b"gone");
        image.program = Arc::new(Program {
            executable: path.to_str().unwrap().to_owned().into(),
            ..Program::default()
        });
        assert_eq!(Found::of(&image, &version).err(), Some(Missing::Gone));
        image.parent = Parent::Known(Relation::Birth, Arc::new(image_of_this_process()));
        let found = Found::of(&image, &version).unwrap();
        assert!(found.is_still(&version));
        assert!(
            !found.is_running(),
            "what was there at a young exec cannot be known"
        );
        fs::write(&path, "altered").unwrap();
        fs::write(&path, "another").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "content").unwrap();
        assert_eq!(Found::of(&image, &version).err(), Some(Missing::Changed));
        assert!(!found.is_still(&version), "it has been unlinked");
    }

    #[test]
    fn a_content_stays_young_for_as_long_as_its_file_system_may_not_tell_changes_apart() {
        let at = |changed_ns| FileVersion {
            changed_ns,
            ..FileVersion::default()
        };
        let second = 1_700_000_000 * SECOND_NS;
        for (changed_ns, granularity_ns) in [
            (second + 123_456_789, *TICK_NS),
            (second + 120_000_000, HUNDREDTH_NS + *TICK_NS),
            (second, COARSE_NS + *TICK_NS),
        ] {
            let version = at(changed_ns);
            assert!(is_young(&version, changed_ns + granularity_ns));
            assert!(!is_young(&version, changed_ns + granularity_ns + 1));
            let left = time_to_age(&version, changed_ns);
            assert_eq!(left.as_nanos(), granularity_ns as u128 + 1);
        }
        assert!(!is_young(&at(i64::MIN), i64::MAX) && is_young(&at(i64::MAX), 0));
    }
}
