//! Whether a file's content comes from elsewhere: from a server, or from another process.
//!
//! In: a device as the kernel numbers it, and the mounts that a process and the tracer see. Out: whether the
//! file system there is such a one. While a mount is listed, the file system itself is not asked: a
//! server that does not answer would keep whoever asks.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, fstatfs, openat};

/// File systems that take contents and times from another host or process: as tables of mounts call them,
/// up to a dot, and as statfs(2) does.
const REMOTE: [(&[u8], u32); 21] = [
    (b"fuse", 0x6573_5546),
    (b"fuseblk", 0x6573_5546),
    (b"virtiofs", 0x6573_5546),
    (b"nfs", 0x6969),
    (b"nfs4", 0x6969),
    (b"cifs", 0xff53_4d42),
    (b"smb3", 0xfe53_4d42),
    (b"smbfs", 0x517b),
    (b"9p", 0x0102_1997),
    (b"ceph", 0x00c3_6400),
    (b"afs", 0x5346_414f),
    (b"coda", 0x7375_7245),
    (b"ncpfs", 0x564c),
    (b"ocfs2", 0x7461_636f),
    (b"gfs2", 0x0116_1970),
    (b"lustre", 0x0bd0_0bd0),
    (b"orangefs", 0x2003_0528),
    (b"gpfs", 0x4750_4653),
    (b"beegfs", 0x1983_0326),
    (b"vboxsf", 0x786f_4256),
    (b"vmhgfs", 0xbacb_acbc),
];

/// A table of very many mounts, in bytes.
const TABLE_MAX: u64 = 16 << 20;

/// Whether `found`, which was not opened for reading, lies on such a file system. `process` is the directory in
/// `/proc` of one that sees the file.
pub(super) fn is_remote(process: &OwnedFd, device: u32, found: &File) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let seen = openat(process, "mountinfo", flags, Mode::empty());
    let own = || File::open("/proc/self/mountinfo");
    let listed = seen
        .map_err(io::Error::from)
        .and_then(|seen| listed(seen.into(), device));
    let listed = match listed {
        Ok(Some(is_remote)) => Some(is_remote),
        _ => self::listed(own()?, device)?,
    };
    match listed {
        Some(is_remote) => Ok(is_remote),
        // No mount of it is seen: a memfd, what was unmounted, what lies outside of a root.
        None => {
            let number = fstatfs(found)?.f_type as u32;
            Ok(REMOTE.iter().any(|&(_, remote)| remote == number))
        }
    }
}

/// Whether a table lists that device as such a one; `None` if it does not list it.
fn listed(table: File, device: u32) -> io::Result<Option<bool>> {
    for line in BufReader::new(table.take(TABLE_MAX)).split(b'\n') {
        if let Some((listed, kind)) = mount(&line?)
            && listed == device
        {
            return Ok(Some(is_remote_kind(kind)));
        }
    }
    Ok(None)
}

/// Device and kind of file system of a line (proc_pid_mountinfo(5)): spaces in paths are escaped.
fn mount(line: &[u8]) -> Option<(u32, &[u8])> {
    let mut words = line.split(|&byte| byte == b' ');
    let device = str::from_utf8(words.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    words.find(|word| *word == b"-")?;
    Some((major.checked_mul(1 << 20)? | minor, words.next()?))
}

fn is_remote_kind(kind: &[u8]) -> bool {
    let kind = kind.split(|&byte| byte == b'.').next();
    REMOTE.iter().any(|&(remote, _)| Some(remote) == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_its_device_and_kind() {
        let line = b"36 35 98:7 /m\\040nt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        assert_eq!(mount(line), Some((98 << 20 | 7, &b"ext3"[..])));
        let bare = b"36 35 0:41 / /mnt rw - fuse.sshfs host:/ rw";
        assert_eq!(mount(bare), Some((41, &b"fuse.sshfs"[..])));
        for broken in [
            &b""[..],
            b"1 2 3 / /",
            b"1 2 a:b / / rw - x",
            b"1 2 0:1 / / rw",
        ] {
            assert_eq!(mount(broken), None);
        }
    }

    #[test]
    fn what_a_server_or_a_process_serves_is_remote() {
        for kind in [
            "nfs4",
            "fuse",
            "fuse.sshfs",
            "fuseblk",
            "cifs",
            "9p",
            "virtiofs",
        ] {
            assert!(is_remote_kind(kind.as_bytes()), "{kind}");
        }
        for kind in ["ext4", "overlay", "tmpfs", "btrfs", "fusectl", "nfsd"] {
            assert!(!is_remote_kind(kind.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn a_device_is_looked_up_in_a_table() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mountinfo");
        let table = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:50 / /net rw - nfs4 host:/ rw\n";
        std::fs::write(&path, table).unwrap();
        let look = |device| listed(File::open(&path).unwrap(), device).unwrap();
        assert_eq!(look(8 << 20 | 1), Some(false));
        assert_eq!(look(50), Some(true));
        assert_eq!(look(51), None);
    }
}
