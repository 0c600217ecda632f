//! Both ends of a socket.

use tracer_common::record::Endpoints;

use super::{layout::layout, source::Source};

/// include/linux/socket.h
pub(crate) const AF_INET: u16 = 2;
/// include/linux/socket.h
pub(crate) const AF_INET6: u16 = 10;
/// include/uapi/linux/in.h
pub(crate) const IPPROTO_TCP: u16 = 6;
/// include/uapi/linux/in.h
pub(crate) const IPPROTO_MPTCP: u16 = 262;
/// include/uapi/linux/in.h
pub(crate) const IPPROTO_UDP: u16 = 17;
/// include/uapi/linux/in.h
pub(crate) const IPPROTO_ICMP: u16 = 1;
/// include/uapi/linux/in6.h
pub(crate) const IPPROTO_ICMPV6: u16 = 58;
/// include/linux/net.h
pub(crate) const SOCK_STREAM: u16 = 1;
/// include/linux/net.h
pub(crate) const SOCK_DGRAM: u16 = 2;
/// include/linux/net.h
pub(crate) const SOCK_RAW: u16 = 3;

/// Whether `sock` is a TCP one over IP. MPTCP's upper socket (protocol 262) is not: its subflows
/// are.
#[inline(always)]
pub(crate) fn is_tcp(sock: impl Source) -> bool {
    is_of::<IPPROTO_TCP>(sock)
}

/// Whether `sock` is one of this protocol over IP.
#[inline(always)]
pub(crate) fn is_of<const PROTOCOL: u16>(sock: impl Source) -> bool {
    // A u16 since 5.6; the kernels before are not supported.
    sock.load::<u16>(layout!(sock_protocol)) == Some(PROTOCOL) && is_ip(sock)
}

/// Whether a datagram socket of this protocol is one whose datagrams are counted: UDP's, or one for pings.
#[inline(always)]
pub(crate) fn is_counted(protocol: u16) -> bool {
    matches!(protocol, IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_ICMPV6)
}

/// Whether the datagrams of `sock` are counted: it is one of these, or a raw one over IP,
/// but for TCP's.
#[inline(always)]
pub(crate) fn has_flows(sock: impl Source) -> bool {
    // Both a u16 since 5.6.
    let Some(protocol) = sock.load::<u16>(layout!(sock_protocol)) else {
        return false;
    };
    if protocol == IPPROTO_TCP {
        return false;
    }
    let is_counted = match sock.load::<u16>(layout!(sock_type)) {
        Some(SOCK_DGRAM) => is_counted(protocol),
        kind => kind == Some(SOCK_RAW),
    };
    is_counted && is_ip(sock)
}

/// Whether a process may hold `sock`. Those that the kernel made for itself, e.g. to answer pings, have no file.
#[inline(always)]
pub(crate) fn has_file(sock: impl Source) -> bool {
    let socket = sock.follow(layout!(sock_socket));
    socket.is_some_and(|socket| socket.load::<u64>(layout!(socket_file)).unwrap_or(0) != 0)
}

/// Whether `sock` speaks IP.
#[inline(always)]
pub(crate) fn is_ip(sock: impl Source) -> bool {
    let family: Option<u16> = sock.load(layout!(sock_family));
    matches!(family, Some(AF_INET | AF_INET6))
}

/// Fills in both ends.
#[inline(always)]
pub(crate) fn fill_endpoints(sock: impl Source, to: *mut Endpoints) -> Option<()> {
    let family: u16 = sock.load(layout!(sock_family))?;
    let net = sock.follow(layout!(sock_net))?;
    // SAFETY: `to` points to a reserved record.
    unsafe {
        (*to).family = family;
        (*to).local_port = sock.load(layout!(sock_num))?;
        (*to).remote_port = u16::from_be(sock.load(layout!(sock_dport))?);
        (*to).state = sock.load(layout!(sock_state))?;
        (*to).padding = 0;
        (*to).netns = net.load(layout!(net_inum))?;
        (*to).padding2 = 0;
        let local = (&raw mut (*to).local).cast::<u64>();
        let remote = (&raw mut (*to).remote).cast::<u64>();
        if family == AF_INET {
            local.write(u64::from(
                sock.load::<u32>(layout!(sock_rcv_saddr))?.to_le(),
            ));
            local.add(1).write(0);
            remote.write(u64::from(sock.load::<u32>(layout!(sock_daddr))?.to_le()));
            remote.add(1).write(0);
        } else {
            let (source, destination) = (layout!(sock_v6_rcv_saddr), layout!(sock_v6_daddr));
            local.write(sock.load(source)?);
            local.add(1).write(sock.load(source + 8)?);
            remote.write(sock.load(destination)?);
            remote.add(1).write(sock.load(destination + 8)?);
        }
    }
    Some(())
}
