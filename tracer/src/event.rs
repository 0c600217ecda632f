//! The domain's events: what a record says, once it has been checked.
//!
//! In: nothing but plain values. Out: the vocabulary that decoding, the process table and the
//! connection table share. Nothing here knows the wire or the output.

mod datagram;
mod process;
mod socket;

pub use datagram::{DnsPayload, Flow, FlowKey, FlowTotals, RawFamily, RawSocket, RawType};
pub use process::{
    CgroupId, Exec, FileId, FileStatus, FileVersion, Membership, Name, Privileges, ProcessKey,
    RootId, Session, Stream, Task, Tty,
};
pub use socket::{
    AcceptSeen, Close, Endpoints, Errno, ExaminedSocket, HeldSocket, HelloPayload, Protocol,
    SocketId, SocketMoment, Subflow, TcpState, Totals, Transport,
};

/// Nanoseconds of `CLOCK_BOOTTIME`: the kernel's clock for everything that this program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Nanoseconds since `earlier`, or 0 if that is later.
    pub fn since(self, earlier: BootTime) -> u64 {
        self.0.saturating_sub(earlier.0)
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
    /// The first bytes sent on a connection begin a TLS handshake.
    ClientHello(HelloPayload<'a>),
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
