//! A process opens a socket that can see or forge traffic: a raw one over IP, or a packet socket.
//!
//! `int security_socket_post_create(struct socket *sock, int family, int type, int protocol, int kern)`,
//! security/security.c, since before 2.6.16, if the kernel has CONFIG_SECURITY_NETWORK. `__sock_create`
//! (net/socket.c) calls it when the family has made the socket, below both the system call and io_uring.
//! The flags are off the type by then, and `SOCK_PACKET` of `AF_INET` is one of `AF_PACKET`.
//!
//! Without it, both ends of the system call: `sys_enter_socket`, `sys_exit_socket`,
//! kernel/trace/trace_syscalls.c. What was asked for is kept from the one to the other, since behind the new
//! descriptor another thread may have put something else meanwhile.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_task, bpf_get_current_task_btf},
    },
    macros::{fentry, kprobe, map, tracepoint},
    maps::HashMap,
    programs::{FEntryContext, ProbeContext, TracePointContext},
};
use tracer_common::record::{SocketCreated, kind};

use crate::{
    kernel::{
        Direct, Remote, Source,
        layout::{layout, setting},
        sock::{AF_INET, AF_INET6, SOCK_RAW},
        syscall, task,
    },
    ring,
};

/// include/linux/socket.h
const AF_PACKET: u16 = 17;
/// include/linux/net.h
const SOCK_PACKET: u16 = 10;
/// The part of the system call's argument that is the type; the rest is flags (include/linux/net.h).
const SOCK_TYPE_MASK: u16 = 0xf;

/// What a process asks for.
#[repr(C)]
#[derive(Clone, Copy)]
struct Asked {
    family: u16,
    socket_type: u16,
    /// As passed: for a packet socket in network byte order.
    protocol: u32,
}

impl Asked {
    /// Whether such a socket can see or forge traffic.
    #[inline(always)]
    fn is_raw(self) -> bool {
        match self.family {
            AF_INET | AF_INET6 => self.socket_type == SOCK_RAW,
            AF_PACKET => true,
            _ => false,
        }
    }

    /// The protocol as a number: the kernel takes 16 bits for a packet socket (`packet_create`,
    /// net/packet/af_packet.c).
    #[inline(always)]
    fn protocol(self) -> u32 {
        if self.family == AF_PACKET {
            u32::from(u16::from_be(self.protocol as u16))
        } else {
            self.protocol
        }
    }
}

#[fentry(function = "security_socket_post_create")]
fn security_socket_post_create_fentry(ctx: FEntryContext) -> i32 {
    let asked = Asked {
        family: ctx.arg(1),
        socket_type: ctx.arg(2),
        protocol: ctx.arg(3),
    };
    if asked.is_raw() && ctx.arg::<i32>(4) == 0 {
        tell_socket(asked, Direct(ctx.arg(0)));
    }
    0
}

#[kprobe(function = "security_socket_post_create")]
fn security_socket_post_create_kprobe(ctx: ProbeContext) -> u32 {
    let _ = created(&ctx);
    0
}

#[inline(always)]
fn created(ctx: &ProbeContext) -> Option<()> {
    let asked = Asked {
        family: ctx.arg(1)?,
        socket_type: ctx.arg(2)?,
        protocol: ctx.arg(3)?,
    };
    if asked.is_raw() && ctx.arg::<i32>(4)? == 0 {
        tell_socket(asked, Remote(ctx.arg(0)?));
    }
    Some(())
}

/// The socket's namespace is that of its `struct sock`.
#[inline(always)]
fn tell_socket(asked: Asked, socket: impl Source) {
    let sock: *const u8 = socket.load(layout!(socket_sk)).unwrap_or_default();
    let netns = || {
        let sock = socket.follow(layout!(socket_sk))?;
        sock.follow(layout!(sock_net))?.load(layout!(net_inum))
    };
    tell(asked, sock, netns().unwrap_or(0));
}

/// Threads that are in `socket` at a time, for sockets that are told of.
const OPENING_MAX: u32 = 4096;

/// What those asked for, by PID and thread ID.
#[map]
static OPENING: HashMap<u64, Asked> = HashMap::with_max_entries(OPENING_MAX, 0);

#[tracepoint]
fn sys_enter_socket(ctx: TracePointContext) -> u32 {
    let mut asked = Asked {
        family: syscall::argument::<0>(&ctx) as u16,
        socket_type: syscall::argument::<1>(&ctx) as u16 & SOCK_TYPE_MASK,
        protocol: syscall::argument::<2>(&ctx) as u32,
    };
    if asked.family == AF_INET && asked.socket_type == SOCK_PACKET {
        asked.family = AF_PACKET;
    }
    keep(bpf_get_current_pid_tgid(), asked);
    0
}

/// Keeps what a thread asks for until the call returns.
#[inline(always)]
fn keep(thread: u64, asked: Asked) {
    if asked.is_raw() {
        if OPENING.insert(thread, asked, 0).is_err() {
            // Perhaps the call fails, and nothing is lost after all.
            ring::lost(kind::SOCKET_CREATED);
        }
    // SAFETY: only this thread changes its entry.
    } else if unsafe { OPENING.get(thread) }.is_some() {
        // The kernel skipped the end of an earlier call: this one's must not be taken for it.
        let _ = OPENING.remove(thread);
    }
}

#[tracepoint]
fn sys_exit_socket(ctx: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread changes its entry.
    let Some(&asked) = (unsafe { OPENING.get(thread) }) else {
        return 0;
    };
    let _ = OPENING.remove(thread);
    if syscall::returned(&ctx) >= 0 {
        let netns = own_network_namespace().unwrap_or(0);
        tell(asked, core::ptr::null(), netns);
    }
    0
}

/// The namespace in which the current thread makes sockets, which nobody else can change.
#[inline(always)]
fn own_network_namespace() -> Option<u32> {
    // SAFETY: both helpers return the current task.
    unsafe {
        if setting!(task_btf) == 1 {
            network_namespace(Direct(bpf_get_current_task_btf().cast()))
        } else {
            network_namespace(Remote(bpf_get_current_task() as *const u8))
        }
    }
}

#[inline(always)]
fn network_namespace(task: impl Source) -> Option<u32> {
    let namespaces = task.follow(layout!(task_nsproxy))?;
    namespaces
        .follow(layout!(nsproxy_net))?
        .load(layout!(net_inum))
}

/// Tells that the current task opened a socket; what is not known is null or 0.
#[inline(always)]
fn tell(asked: Asked, sock: *const u8, netns: u32) {
    ring::submit(kind::SOCKET_CREATED, 0, |record: *mut SocketCreated| {
        // SAFETY: a reserved record.
        unsafe {
            (*record).socket = sock as u64;
            task::fill_current(&raw mut (*record).task)?;
            (*record).netns = netns;
            (*record).family = asked.family;
            (*record).socket_type = asked.socket_type;
            (*record).protocol = asked.protocol();
            (*record).padding = 0;
        }
        Some(())
    });
}
