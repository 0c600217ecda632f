//! The domain's events: what a record says, once it has been checked.
//!
//! In: nothing but plain values. Out: the vocabulary that decoding, the process table and the
//! connection table share. Nothing here knows the wire or the output.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// Nanoseconds of `CLOCK_BOOTTIME`: the kernel's clock for everything that this program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Nanoseconds since `earlier`, or 0 if that is later.
    pub fn since(self, earlier: BootTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A process, distinguished from any other that has or had its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// PID as the initial PID namespace has it.
    pub tgid: u32,
    /// Start of the process, in nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
}

/// `comm`: at most 15 bytes, of any value but NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Name(pub [u8; 16]);

impl Name {
    /// The bytes before the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.0.len());
        &self.0[..end]
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_bytes().escape_ascii().to_string())
    }
}

/// The task in whose context something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// PID of its process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Start of its process in nanoseconds of `CLOCK_BOOTTIME`, where the kernel let it be read.
    pub start_ns: Option<u64>,
    /// Effective user ID, where the kernel let it be read.
    pub euid: Option<u32>,
    /// Whether this is a kernel thread.
    pub kernel_thread: bool,
    /// `comm` of the process (of the thread, where `start_ns` is unknown).
    pub name: Name,
    /// Its parent at that moment; `None` if it has none or it is not known.
    pub parent: Option<ProcessKey>,
}

/// A cgroup. IDs are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CgroupId {
    /// As in `/proc/PID/cgroup`: 0 is version 2.
    pub hierarchy: u32,
    /// Inode number of its directory.
    pub node: u64,
}

/// A root directory. Never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootId(pub u64);

/// How a process came by a login, since its last fork or exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// User ID at login, in the initial user namespace; `None` if nobody logged in.
    pub login_uid: Option<u32>,
    /// The audit session; `None` if nobody logged in.
    pub id: Option<u32>,
    /// The controlling terminal.
    pub tty: Option<Tty>,
}

/// A terminal by its device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tty(pub u32);

impl Tty {
    /// Which driver.
    pub fn major(self) -> u32 {
        self.0 >> 20
    }

    /// Which of its terminals.
    pub fn minor(self) -> u32 {
        self.0 & 0xf_ffff
    }
}

/// What a process belongs to; the default is that nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its cgroup.
    pub cgroup: Option<CgroupId>,
    /// Its login.
    pub session: Session,
    /// PID in its own PID namespace, unless that is the initial one.
    pub namespace_pid: Option<u32>,
    /// Its root directory.
    pub root: Option<RootId>,
    /// Its user namespace is not the initial one.
    pub in_user_namespace: bool,
}

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

/// A process became another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Who, with its new name and user.
    pub task: Task,
    /// What it belongs to.
    pub membership: Membership,
    /// The file: components from the file up to the root, each ended by a NUL.
    pub path: &'a [u8],
    /// The working directory, in the same form.
    pub cwd: &'a [u8],
    /// As in `/proc/PID/cmdline`.
    pub args: &'a [u8],
    /// The file as its inode has it.
    pub file: FileStatus,
    /// Where an interpreter runs for it, the script as exec was called with it; otherwise empty.
    pub script: &'a [u8],
    /// The path lacks the directories nearest to the root.
    pub path_truncated: bool,
    /// The working directory lacks the directories nearest to the root.
    pub cwd_truncated: bool,
    /// The arguments lack their end.
    pub args_truncated: bool,
    /// The arguments could not be read.
    pub args_unreadable: bool,
    /// The file is a memfd.
    pub memfd: bool,
    /// The file's name is gone.
    pub deleted: bool,
    /// The script lacks its end.
    pub script_truncated: bool,
    /// The file is in the upper layer of an overlay file system.
    pub upper_layer: bool,
    /// What the program may do that whoever called exec could not.
    pub privileges: Privileges,
}

impl<'a> Exec<'a> {
    /// An ordinary program at `path`, about which nothing else is told.
    pub fn of(task: Task, path: &'a [u8]) -> Self {
        Exec {
            task,
            membership: Membership::default(),
            path,
            cwd: b"",
            args: b"",
            file: FileStatus::default(),
            script: b"",
            path_truncated: false,
            cwd_truncated: false,
            args_truncated: false,
            args_unreadable: false,
            memfd: false,
            deleted: false,
            script_truncated: false,
            upper_layer: false,
            privileges: Privileges::default(),
        }
    }
}

/// A file by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number: major << 20 | minor.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
}

/// One content of a file: whoever changes it changes at least one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileVersion {
    /// Which file.
    pub id: FileId,
    /// In bytes.
    pub size: u64,
    /// When it was last changed (`ctime`), in nanoseconds since 1970.
    pub changed_ns: i64,
}

/// A file as its inode has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Which file, with which content.
    pub version: FileVersion,
    /// Type and permissions (`st_mode`).
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// User ID, in the initial user namespace.
    pub owner: u32,
    /// Group ID, in the initial user namespace.
    pub group: u32,
}

/// What a program may do that whoever called exec could not, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// It acts as the file's owner, for the file is set-user-ID.
    pub setuid: bool,
    /// It acts as the file's group, for the file is set-group-ID.
    pub setgid: bool,
    /// The file has capabilities.
    pub capabilities: bool,
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
            name: Name::default(),
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

/// Something that the kernel programs saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When.
    pub time: BootTime,
    /// What.
    pub kind: EventKind<'a>,
}

/// What the kernel programs can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind<'a> {
    /// A process begins, with the image of its birth parent.
    Fork {
        /// The process that called fork.
        parent: Task,
        /// The new one.
        child: ProcessKey,
        /// What the new one belongs to.
        membership: Membership,
    },
    /// A process becomes another program.
    Exec(Exec<'a>),
    /// The last thread of a process ends.
    Exit {
        /// Which process.
        task: Task,
        /// As `wait` would tell: exit code << 8 | signal.
        status: u32,
    },
    /// A cgroup is made.
    CgroupMkdir {
        /// Which one.
        cgroup: CgroupId,
        /// From the root of its hierarchy.
        path: &'a [u8],
    },
    /// A cgroup is removed.
    CgroupRmdir(CgroupId),
    /// A process is moved to another cgroup.
    CgroupAttach {
        /// Who.
        process: ProcessKey,
        /// Where it is now.
        cgroup: CgroupId,
        /// Path of that cgroup, where it was told.
        path: Option<&'a [u8]>,
    },
    /// An outbound TCP connection begins. The local port may still be 0 in tracepoint mode.
    Connect(SocketMoment),
    /// A process asked for a connection (tracepoint mode); a `Connect` follows unless it fails first.
    Attempt(SocketMoment),
    /// An attempt failed in the system call. A `Connect` may have come before.
    ConnectError(SocketMoment, Errno),
    /// A process took a connection from a listener's queue.
    Accept(SocketMoment, AcceptSeen),
    /// A socket begins to listen.
    Listen(SocketMoment),
    /// A handshake is complete.
    Established {
        /// Which socket.
        socket: SocketId,
        /// Now complete.
        endpoints: Endpoints,
        /// Whether the peer began it (sent in tracepoint mode only).
        inbound: bool,
    },
    /// A handshake of Multipath TCP is complete.
    Subflow(Subflow),
    /// A TCP socket reaches CLOSE: the end of a connection, of an attempt, or of a listener.
    Close(Close),
    /// This host sent a reset for a socket, perhaps just after its close.
    ResetSent(SocketId),
    /// The first datagram between a socket and a peer.
    Flow(Flow),
    /// A process sends or receives with a datagram socket for the first time (tracepoint mode).
    DatagramOwner {
        /// Which socket.
        socket: SocketId,
        /// Who.
        task: Task,
        /// He connected it, rather than using it: who uses it is not seen.
        by_connect: bool,
    },
    /// A datagram socket is closed.
    DatagramClose(SocketId),
    /// Something was sent to port 53, or came from there.
    Dns(DnsPayload<'a>),
    /// A process opened a raw or a packet socket.
    SocketCreated(RawSocket),
}

impl EventKind<'_> {
    /// Whether it is about a process or a cgroup rather than a socket.
    pub fn is_about_process(&self) -> bool {
        matches!(
            self,
            Self::Fork { .. }
                | Self::Exec(_)
                | Self::Exit { .. }
                | Self::CgroupMkdir { .. }
                | Self::CgroupRmdir(_)
                | Self::CgroupAttach { .. }
        )
    }
}
