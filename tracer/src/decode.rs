//! From bytes to meaning.
//!
//! In: one record of the ring buffer, never trusted. Out: an [`Event`] that borrows the record's
//! strings, or a [`DecodeError`] that says what is wrong with it. Nothing is allocated, and a record
//! is read field by field: its structure serves only for offsets and types.

pub mod inventory;

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_common::record::{self, kind};

use crate::event::{
    AcceptSeen, BootTime, CgroupId, Close, Endpoints, Errno, Event, EventKind, Membership, Name,
    ProcessKey, RootId, Session, SocketId, SocketMoment, Subflow, Task, TcpState, Totals, Tty,
};

/// Why a record cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even a header.
    #[error("a record of {length} bytes lacks its header")]
    NoHeader {
        /// In bytes.
        length: usize,
    },
    /// Another version of the kernel programs, perhaps.
    #[error("record kind {kind} is unknown")]
    UnknownKind {
        /// [`record::Header::kind`].
        kind: u16,
    },
    /// Too short or too long.
    #[error("a {kind} record has {expected} bytes, this one {length}")]
    Length {
        /// Which record.
        kind: &'static str,
        /// In bytes, strings included.
        expected: usize,
        /// In bytes.
        length: usize,
    },
    /// A value that has no meaning.
    #[error("{field} cannot be {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What stands in it.
        value: u64,
    },
}

/// A number, or an array of bytes, as it lies in a record.
trait Field<const N: usize>: Sized {
    fn read(bytes: [u8; N]) -> Self;
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field<{ size_of::<$number>() }> for $number {
            fn read(bytes: [u8; size_of::<$number>()]) -> Self {
                <$number>::from_ne_bytes(bytes)
            }
        }
    )*};
}
number_fields!(u8, u16, u32, u64);

impl Field<16> for [u8; 16] {
    fn read(bytes: [u8; 16]) -> Self {
        bytes
    }
}

/// Reads the field at `offset` of a record of `SIZE` bytes. `_type` is never called: it ties the
/// result to the type which the field has in the record's structure `R`.
#[inline(always)]
fn read<R, T: Field<N>, const N: usize, const SIZE: usize>(
    bytes: &[u8; SIZE],
    offset: usize,
    _type: impl Fn(&R) -> T,
) -> T {
    T::read(part(bytes, offset))
}

/// `field!(bytes, Structure, path.to.field)`: the value of that field. `bytes` is an array as long as
/// the structure, so that no index can be out of bounds.
macro_rules! field {
    ($bytes:expr, $record:ty, $($path:ident).+) => {
        read($bytes, offset_of!($record, $($path).+), |record: &$record| record.$($path).+)
    };
}

mod datagram;
mod exec;

/// The bytes at `offset` of a record.
#[inline(always)]
fn part<const N: usize, const SIZE: usize>(bytes: &[u8; SIZE], offset: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[offset..offset + N]);
    part
}

/// What the record in `bytes`, which has to be the whole of it, says.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let header = bytes
        .first_chunk::<{ size_of::<record::Header>() }>()
        .ok_or(DecodeError::NoHeader {
            length: bytes.len(),
        })?;
    let time = BootTime(field!(header, record::Header, time_ns));
    match field!(header, record::Header, kind) {
        kind::FORK => fork(bytes, time),
        kind::EXEC => exec::exec(bytes, time),
        kind::EXIT => exit(bytes, time),
        kind::CONNECT => socket("connect", bytes, time, EventKind::Connect),
        kind::ATTEMPT => socket("attempt", bytes, time, EventKind::Attempt),
        kind::CONNECT_ERROR => connect_error(bytes, time),
        kind::ACCEPT => accept(bytes, time),
        kind::LISTEN => socket("listen", bytes, time, EventKind::Listen),
        kind::ESTABLISHED => established(bytes, time),
        kind::SUBFLOW => subflow(bytes, time),
        kind::CLOSE => close(bytes, time),
        kind::RESET_SENT => reset(bytes, time),
        kind::CGROUP_MKDIR => cgroup_mkdir(bytes, time),
        kind::CGROUP_RMDIR => cgroup_rmdir(bytes, time),
        kind::CGROUP_ATTACH => cgroup_attach(bytes, time),
        kind::FLOW => datagram::flow(bytes, time),
        kind::DATAGRAM_OWNER => datagram::owner(bytes, time),
        kind::DATAGRAM_CLOSE => datagram::close(bytes, time),
        kind::DNS => datagram::dns(bytes, time),
        kind::SOCKET_CREATED => datagram::socket_created(bytes, time),
        kind::CLIENT_HELLO => datagram::client_hello(bytes, time),
        kind => Err(DecodeError::UnknownKind { kind }),
    }
}

// The functions of the kinds are not inlined: in one piece with the others, each would write the fields
// of all kinds. What they call is, so that what is read goes to its place at once.

/// An event, or why there is none.
type Decoded<'a> = Result<Event<'a>, DecodeError>;

/// The record as an array, if its length is right.
fn exact<'a, const SIZE: usize>(
    kind: &'static str,
    bytes: &'a [u8],
) -> Result<&'a [u8; SIZE], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Length {
        kind,
        expected: SIZE,
        length: bytes.len(),
    })
}

#[inline(never)]
fn fork(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Fork>()] = exact("fork", bytes)?;
    let kind = EventKind::Fork {
        parent: task(&part(bytes, offset_of!(record::Fork, parent))),
        child: ProcessKey {
            tgid: field!(bytes, record::Fork, child_tgid),
            start_ns: field!(bytes, record::Fork, child_start_ns),
        },
        membership: membership(&part(bytes, offset_of!(record::Fork, membership))),
    };
    Ok(Event { time, kind })
}

#[inline(never)]
fn exit(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Exit>()] = exact("exit", bytes)?;
    let kind = EventKind::Exit {
        task: task(&part(bytes, offset_of!(record::Exit, task))),
        status: field!(bytes, record::Exit, status),
    };
    Ok(Event { time, kind })
}

/// An event that is but a moment of a socket.
#[inline(never)]
fn socket(
    name: &'static str,
    bytes: &[u8],
    time: BootTime,
    kind: impl FnOnce(SocketMoment) -> EventKind<'static>,
) -> Decoded<'static> {
    let bytes = exact(name, bytes)?;
    let checked = check(bytes)?;
    let kind = kind(moment(bytes, checked));
    Ok(Event { time, kind })
}

#[inline(never)]
fn connect_error(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &SocketBytes = exact("connect_error", bytes)?;
    let errno = errno(field!(bytes, record::Socket, errno)).ok_or(DecodeError::Value {
        field: "errno of connect_error",
        value: 0,
    })?;
    let checked = check(bytes)?;
    let kind = EventKind::ConnectError(moment(bytes, checked), errno);
    Ok(Event { time, kind })
}

#[inline(never)]
fn accept(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &SocketBytes = exact("accept", bytes)?;
    let seen = match field!(bytes, record::Socket, header.flags) {
        0 => AcceptSeen::AtAccept,
        record::ACCEPT_BY_DESCRIPTOR => AcceptSeen::ByDescriptor,
        record::ACCEPT_BY_PEER_NAME => AcceptSeen::ByPeerName,
        flags => {
            return Err(DecodeError::Value {
                field: "flags of accept",
                value: flags.into(),
            });
        }
    };
    let checked = check(bytes)?;
    let kind = EventKind::Accept(moment(bytes, checked), seen);
    Ok(Event { time, kind })
}

type SocketBytes = [u8; size_of::<record::Socket>()];

/// What can be wrong in a [`record::Socket`].
fn check(bytes: &SocketBytes) -> Result<(Family, TcpState), DecodeError> {
    let ends = &part(bytes, offset_of!(record::Socket, endpoints));
    let state = tcp_state("endpoints.state", field!(ends, record::Endpoints, state))?;
    Ok((family(ends)?, state))
}

#[inline(always)]
fn moment(bytes: &SocketBytes, (family, state): (Family, TcpState)) -> SocketMoment {
    let ends = &part(bytes, offset_of!(record::Socket, endpoints));
    SocketMoment {
        socket: SocketId(field!(bytes, record::Socket, socket)),
        task: task(&part(bytes, offset_of!(record::Socket, task))),
        endpoints: endpoints(ends, family),
        state,
    }
}

#[inline(never)]
fn established(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Established>()] = exact("established", bytes)?;
    let flags = field!(bytes, record::Established, header.flags);
    let ends = &part(bytes, offset_of!(record::Established, endpoints));
    let family = family(ends)?;
    let kind = EventKind::Established {
        socket: SocketId(field!(bytes, record::Established, socket)),
        endpoints: endpoints(ends, family),
        inbound: flags & record::ESTABLISHED_INBOUND != 0,
    };
    Ok(Event { time, kind })
}

#[inline(never)]
fn subflow(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Subflow>()] = exact("subflow", bytes)?;
    let flags = field!(bytes, record::Subflow, header.flags);
    let ends = &part(bytes, offset_of!(record::Subflow, endpoints));
    let family = family(ends)?;
    let kind = EventKind::Subflow(Subflow {
        socket: SocketId(field!(bytes, record::Subflow, socket)),
        upper: SocketId(field!(bytes, record::Subflow, upper)),
        endpoints: endpoints(ends, family),
        further: flags & record::SUBFLOW_FURTHER != 0,
        inbound: flags & record::SUBFLOW_INBOUND != 0,
    });
    Ok(Event { time, kind })
}

#[inline(never)]
fn close(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Close>()] = exact("close", bytes)?;
    let flags = field!(bytes, record::Close, flags);
    let ends = &part(bytes, offset_of!(record::Close, endpoints));
    let family = family(ends)?;
    let old_state = tcp_state("old_state", field!(bytes, record::Close, old_state))?;
    let kind = EventKind::Close(Close {
        socket: SocketId(field!(bytes, record::Close, socket)),
        endpoints: endpoints(ends, family),
        old_state,
        errno: errno(field!(bytes, record::Close, errno)),
        fin_received: flags & record::CLOSE_FIN_RECEIVED != 0,
        held: flags & record::CLOSE_HELD != 0,
        further: flags & record::CLOSE_FURTHER != 0,
        totals: (flags & record::CLOSE_NO_TOTALS == 0).then(|| totals(bytes)),
    });
    Ok(Event { time, kind })
}

/// Payload only: without what was sent again, and without the FIN, which the kernel counts.
fn totals(bytes: &[u8; size_of::<record::Close>()]) -> Totals {
    let sent: u64 = field!(bytes, record::Close, bytes_sent);
    let received: u64 = field!(bytes, record::Close, bytes_received);
    let fin = field!(bytes, record::Close, flags) & record::CLOSE_FIN_RECEIVED;
    let srtt_eighth_us = field!(bytes, record::Close, srtt_eighth_us);
    Totals {
        sent: sent.saturating_sub(field!(bytes, record::Close, bytes_retransmitted)),
        received: received.saturating_sub(fin.into()),
        rtt_us: (srtt_eighth_us != 0).then_some(srtt_eighth_us / 8),
        retransmits: field!(bytes, record::Close, retransmits),
    }
}

#[inline(never)]
fn reset(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::Reset>()] = exact("reset", bytes)?;
    let kind = EventKind::ResetSent(SocketId(field!(bytes, record::Reset, socket)));
    Ok(Event { time, kind })
}

#[inline(never)]
fn cgroup_mkdir(bytes: &[u8], time: BootTime) -> Decoded<'_> {
    let bytes: &[u8; size_of::<record::CgroupMkdir>()] = exact("cgroup_mkdir", bytes)?;
    let id = cgroup_id(&part(bytes, offset_of!(record::CgroupMkdir, cgroup)));
    let kind = EventKind::CgroupMkdir {
        cgroup: id.ok_or(NO_CGROUP)?,
        path: cgroup_path(&bytes[offset_of!(record::CgroupMkdir, path)..]).ok_or(NO_PATH)?,
    };
    Ok(Event { time, kind })
}

#[inline(never)]
fn cgroup_rmdir(bytes: &[u8], time: BootTime) -> Decoded<'static> {
    let bytes: &[u8; size_of::<record::CgroupRmdir>()] = exact("cgroup_rmdir", bytes)?;
    let id = cgroup_id(&part(bytes, offset_of!(record::CgroupRmdir, cgroup)));
    let kind = EventKind::CgroupRmdir(id.ok_or(NO_CGROUP)?);
    Ok(Event { time, kind })
}

#[inline(never)]
fn cgroup_attach(bytes: &[u8], time: BootTime) -> Decoded<'_> {
    let bytes: &[u8; size_of::<record::CgroupAttach>()] = exact("cgroup_attach", bytes)?;
    let id = cgroup_id(&part(bytes, offset_of!(record::CgroupAttach, cgroup)));
    let kind = EventKind::CgroupAttach {
        process: ProcessKey {
            tgid: field!(bytes, record::CgroupAttach, tgid),
            start_ns: field!(bytes, record::CgroupAttach, start_ns),
        },
        cgroup: id.ok_or(NO_CGROUP)?,
        path: cgroup_path(&bytes[offset_of!(record::CgroupAttach, path)..]),
    };
    Ok(Event { time, kind })
}

const NO_CGROUP: DecodeError = DecodeError::Value {
    field: "node of a cgroup",
    value: 0,
};
const NO_PATH: DecodeError = DecodeError::Value {
    field: "length of a cgroup's path",
    value: 0,
};

/// A path that is whole: the kernel cuts one that would fill its place.
fn cgroup_path(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().position(|&byte| byte == 0)?;
    (bytes[0] == b'/' && length < bytes.len() - 1).then(|| &bytes[..length])
}

fn cgroup_id(bytes: &[u8; size_of::<record::CgroupId>()]) -> Option<CgroupId> {
    let node = field!(bytes, record::CgroupId, node);
    (node != 0).then(|| CgroupId {
        hierarchy: field!(bytes, record::CgroupId, hierarchy),
        node,
    })
}

/// What the kernel tells with each fork and exec, and of each process in the inventory.
#[inline(always)]
pub(crate) fn membership(bytes: &[u8; size_of::<record::Membership>()]) -> Membership {
    let set = |value: u32| (value != record::UNSET).then_some(value);
    let some = |value: u32| (value != 0).then_some(value);
    let flags = field!(bytes, record::Membership, flags);
    let root: u64 = field!(bytes, record::Membership, root);
    Membership {
        cgroup: cgroup_id(&part(bytes, offset_of!(record::Membership, cgroup))),
        session: Session {
            login_uid: set(field!(bytes, record::Membership, login_uid)),
            id: set(field!(bytes, record::Membership, session_id)),
            tty: some(field!(bytes, record::Membership, tty)).map(Tty),
        },
        namespace_pid: some(field!(bytes, record::Membership, namespace_pid)),
        root: (root != 0).then_some(RootId(root)),
        in_user_namespace: flags & record::MEMBERSHIP_USER_NAMESPACE != 0,
    }
}

#[inline(always)]
fn task(bytes: &[u8; size_of::<record::Task>()]) -> Task {
    let flags = field!(bytes, record::Task, flags);
    let readable = flags & record::TASK_IDS_ONLY == 0;
    Task {
        tgid: field!(bytes, record::Task, tgid),
        tid: field!(bytes, record::Task, tid),
        start_ns: readable.then(|| field!(bytes, record::Task, start_ns)),
        euid: readable.then(|| field!(bytes, record::Task, euid)),
        kernel_thread: flags & record::TASK_KERNEL_THREAD != 0,
        name: name(field!(bytes, record::Task, comm)),
        parent: process(
            field!(bytes, record::Task, parent_tgid),
            field!(bytes, record::Task, parent_start_ns),
        ),
    }
}

/// The process of this PID, unless that is the idle task's.
fn process(tgid: u32, start_ns: u64) -> Option<ProcessKey> {
    (tgid != 0).then_some(ProcessKey { tgid, start_ns })
}

/// The name without what follows its first NUL, so that equal names are equal. All bytes at once,
/// because nearly every record has a name.
fn name(comm: [u8; 16]) -> Name {
    const LOW: u128 = u128::from_ne_bytes([0x01; 16]);
    const HIGH: u128 = u128::from_ne_bytes([0x80; 16]);
    let bytes = u128::from_le_bytes(comm);
    // The lowest bit set is the highest of the first byte that is zero.
    let zeros = bytes.wrapping_sub(LOW) & !bytes & HIGH;
    if zeros == 0 {
        return Name(comm);
    }
    let before_first = ((1 << zeros.trailing_zeros()) - 1) >> 7;
    Name((bytes & before_first).to_le_bytes())
}

/// `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

fn family(bytes: &[u8; size_of::<record::Endpoints>()]) -> Result<Family, DecodeError> {
    match field!(bytes, record::Endpoints, family) {
        2 => Ok(Family::Ipv4),
        10 => Ok(Family::Ipv6),
        family => Err(DecodeError::Value {
            field: "family",
            value: family.into(),
        }),
    }
}

#[inline(always)]
fn endpoints(bytes: &[u8; size_of::<record::Endpoints>()], family: Family) -> Endpoints {
    let local = field!(bytes, record::Endpoints, local);
    let remote = field!(bytes, record::Endpoints, remote);
    let (local, remote) = match family {
        Family::Ipv4 => (IpAddr::V4(ipv4(local)), IpAddr::V4(ipv4(remote))),
        Family::Ipv6 => unmapped(local.into(), remote.into()),
    };
    Endpoints {
        netns: field!(bytes, record::Endpoints, netns),
        local: SocketAddr::new(local, field!(bytes, record::Endpoints, local_port)),
        remote: SocketAddr::new(remote, field!(bytes, record::Endpoints, remote_port)),
        ipv6_socket: family == Family::Ipv6,
    }
}

fn ipv4(bytes: [u8; 16]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

/// The addresses of an IPv6 socket, as IPv4 if they are mapped. An end without an address takes the
/// family of the other.
fn unmapped(local: Ipv6Addr, remote: Ipv6Addr) -> (IpAddr, IpAddr) {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match (canonical(local), canonical(remote)) {
        (IpAddr::V6(local), remote @ IpAddr::V4(_)) if local.is_unspecified() => (any, remote),
        (local @ IpAddr::V4(_), IpAddr::V6(remote)) if remote.is_unspecified() => (local, any),
        ends => ends,
    }
}

/// As [`Ipv6Addr::to_canonical`], but all bytes at once: nearly every record has addresses.
fn canonical(ip: Ipv6Addr) -> IpAddr {
    let bits = ip.to_bits();
    if bits >> 32 == 0xffff {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(ip)
    }
}

fn errno(value: u32) -> Option<Errno> {
    (value != 0).then_some(Errno(value))
}

fn tcp_state(field: &'static str, value: u8) -> Result<TcpState, DecodeError> {
    TcpState::from_number(value).ok_or(DecodeError::Value {
        field,
        value: value.into(),
    })
}

#[cfg(test)]
mod tests;
