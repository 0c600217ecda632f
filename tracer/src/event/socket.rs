//! Sockets: their ends and states, and the moments at which processes deal with them.

use std::net::{IpAddr, SocketAddr};

use super::{BootTime, Task};

/// Address of a kernel socket: identifies it between two moments, until it closes. Never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u64);

/// Both ends of a socket, as the socket sees them. IPv4-mapped addresses are IPv4 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// This end; port 0 while unbound.
    pub local: SocketAddr,
    /// The other end; unspecified address and port 0 if there is none.
    pub remote: SocketAddr,
    /// Whether the socket is an `AF_INET6` one, whatever its addresses are.
    pub ipv6_socket: bool,
}

impl Endpoints {
    /// Whether the connection itself runs over IPv4.
    pub fn is_ipv4(&self) -> bool {
        matches!(self.remote.ip(), IpAddr::V4(_))
    }
}

/// `sk_state` of a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the names of RFC 9293, as include/net/tcp_states.h numbers them"
)]
#[repr(u8)]
pub enum TcpState {
    Established = 1,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynReceived,
    BoundInactive,
}

impl TcpState {
    /// The state with this number in the kernel.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynReceived,
            13 => Self::BoundInactive,
            _ => return None,
        })
    }
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A positive errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub u32);

/// How an accept was seen; how sure its owner is follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptSeen {
    /// In the kernel's own accept.
    AtAccept,
    /// At the exit of the system call, through the new descriptor.
    ByDescriptor,
    /// When the peer's address was asked for.
    ByPeerName,
}

/// A process deals with a socket, in process context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMoment {
    /// Which socket.
    pub socket: SocketId,
    /// Who.
    pub task: Task,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// State of the socket at that moment.
    pub state: TcpState,
}

/// A path of a Multipath TCP connection: a TCP socket under an upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// Which socket.
    pub socket: SocketId,
    /// The upper socket, the same for all subflows of a connection.
    pub upper: SocketId,
    /// Complete.
    pub endpoints: Endpoints,
    /// Whether it joined a connection that was there.
    pub further: bool,
    /// Whether the peer began it.
    pub inbound: bool,
}

/// Why a connection ended, and what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Which socket.
    pub socket: SocketId,
    /// As they were; the kernel may have cleared them (unspecified address, port 0).
    pub endpoints: Endpoints,
    /// The state that the socket leaves.
    pub old_state: TcpState,
    /// The socket's error.
    pub errno: Option<Errno>,
    /// Whether the peer's FIN was received.
    pub fin_received: bool,
    /// Whether a process had the socket until now: it had connected or accepted it.
    pub held: bool,
    /// Whether it was a further subflow of a Multipath TCP connection, established or not.
    pub further: bool,
    /// What it carried, unless it could not be read.
    pub totals: Option<Totals>,
}

/// A TCP or UDP socket that a process had open when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSocket {
    /// When it was looked at: later than every change that is seen here.
    pub time: BootTime,
    /// What its close would have told; `old_state` is the state that it was in.
    pub close: Close,
    /// Who had it open.
    pub holder: Task,
    /// Under which number.
    pub descriptor: u32,
    /// Inode number of the socket's file.
    pub inode: u64,
    /// The upper socket, if it is a subflow of Multipath TCP; the file is that one's.
    pub upper: Option<SocketId>,
}

/// What lies where a socket was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExaminedSocket {
    /// The socket that was asked for.
    pub socket: SocketId,
    /// Both ends of the TCP socket that is there; `None` if there is none or it is closed.
    pub found: Option<Endpoints>,
}

/// What a TCP connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload sent, without retransmissions, in bytes.
    pub sent: u64,
    /// Payload received, in bytes.
    pub received: u64,
    /// Smoothed round-trip time in microseconds; `None` before the first measurement.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: u32,
}

/// The number of a protocol above IP, as IANA assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Streams.
    pub const TCP: Self = Self(6);
    /// Datagrams.
    pub const UDP: Self = Self(17);
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::TCP,
            Transport::Udp => Self::UDP,
        }
    }
}

/// The first bytes sent on a connection, which begin a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloPayload<'a> {
    /// Through which socket.
    pub socket: SocketId,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// The first record, as far as it was seen.
    pub bytes: &'a [u8],
}
