//! The file system as a process sees it, below its own root directory.
//!
//! In: a root directory and paths, which whoever lives there has made. Out: open regular files. Symbolic
//! links are followed within that root, and nothing else is opened: no device, no pipe.

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat, openat2};
use rustix::io::Errno;

/// How much of a file is read at once that is read by lines.
const CHUNK: usize = 32 << 10;

/// A root directory.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// A directory as the root of what lies below it.
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// The root of this very process.
    pub(super) fn own() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open("/", flags, Mode::empty())?))
    }

    /// Finds what has this path, without opening it.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<File> {
        self.resolve(path, OFlags::empty())
    }

    /// What has this path; a symbolic link at its end is not followed.
    pub(super) fn stat(&self, path: &[u8]) -> io::Result<Metadata> {
        self.resolve(path, OFlags::NOFOLLOW)?.metadata()
    }

    /// The lines of a regular file of at most `limit` bytes, without their ends. For what is large: it
    /// is never in memory as a whole.
    pub(super) fn lines(
        &self,
        path: &[u8],
        limit: u64,
    ) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
        let file = open_regular(&self.find(path)?)?;
        if file.metadata()?.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(BufReader::with_capacity(CHUNK, file.take(limit)).split(b'\n'))
    }

    /// A directory, to be listed.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let found = self.find(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(found, ".", flags, Mode::empty())?)
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.0, path, flags, Mode::empty(), how)?.into())
    }
}

/// Opens a file that was only found, if it is a regular one, and leaves its access time if that is allowed.
pub(super) fn open_regular(found: &File) -> io::Result<File> {
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match open(&path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => open(&path, flags, Mode::empty()),
        opened => opened,
    };
    Ok(opened?.into())
}

/// Whether two looks were at the same file.
pub(super) fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    pub(in crate::file) fn root_at(path: &Path) -> Root {
        Root::new(File::open(path).unwrap().into())
    }

    pub(in crate::file) fn content(root: &Root, path: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut file = open_regular(&root.find(path).unwrap()).unwrap();
        file.read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn links_lead_nowhere_but_into_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("etc")).unwrap();
        fs::write(path.join("etc/hostname"), "inside").unwrap();
        symlink("/etc/hostname", path.join("absolute")).unwrap();
        symlink("../../../../etc/hostname", path.join("relative")).unwrap();
        let root = root_at(path);
        for link in ["absolute", "relative"] {
            assert_eq!(content(&root, link.as_bytes()), b"inside");
        }
        let link = root.stat(b"absolute").unwrap();
        assert!(!is_same_file(&link, &root.stat(b"etc/hostname").unwrap()));
    }

    #[test]
    fn what_is_no_regular_file_or_too_long_is_not_read() {
        let root = Root::own().unwrap();
        assert!(root.lines(b"/dev/zero", 10).is_err());
        assert!(root.lines(b"/", 10).is_err());
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "one\ntwo\n").unwrap();
        let root = root_at(directory.path());
        assert!(root.lines(b"file", 7).is_err());
        assert_eq!(root.lines(b"file", 8).unwrap().count(), 2);
    }
}
