//! The record of an exec: the only one with strings.
//!
//! In: its bytes. Out: an event that borrows the strings.

use std::mem::{offset_of, size_of};

use tracer_common::record;

use super::{DecodeError, Decoded, membership, part, read, task};
use crate::event::{
    BootTime, Event, EventKind, Exec, FileId, FileStatus, FileVersion, Membership, Privileges,
    SocketId, Stream,
};

#[inline(never)]
pub(super) fn exec(bytes: &[u8], time: BootTime) -> Decoded<'_> {
    const SIZE: usize = size_of::<record::Exec>();
    let Some((fixed, strings)) = bytes.split_first_chunk::<SIZE>() else {
        return Err(DecodeError::Length {
            kind: "exec",
            expected: SIZE,
            length: bytes.len(),
        });
    };
    let path_len = usize::from(field!(fixed, record::Exec, path_len));
    let cwd_len = usize::from(field!(fixed, record::Exec, cwd_len));
    let script_len = usize::from(field!(fixed, record::Exec, script_len));
    let args_len = usize::from(field!(fixed, record::Exec, args_len));
    let flags = field!(fixed, record::Exec, flags);
    let expected = SIZE + path_len + cwd_len + script_len + args_len;
    let has_unused_room = flags & record::EXEC_UNUSED_ROOM != 0;
    if bytes.len() < expected || bytes.len() > expected && !has_unused_room {
        return Err(DecodeError::Length {
            kind: "exec",
            expected,
            length: bytes.len(),
        });
    }
    let (path, strings) = strings.split_at(path_len);
    let (cwd, strings) = strings.split_at(cwd_len);
    let (script, strings) = strings.split_at(script_len);
    let file = file(&part(fixed, offset_of!(record::Exec, file)));
    let membership = membership(&part(fixed, offset_of!(record::Exec, membership)));
    let exec = Exec {
        task: task(&part(fixed, offset_of!(record::Exec, task))),
        membership,
        path,
        cwd,
        args: &strings[..args_len],
        privileges: privileges(&file, &membership, flags),
        file,
        script: script.strip_suffix(b"\0").unwrap_or(script),
        path_truncated: flags & record::EXEC_PATH_TRUNCATED != 0,
        cwd_truncated: flags & record::EXEC_CWD_TRUNCATED != 0,
        args_truncated: flags & record::EXEC_ARGS_TRUNCATED != 0,
        args_unreadable: flags & record::EXEC_ARGS_UNREADABLE != 0,
        memfd: flags & record::EXEC_MEMFD != 0,
        deleted: flags & record::EXEC_DELETED != 0,
        script_truncated: flags & record::EXEC_SCRIPT_TRUNCATED != 0,
        upper_layer: flags & record::EXEC_UPPER_LAYER != 0,
        streams: streams(fixed, flags),
    };
    let kind = EventKind::Exec(exec);
    Ok(Event { time, kind })
}

fn streams(fixed: &[u8; size_of::<record::Exec>()], flags: u32) -> [Stream; 2] {
    let ports = field!(fixed, record::Exec, stream_ports);
    let own = (ports >> 16) as u16;
    let peer = u16::from_be(ports as u16);
    let values = [
        field!(fixed, record::Exec, input),
        field!(fixed, record::Exec, output),
    ];
    [0, 1].map(|stream| {
        let value = values[stream];
        if flags & record::EXEC_STREAM_SOCKET << stream != 0 {
            Stream::Socket(SocketId(value), [own, peer])
        } else if flags & record::EXEC_STREAM_PIPE << stream != 0 {
            Stream::Pipe(value)
        } else {
            Stream::Other
        }
    })
}

#[inline(always)]
fn file(bytes: &[u8; size_of::<record::File>()]) -> FileStatus {
    let seconds = field!(bytes, record::File, changed_s) as i64;
    let nanoseconds = i64::from(field!(bytes, record::File, changed_ns));
    FileStatus {
        version: FileVersion {
            id: FileId {
                device: field!(bytes, record::File, device),
                inode: field!(bytes, record::File, inode),
            },
            size: field!(bytes, record::File, size),
            changed_ns: seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds),
        },
        mode: field!(bytes, record::File, mode),
        links: field!(bytes, record::File, links),
        owner: field!(bytes, record::File, owner),
        group: field!(bytes, record::File, group),
    }
}

/// The kernel marks a program whose privileges may come from elsewhere, but does not say why.
pub(super) fn privileges(file: &FileStatus, membership: &Membership, flags: u32) -> Privileges {
    /// `S_ISUID`, `S_ISGID` and `S_IXGRP`, include/uapi/linux/stat.h.
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2010;
    let has = |flag| flags & flag != 0;
    let secure = has(record::EXEC_SECURE);
    Privileges {
        setuid: secure && has(record::EXEC_AS_OWNER) && file.mode & SETUID != 0,
        setgid: secure && has(record::EXEC_AS_GROUP) && file.mode & SETGID == SETGID,
        // The root of another user namespace has capabilities there without a file's help.
        capabilities: has(record::EXEC_CAPABILITIES) && !membership.in_user_namespace,
    }
}
