//! Flows of datagrams, what is asked of name servers, and the sockets that see packets.

use std::num::NonZeroU32;

use super::{BootTime, Endpoints, Protocol, SocketId, Task, Transport};

/// Where the kernel programs count the datagrams of a flow. Never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey(pub [u64; 4]);

/// What a flow of datagrams has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTotals {
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Their payload, in bytes.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_packets: u64,
    /// Their payload, in bytes.
    pub received_bytes: u64,
    /// When the last one was seen.
    pub last: BootTime,
}

impl FlowTotals {
    /// What there is more than `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent_packets: self.sent_packets.saturating_sub(before.sent_packets),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_packets: self
                .received_packets
                .saturating_sub(before.received_packets),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            last: self.last,
        }
    }

    /// Of two parts of a flow.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            sent_packets: self.sent_packets.saturating_add(other.sent_packets),
            sent_bytes: self.sent_bytes.saturating_add(other.sent_bytes),
            received_packets: self.received_packets.saturating_add(other.received_packets),
            received_bytes: self.received_bytes.saturating_add(other.received_bytes),
            last: self.last.max(other.last),
        }
    }
}

/// The first datagram between a socket and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where its totals are found.
    pub key: FlowKey,
    /// Through which socket.
    pub socket: SocketId,
    /// Above IP.
    pub protocol: Protocol,
    /// Who sent or received it, where a process is known.
    pub task: Option<Task>,
    /// As the datagram has them.
    pub endpoints: Endpoints,
    /// Whether it came, rather than being sent.
    pub received: bool,
    /// Whether the process wrote its IP header itself.
    pub own_header: bool,
    /// Its payload, in bytes.
    pub bytes: u64,
    /// How many datagrams it was on the wire.
    pub packets: u32,
}

/// Something that was sent to port 53, or came from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsPayload<'a> {
    /// Through which socket.
    pub socket: SocketId,
    /// Who sent or received it, where a process is known.
    pub task: Option<Task>,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// A datagram, or part of a stream.
    pub transport: Transport,
    /// Whether it came, rather than being sent.
    pub received: bool,
    /// A message; of a stream, what was sent or received at once.
    pub bytes: &'a [u8],
    /// Whether `bytes` lack their end.
    pub truncated: bool,
    /// TCP's number of the first byte, where it is known.
    pub sequence: Option<NonZeroU32>,
}

/// What kind of socket can see or forge traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawFamily {
    /// `AF_INET`, `SOCK_RAW`.
    Ipv4,
    /// `AF_INET6`, `SOCK_RAW`.
    Ipv6,
    /// `AF_PACKET`, of any type.
    Packet,
}

/// What such a socket shows of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawType {
    /// `SOCK_RAW`: all of it, and over IPv6 what follows its header.
    Raw,
    /// `SOCK_DGRAM`: what follows the link's header (packet sockets only).
    Datagram,
    /// `SOCK_PACKET`: all of it, by an interface that is obsolete (packet sockets only).
    Packet,
}

/// A process opened a raw or a packet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSocket {
    /// Which one; `None` if it could not be read, as in tracepoint mode.
    pub socket: Option<SocketId>,
    /// Who.
    pub task: Task,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// What kind.
    pub family: RawFamily,
    /// What it shows.
    pub socket_type: RawType,
    /// A protocol above IP; for a packet socket the EtherType, 0 where none is chosen yet.
    pub protocol: u32,
}

impl RawSocket {
    /// A socket that was written down. Of the task that opened it only its process is known.
    pub fn recorded(
        family: RawFamily,
        socket_type: RawType,
        protocol: u32,
        netns: u32,
        tgid: u32,
    ) -> Self {
        Self {
            socket: None,
            task: Task {
                tgid,
                tid: 0,
                start_ns: None,
                euid: None,
                kernel_thread: false,
                name: super::Name::default(),
                parent: None,
            },
            netns,
            family,
            socket_type,
            protocol,
        }
    }
}

#[cfg(test)]
impl RawSocket {
    /// A socket of which a test needs no more than its family.
    pub(crate) fn sample(family: RawFamily) -> Self {
        let task = Task {
            tgid: 20,
            tid: 20,
            start_ns: Some(1),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: super::Name::default(),
        };
        Self {
            socket: None,
            task,
            netns: 0,
            family,
            socket_type: RawType::Raw,
            protocol: 1,
        }
    }
}
