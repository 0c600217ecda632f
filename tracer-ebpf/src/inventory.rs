//! What is there now: walks over all tasks and their sockets, of all namespaces, started by user space.
//!
//! `iter/task` and `iter/task_file`, kernel/bpf/task_iter.c, since 5.8. Reading the iterator's file
//! runs the program once for each task, or each open file of a task, and yields what it writes.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write};
use tracer_common::{
    inventory::{ExistingTask, TASK_IS_INIT, TASK_IS_READER, TASK_IS_SUBREAPER},
    record::{Close, kind},
};

use crate::{
    kernel::{
        Direct, Remote, Source,
        layout::{layout, setting},
        sock,
        source::read_remote,
        task,
    },
    ring,
    state::fill_close,
};

/// `SIGNAL_UNKILLABLE`, include/linux/sched/signal.h: the init of a PID namespace.
const SIGNAL_UNKILLABLE: u32 = 0x40;

/// `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const u8,
}

/// The beginning of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn existing_tasks(ctx: *const Context) -> i32 {
    // SAFETY: the verifier knows the context's type.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if !task.is_null() {
        // SAFETY: as above.
        let _ = tell(unsafe { (*meta).seq }, Direct(task));
    }
    0
}

#[inline(always)]
fn tell(seq: *mut c_void, task: Direct) -> Option<()> {
    let tgid: u32 = task.load(layout!(task_tgid))?;
    if task.load::<u32>(layout!(task_pid))? != tgid {
        return None; // Not a process but one of its further threads.
    }
    let parent = task.follow(layout!(task_real_parent))?;
    let parent_leader = parent.follow(layout!(task_group_leader))?;
    let signal = task.follow(layout!(task_signal))?;
    let mut record = MaybeUninit::<ExistingTask>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: `to` points to a record on the stack, filled in completely; `seq` is the iterator's.
    unsafe {
        task::fill(task, &raw mut (*to).task)?;
        (*to).parent_start_ns = parent_leader.load(layout!(task_start_boottime))?;
        (*to).parent_tgid = parent.load(layout!(task_tgid))?;
        let mut flags = 0;
        if signal.load::<u32>(layout!(signal_flags))? & SIGNAL_UNKILLABLE != 0 {
            flags |= TASK_IS_INIT;
        }
        let byte = signal.0.wrapping_add(setting!(subreaper_byte) as usize);
        if u32::from(read_remote::<u8>(byte)?) & setting!(subreaper_mask) != 0 {
            flags |= TASK_IS_SUBREAPER;
        }
        if (bpf_get_current_pid_tgid() >> 32) as u32 == tgid {
            flags |= TASK_IS_READER;
        }
        (*to).flags = flags;
        bpf_seq_write(seq.cast(), to.cast(), size_of::<ExistingTask>() as u32);
    }
    Some(())
}

/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

// include/net/tcp_states.h
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct FileContext {
    meta: *const Meta,
    task: *const u8,
    descriptor: u32,
    file: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn open_connections(ctx: *const FileContext) -> i32 {
    // SAFETY: the verifier knows the context's type.
    let (meta, file) = unsafe { ((*ctx).meta, (*ctx).file) };
    if !file.is_null() {
        // SAFETY: as above.
        let _ = tell_connection(unsafe { (*meta).seq }, Direct(file));
    }
    0
}

/// Writes the record that the socket's close would make now. A socket that is open several times is
/// told several times.
#[inline(always)]
fn tell_connection(seq: *mut c_void, file: Direct) -> Option<()> {
    let inode = file.follow(layout!(file_inode))?;
    if inode.load::<u16>(layout!(inode_mode))? & FILE_TYPE != SOCKET {
        return None;
    }
    // `private_data` has no type, so that from here on every read is a helper call.
    let socket: *const u8 = file.load(layout!(file_private_data))?;
    let sock = Remote(Remote(socket).load(layout!(socket_sk))?);
    let state: u8 = sock.load(layout!(sock_state))?;
    if !sock::is_tcp(sock) || matches!(state, CLOSE | LISTEN) {
        return None;
    }
    let mut record = MaybeUninit::<Close>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: a record on the stack, filled in completely; `seq` is the iterator's.
    unsafe {
        ring::write_header(to.cast(), kind::CLOSE, 0);
        fill_close(to, sock.0, sock, Some(sock), state)?;
        bpf_seq_write(seq.cast(), to.cast(), size_of::<Close>() as u32);
    }
    Some(())
}
