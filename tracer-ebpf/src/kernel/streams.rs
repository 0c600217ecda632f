//! What a process has as its standard input and output.

use tracer_common::record::{EXEC_STREAM_PIPE, EXEC_STREAM_SOCKET, Exec};

use super::{
    layout::layout,
    source::{Direct, Remote, Source, read_remote},
};

/// `S_IFMT` and two of its values, include/uapi/linux/stat.h.
const TYPE: u16 = 0o170_000;
const FIFO: u16 = 0o010_000;
const SOCKET: u16 = 0o140_000;

/// Fills in what the streams are that are pipes or sockets, and marks them.
///
/// # Safety
/// `exec` must point to a record whose flags are filled in.
#[inline(always)]
pub(crate) unsafe fn fill(task: Direct, exec: *mut Exec) {
    // SAFETY: by the caller's promise.
    unsafe {
        (*exec).input = 0;
        (*exec).output = 0;
        (*exec).stream_ports = 0;
        let table = task
            .follow(layout!(task_files))
            .and_then(|files| files.follow(layout!(files_fdt)));
        let files = table.and_then(|table| table.load::<*const u8>(layout!(fdtable_fd)));
        // A table has room for 64 descriptors at least.
        let Some([input, output]) = files.and_then(read_remote::<[*const u8; 2]>) else {
            return;
        };
        // The input last: its ports count.
        (*exec).output = identity::<1>(output, exec);
        (*exec).input = identity::<0>(input, exec);
    }
}

/// What tells a pipe or a socket from others, else 0; and marks which of the two it is.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn identity<const STREAM: u32>(file: *const u8, exec: *mut Exec) -> u64 {
    if file.is_null() {
        return 0;
    }
    let file = Remote(file);
    let Some(inode) = file.follow(layout!(file_inode)) else {
        return 0;
    };
    let kind = inode.load::<u16>(layout!(inode_mode)).unwrap_or(0) & TYPE;
    // SAFETY: by the caller's promise.
    unsafe {
        if kind == FIFO {
            if let Some(number) = inode.load(layout!(inode_ino)) {
                (*exec).flags |= EXEC_STREAM_PIPE << STREAM;
                return number;
            }
        } else if kind == SOCKET
            && let Some(socket) = file
                .follow(layout!(file_private_data))
                .and_then(|socket| socket.follow(layout!(socket_sk)))
        {
            let own: u16 = socket.load(layout!(sock_num)).unwrap_or(0);
            let peer: u16 = socket.load(layout!(sock_dport)).unwrap_or(0);
            (*exec).stream_ports = u32::from(own) << 16 | u32::from(peer);
            (*exec).flags |= EXEC_STREAM_SOCKET << STREAM;
            return socket.0 as u64;
        }
    }
    0
}
