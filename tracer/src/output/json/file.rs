//! `tracer.file`: the file that a process runs, as its inode has it.

use super::object::{Object, key};
use crate::clock::UtcClock;
use crate::event::{FileStatus, FileVersion};

/// `st_mode` without the type.
const PERMISSIONS: u32 = 0o7777;

/// Writes the members.
pub(super) fn write(file: &FileStatus, clock: &mut UtcClock, object: &mut Object<'_>) {
    let mut digits = itoa::Buffer::new();
    let device = object.key(key!("device"));
    device.push(b'"');
    let FileVersion {
        id,
        size,
        changed_ns,
    } = file.version;
    device.extend_from_slice(digits.format(id.device >> 20).as_bytes());
    device.push(b':');
    device.extend_from_slice(digits.format(id.device & 0xf_ffff).as_bytes());
    device.push(b'"');
    object.number(key!("inode"), id.inode);
    object.word(key!("mode"), octal(file.mode & PERMISSIONS));
    for (key, id) in [(key!("uid"), file.owner), (key!("gid"), file.group)] {
        object.word(key, digits.format(id));
    }
    object.number(key!("links"), file.links);
    object.number(key!("size"), size);
    object.word(key!("ctime"), clock.render_unix(changed_ns));
}

/// Four octal digits.
fn octal(mode: u32) -> [u8; 4] {
    [9, 6, 3, 0].map(|shift| b'0' + (mode >> shift & 7) as u8)
}
