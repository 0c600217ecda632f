//! The sockets of a network namespace as `/proc/PID/net` lists them: also those that nobody holds.
//!
//! In: a process in that namespace. Out: its TCP and UDP sockets, with their queues. proc(5),
//! `tcp4_seq_show` in net/ipv4/tcp_ipv4.c.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::event::{Endpoints, TcpState, Transport};

/// A socket of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which protocol.
    pub transport: Transport,
    /// Its state; a UDP socket without a peer is in CLOSE.
    pub state: TcpState,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// Inode number of its file; 0 if it has none.
    pub inode: u64,
    /// Bytes that wait to be read; for a listener, connections that wait to be accepted.
    pub receive_queue: u32,
    /// Bytes that have not been acknowledged.
    pub send_queue: u32,
}

/// The sockets of `transport` in the namespace `netns`, in which `pid` is.
pub fn read(pid: u32, netns: u32, transport: Transport) -> Vec<Listed> {
    let names = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let mut listed = Vec::new();
    for name in names {
        // A host without IPv6 has no such file.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        let lines = text.lines().skip(1);
        listed.extend(lines.filter_map(|line| parse(line, netns, transport)));
    }
    listed
}

fn parse(line: &str, netns: u32, transport: Transport) -> Option<Listed> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, is_ipv6) = end(fields.next()?)?;
    let (remote, _) = end(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (send_queue, receive_queue) = fields.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some(Listed {
        transport,
        state: TcpState::from_number(state)?,
        endpoints: Endpoints {
            netns,
            local,
            remote,
            ipv6_socket: is_ipv6,
        },
        // Behind timer, retransmits, user and timeout.
        inode: fields.nth(4)?.parse().ok()?,
        receive_queue: number(receive_queue)?,
        send_queue: number(send_queue)?,
    })
}

/// An address and a port, and whether it is one of an IPv6 socket. The address is printed as numbers of 32
/// bits, as they lie in memory.
fn end(text: &str) -> Option<(SocketAddr, bool)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if address.len() == 8 {
        return Some((
            SocketAddr::new(Ipv4Addr::from(word(0)?).into(), port),
            false,
        ));
    }
    let mut octets = [0; 16];
    for (index, chunk) in octets.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(index * 8)?);
    }
    let ip: IpAddr = Ipv6Addr::from(octets).to_canonical();
    Some((SocketAddr::new(ip, port), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_ends_state_queues_and_inode() {
        let line = "   1: 0100007F:1F90 0200007F:9C40 01 00000003:00000007 00:00000000 00000000   33 \
                    0 4711 1 0000000000000000 20 4 30 10 -1";
        let listed = parse(line, 5, Transport::Tcp).unwrap();
        assert_eq!(listed.endpoints.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(listed.endpoints.remote, "127.0.0.2:40000".parse().unwrap());
        assert_eq!(listed.state, TcpState::Established);
        assert_eq!((listed.send_queue, listed.receive_queue), (3, 7));
        assert_eq!((listed.inode, listed.endpoints.netns), (4711, 5));
    }

    #[test]
    fn a_mapped_address_is_ipv4_and_an_ipv6_one_is_read_word_by_word() {
        let mapped = end("0000000000000000FFFF00000100007F:0016").unwrap();
        assert_eq!(mapped, ("127.0.0.1:22".parse().unwrap(), true));
        let own = end("00000000000000000000000001000000:0016").unwrap();
        assert_eq!(own, ("[::1]:22".parse().unwrap(), true));
        assert_eq!(end("0100:16"), None);
    }
}
