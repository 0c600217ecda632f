//! What is there now: walks over all tasks and their sockets, of all namespaces, started by user space.
//!
//! `iter/task` and `iter/task_file`, kernel/bpf/task_iter.c, since 5.8. Reading the iterator's file
//! runs the program once for each task, or each open file of a task, and yields what it writes.
//!
//! A socket that no process has open (its process has closed it, or the kernel made it) is in no such
//! walk, so the daemon asks about those by their address: each run for a task answers for a few.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write},
    macros::map,
    maps::Array,
};
use tracer_common::{
    inventory::{
        EXAMINED_MAX, ExaminedSocket, ExistingTask, HeldSocket, TASK_IS_INIT, TASK_IS_READER,
        TASK_IS_SUBREAPER,
    },
    record::{CLOSE_FURTHER, kind},
};

use crate::{
    kernel::{
        Direct, Remote, Source, Window,
        layout::{layout, setting},
        membership, mptcp, sock,
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

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
    session: u64,
    /// Counts the objects of this walk from 0.
    number: u64,
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
    let signal = task.follow(layout!(task_signal))?;
    let mut record = MaybeUninit::<ExistingTask>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: `to` points to a record on the stack, filled in completely; `seq` is the iterator's.
    unsafe {
        task::fill(task, &raw mut (*to).task)?;
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
        (*to).padding = 0;
        membership::fill(task, &raw mut (*to).membership);
        bpf_seq_write(seq.cast(), to.cast(), size_of::<ExistingTask>() as u32);
    }
    Some(())
}

/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// include/net/tcp_states.h
const CLOSE: u8 = 7;

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
fn held_sockets(ctx: *const FileContext) -> i32 {
    visit::<{ sock::IPPROTO_TCP }>(ctx)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn held_udp_sockets(ctx: *const FileContext) -> i32 {
    visit::<{ sock::IPPROTO_UDP }>(ctx)
}

#[inline(always)]
fn visit<const PROTOCOL: u16>(ctx: *const FileContext) -> i32 {
    // SAFETY: the verifier knows the context's type.
    let (meta, task, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).file) };
    if !task.is_null() && !file.is_null() {
        // SAFETY: as above.
        let (seq, descriptor) = unsafe { ((*meta).seq, (*ctx).descriptor) };
        let _ = tell_socket::<PROTOCOL>(seq, Direct(task), descriptor, Direct(file));
    }
    0
}

#[inline(always)]
fn tell_socket<const PROTOCOL: u16>(
    seq: *mut c_void,
    task: Direct,
    descriptor: u32,
    file: Direct,
) -> Option<()> {
    let inode = file.follow(layout!(file_inode))?;
    if inode.load::<u16>(layout!(inode_mode))? & FILE_TYPE != SOCKET {
        return None;
    }
    // `private_data` has no type, so that from here on every read is a helper call.
    let socket: *const u8 = file.load(layout!(file_private_data))?;
    let sock = Remote(Remote(socket).load(layout!(socket_sk))?);
    let is_tcp = PROTOCOL == sock::IPPROTO_TCP;
    let opened = Opened {
        task,
        descriptor,
        inode: inode.load(layout!(inode_ino))?,
    };
    if is_tcp && sock::is_of::<{ sock::IPPROTO_MPTCP }>(sock) {
        tell_subflows(seq, sock, &opened)
    } else {
        tell_one::<PROTOCOL>(seq, sock, true, &opened)
    }
}

/// A socket's file that a process has open.
struct Opened {
    task: Direct,
    descriptor: u32,
    inode: u64,
}

/// How many subflows of a connection are looked at: the first one, and then the list, in which it stands again.
/// The kernel adds at most eight to it.
const SUBFLOWS_MAX: u32 = 10;

/// Tells of the subflows of a Multipath TCP socket, the first one first, since that is what the other hooks
/// see. If it is over, the next one stands for the connection.
#[inline(always)]
fn tell_subflows(seq: *mut c_void, upper: Remote, opened: &Opened) -> Option<()> {
    if setting!(mptcp.subflow_mask) == 0 {
        return None;
    }
    let first: *const u8 = upper.load(setting!(mptcp.first))?;
    let head = upper.0.wrapping_add(setting!(mptcp.subflows) as usize);
    let (mut socket, mut node, mut is_first) = (first, head, true);
    for _ in 0..SUBFLOWS_MAX {
        if !socket.is_null()
            && tell_one::<{ sock::IPPROTO_TCP }>(seq, Remote(socket), is_first, opened).is_some()
        {
            is_first = false;
        }
        node = read_remote(node)?;
        if node == head {
            break;
        }
        let context = Remote(node.wrapping_sub(setting!(mptcp.node) as usize));
        socket = context.load(setting!(mptcp.tcp))?;
        if socket == first {
            socket = core::ptr::null();
        }
    }
    Some(())
}

/// Tells of one socket, if it is of this protocol.
#[inline(always)]
fn tell_one<const PROTOCOL: u16>(
    seq: *mut c_void,
    sock: Remote,
    is_first: bool,
    opened: &Opened,
) -> Option<()> {
    let is_tcp = PROTOCOL == sock::IPPROTO_TCP;
    let state: u8 = sock.load(layout!(sock_state))?;
    // A UDP socket without a peer is in CLOSE.
    if is_tcp && state == CLOSE || !sock::is_of::<PROTOCOL>(sock) {
        return None;
    }
    let tcp = is_tcp.then_some(sock);
    let upper = tcp.map_or(0, mptcp::upper);
    let mut record = MaybeUninit::<HeldSocket>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: a record on the stack, filled in completely; `seq` is the iterator's.
    unsafe {
        let close = &raw mut (*to).close;
        fill_close(close, sock.0, sock, tcp, state)?;
        if is_first {
            (*close).flags &= !CLOSE_FURTHER;
        }
        task::fill(opened.task, &raw mut (*to).holder)?;
        (*to).descriptor = opened.descriptor;
        (*to).padding = 0;
        (*to).inode = opened.inode;
        (*to).upper = upper;
        // Last: every record of a change that was read here then has an earlier time.
        ring::write_header(close.cast(), kind::CLOSE, 0);
        bpf_seq_write(seq.cast(), to.cast(), size_of::<HeldSocket>() as u32);
    }
    Some(())
}

/// Addresses of the sockets to be examined; 0 ends them.
#[map]
static EXAMINED: Array<u64> = Array::with_max_entries(EXAMINED_MAX, 0);

/// For how many sockets each run answers. The verifier walks through each of them, so that more would
/// cost every start some time.
const BATCH: u32 = 4;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn examined_sockets(ctx: *const Context) -> i32 {
    // SAFETY: the verifier knows the context's type.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    // The walk ends by a run without a task.
    if task.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let (seq, number) = unsafe { ((*meta).seq, (*meta).number) };
    for index in 0..BATCH {
        let asked = EXAMINED.get((number as u32).wrapping_mul(BATCH).wrapping_add(index));
        match asked {
            Some(&address) if address != 0 => examine(seq, address),
            _ => break,
        }
    }
    0
}

#[inline(always)]
fn examine(seq: *mut c_void, address: u64) {
    let mut record = MaybeUninit::<ExaminedSocket>::zeroed();
    let to = record.as_mut_ptr();
    let address = address as *const u8;
    let mut buffer = MaybeUninit::uninit();
    // SAFETY: a record on the stack, zeros at first; `seq` is the iterator's.
    unsafe {
        (*to).socket = address as u64;
        if let Some(window) = Window::read(address, &mut buffer)
            && window.load::<u8>(layout!(sock_state)) != Some(CLOSE)
        {
            // What is no socket has other ends than the one that was asked for.
            let _ = sock::fill_endpoints(window, &raw mut (*to).endpoints);
        }
        bpf_seq_write(seq.cast(), to.cast(), size_of::<ExaminedSocket>() as u32);
    }
}
