//! A process takes a connection, seen at the end of the system call (tracepoint mode).
//!
//! `sys_exit_accept` and `sys_exit_accept4`, kernel/trace/trace_syscalls.c. All that the tracepoint
//! says is the new descriptor; the socket is found through the process's descriptor table. User
//! space believes it only of a socket that has just been established and has no owner yet: another
//! thread may have put something else behind that number meanwhile.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf},
    macros::tracepoint,
    programs::TracePointContext,
};
use tracer_common::record::ACCEPT_BY_DESCRIPTOR;

use crate::{
    accept::accept,
    kernel::{
        Direct, Remote, Source, Window,
        layout::{layout, setting},
        sock,
        source::read_remote,
        syscall,
    },
};

#[tracepoint]
fn sys_exit_accept(ctx: TracePointContext) -> u32 {
    returned(&ctx)
}

#[tracepoint]
fn sys_exit_accept4(ctx: TracePointContext) -> u32 {
    returned(&ctx)
}

#[inline(always)]
fn returned(ctx: &TracePointContext) -> u32 {
    let descriptor = syscall::returned(ctx);
    if descriptor >= 0 {
        // SAFETY: both helpers return the current task.
        let socket = unsafe {
            if setting!(task_btf) == 1 {
                socket_of(Direct(bpf_get_current_task_btf().cast()), descriptor as u64)
            } else {
                socket_of(
                    Remote(bpf_get_current_task() as *const u8),
                    descriptor as u64,
                )
            }
        };
        if let Some(socket) = socket {
            tell(socket);
        }
    }
    0
}

/// The `struct sock` behind a descriptor of `task`, if there is a socket there.
#[inline(always)]
fn socket_of(task: impl Source, descriptor: u64) -> Option<*const u8> {
    let table = task
        .follow(layout!(task_files))?
        .follow(layout!(files_fdt))?;
    if descriptor >= u64::from(table.load::<u32>(layout!(fdtable_max_fds))?) {
        return None;
    }
    let files: *const u8 = table.load(layout!(fdtable_fd))?;
    let file: *const u8 = read_remote(files.wrapping_add(descriptor as usize * 8))?;
    let socket = Remote(file).follow(layout!(file_private_data))?;
    let sock: *const u8 = socket.load(layout!(socket_sk))?;
    (!sock.is_null()).then_some(sock)
}

/// What TCP knows of the socket that a process has: the socket itself, or the first path of a
/// Multipath TCP connection.
#[inline(always)]
fn path_of(socket: *const u8) -> Option<*const u8> {
    let first = setting!(mptcp.first);
    let protocol = Remote(socket).load::<u16>(layout!(sock_protocol))?;
    if first == 0 || protocol != sock::IPPROTO_MPTCP {
        return Some(socket);
    }
    let path: *const u8 = Remote(socket).load(first)?;
    (!path.is_null()).then_some(path)
}

#[inline(always)]
fn tell(socket: *const u8) {
    let Some(socket) = path_of(socket) else {
        return;
    };
    // A refused read means that this was not a socket after all.
    let mut buffer = MaybeUninit::uninit();
    if sock::is_tcp(Remote(socket))
        && let Some(window) = Window::read(socket, &mut buffer)
    {
        accept(socket, ACCEPT_BY_DESCRIPTOR, window);
    }
}
