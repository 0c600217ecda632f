//! Records as the kernel programs write them: the structures of `tracer-common`, as bytes.

use std::net::{IpAddr, SocketAddr};
use std::slice;

use tracer_common::record::{
    CgroupId, Close, Endpoints, Established, Exec, Exit, File, Fork, Header, Membership, Reset,
    Socket, Task, UNSET, kind,
};

pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const SYN_SENT: u8 = 2;
pub(crate) const FIN_WAIT2: u8 = 5;
pub(crate) const CLOSE: u8 = 7;
pub(crate) const LAST_ACK: u8 = 9;
pub(crate) const LISTEN: u8 = 10;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// What every process belongs to.
pub(crate) const MEMBERSHIP: Membership = Membership {
    cgroup: CgroupId {
        node: 4711,
        hierarchy: 0,
        padding: 0,
    },
    root: 0xffff_8881_0000_0000,
    login_uid: UNSET,
    session_id: UNSET,
    tty: 0,
    namespace_pid: 0,
    flags: 0,
    padding: 0,
};

/// A structure whose every byte belongs to a field.
///
/// # Safety
/// It is `repr(C)` and has no padding but what is named.
unsafe trait Gapless {}

macro_rules! gapless {
    ($($record:ty),*) => {$(
        // SAFETY: all padding has a name; `tracer-common` asserts the sizes.
        unsafe impl Gapless for $record {}
    )*};
}
gapless!(Close, Established, Exec, Exit, Fork, Reset, Socket);

fn bytes<T: Gapless>(record: &T) -> Vec<u8> {
    // SAFETY: every byte is initialized, because every byte belongs to a field.
    unsafe { slice::from_raw_parts((&raw const *record).cast(), size_of::<T>()) }.to_vec()
}

fn header(kind: u16, time_ns: u64) -> Header {
    Header {
        kind,
        flags: 0,
        padding: 0,
        time_ns,
    }
}

/// What the kernel knows of one socket: its address, and both ends.
#[derive(Clone, Copy)]
pub(crate) struct Sock {
    pub(crate) address: u64,
    pub(crate) netns: u32,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// An `AF_INET6` one, even if it speaks IPv4.
    pub(crate) is_ipv6: bool,
}

impl Sock {
    fn endpoints(&self, state: u8) -> Endpoints {
        Endpoints {
            family: if self.is_ipv6 { AF_INET6 } else { AF_INET },
            local_port: self.local.port(),
            remote_port: self.remote.port(),
            state,
            padding: 0,
            netns: self.netns,
            padding2: 0,
            local: self.bytes_of(self.local.ip()),
            remote: self.bytes_of(self.remote.ip()),
        }
    }

    fn bytes_of(&self, ip: IpAddr) -> [u8; 16] {
        let mut bytes = [0; 16];
        match ip {
            IpAddr::V4(ip) if self.is_ipv6 => bytes = ip.to_ipv6_mapped().octets(),
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        bytes
    }
}

fn moment(kind: u16, time: u64, task: Task, sock: &Sock, state: u8, errno: u32) -> Vec<u8> {
    bytes(&Socket {
        header: header(kind, time),
        socket: sock.address,
        task,
        endpoints: sock.endpoints(state),
        errno,
        padding: 0,
    })
}

pub(crate) fn connect(time: u64, task: Task, sock: &Sock) -> Vec<u8> {
    moment(kind::CONNECT, time, task, sock, SYN_SENT, 0)
}

pub(crate) fn connect_error(time: u64, task: Task, sock: &Sock, errno: u32) -> Vec<u8> {
    moment(kind::CONNECT_ERROR, time, task, sock, CLOSE, errno)
}

pub(crate) fn accept(time: u64, task: Task, sock: &Sock) -> Vec<u8> {
    moment(kind::ACCEPT, time, task, sock, ESTABLISHED, 0)
}

pub(crate) fn listen(time: u64, task: Task, sock: &Sock) -> Vec<u8> {
    moment(kind::LISTEN, time, task, sock, CLOSE, 0)
}

pub(crate) fn established(time: u64, sock: &Sock) -> Vec<u8> {
    bytes(&Established {
        header: header(kind::ESTABLISHED, time),
        socket: sock.address,
        endpoints: sock.endpoints(SYN_SENT),
    })
}

/// How a socket ends.
#[derive(Clone, Copy, Default)]
pub(crate) struct End {
    pub(crate) old_state: u8,
    pub(crate) errno: u32,
    pub(crate) flags: u8,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) rtt_us: u32,
}

pub(crate) fn close(time: u64, sock: &Sock, end: End) -> Vec<u8> {
    bytes(&Close {
        header: header(kind::CLOSE, time),
        socket: sock.address,
        endpoints: sock.endpoints(end.old_state),
        bytes_sent: end.sent,
        bytes_retransmitted: 0,
        bytes_received: end.received,
        srtt_eighth_us: end.rtt_us * 8,
        retransmits: 0,
        errno: end.errno,
        old_state: end.old_state,
        flags: end.flags,
        padding: 0,
    })
}

pub(crate) fn reset_sent(time: u64, sock: &Sock) -> Vec<u8> {
    bytes(&Reset {
        header: header(kind::RESET_SENT, time),
        socket: sock.address,
    })
}

pub(crate) fn fork(time: u64, parent: Task, child_tgid: u32) -> Vec<u8> {
    bytes(&Fork {
        header: header(kind::FORK, time),
        parent,
        child_tgid,
        padding: 0,
        child_start_ns: time,
        membership: MEMBERSHIP,
    })
}

pub(crate) fn exit(time: u64, task: Task, status: u32) -> Vec<u8> {
    bytes(&Exit {
        header: header(kind::EXIT, time),
        task,
        status,
        padding: 0,
    })
}

/// `path` and `cwd` from the file up to the root, `args` as in `/proc/PID/cmdline`.
pub(crate) fn exec(time: u64, task: Task, path: &[u8], cwd: &[u8], args: &[u8]) -> Vec<u8> {
    let length = |string: &[u8]| string.len() as u16;
    let mut record = bytes(&Exec {
        header: header(kind::EXEC, time),
        task,
        membership: MEMBERSHIP,
        file: File {
            inode: 1_000_000 + path.len() as u64,
            size: 100_000,
            changed_s: 1_700_000_000,
            changed_ns: 0,
            device: 8 << 20 | 1,
            mode: 0o100_755,
            links: 1,
            owner: 0,
            group: 0,
        },
        path_len: length(path),
        cwd_len: length(cwd),
        script_len: 0,
        args_len: length(args),
        flags: 0,
        input: 0,
        output: 0,
        stream_ports: 0,
    });
    record.extend_from_slice(path);
    record.extend_from_slice(cwd);
    record.extend_from_slice(args);
    record
}
