//! An outbound connection begins.
//!
//! `int tcp_connect(struct sock *sk)`, net/ipv4/tcp_output.c, since before 2.6. It runs in the
//! context of whoever connects (system call, io_uring, Fast Open's sendmsg, kernel thread), after
//! both ends' addresses are known and before the SYN leaves.

use core::mem::MaybeUninit;

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::record::{Socket, kind};

use crate::{
    kernel::{Direct, Source, Window, sock, task},
    ring,
};

#[fentry(function = "tcp_connect")]
fn tcp_connect_fentry(ctx: FEntryContext) -> i32 {
    let socket: *const u8 = ctx.arg(0);
    connect(socket, Direct(socket));
    0
}

#[kprobe(function = "tcp_connect")]
fn tcp_connect_kprobe(ctx: ProbeContext) -> u32 {
    let Some(socket) = ctx.arg::<*const u8>(0) else {
        return 0;
    };
    let mut buffer = MaybeUninit::uninit();
    match Window::read(socket, &mut buffer) {
        Some(window) => connect(socket, window),
        None => ring::lost(kind::CONNECT),
    }
    0
}

/// Tells that the current task connects `socket`.
#[inline(always)]
pub(crate) fn connect(socket: *const u8, source: impl Source) {
    socket_moment(kind::CONNECT, 0, socket, source, 0);
}

/// Tells of a moment between the current task and `socket`, from a tracing program.
#[inline(always)]
pub(crate) fn socket_moment(
    kind: u16,
    flags: u16,
    socket: *const u8,
    source: impl Source,
    errno: u32,
) {
    ring::submit(kind, flags, |record: *mut Socket| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = socket as u64;
            task::fill_current(&raw mut (*record).task)?;
            sock::fill_endpoints(source, &raw mut (*record).endpoints)?;
            (*record).errno = errno;
            (*record).padding = 0;
        }
        Some(())
    });
}
