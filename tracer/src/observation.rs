//! What the state task tells the sinks: facts about processes and connections, already attributed.
//!
//! In: conclusions of the process and connection tables. Out: one value per output event, borrowed
//! for as long as the sinks look at it. A sink that keeps something clones the `Arc`s in it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::detect::Detection;
use crate::dns::Lookup;
use crate::dns::names::Domain;
use crate::event::{
    BootTime, Endpoints, Errno, FlowTotals, ProcessKey, Protocol, RawSocket, SocketId, Totals,
};
use crate::output::About;
use crate::process::cause::Cause;
use crate::process::image::{Image, Provenance};
use crate::tls::ClientHello;

/// Identifies a connection in every output: unique on this host and across boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// When the tracer first saw it, in nanoseconds of `CLOCK_BOOTTIME`.
    pub first_seen_ns: u64,
    /// Distinguishes those that were first seen in the same nanosecond.
    pub serial: u32,
}

/// Who began a connection, seen from this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This socket's owner connected.
    Egress,
    /// This socket's owner accepted, or would have.
    Ingress,
    /// Not known: the connection is older than the tracer.
    Unknown,
}

impl Direction {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Egress, Self::Ingress, Self::Unknown];
}

/// Zeek's `conn_state`, as far as one socket can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::upper_case_acronyms, reason = "the names as Zeek writes them")]
pub enum ConnState {
    /// No answer, or given up.
    S0,
    /// Refused.
    REJ,
    /// Established, not ended in order.
    S1,
    /// Closed in order.
    SF,
    /// Reset by the initiator.
    RSTO,
    /// Reset by the acceptor.
    RSTR,
    /// Found open.
    OTH,
}

/// Which hook showed the moment that gave a connection its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// The hook on outbound connections.
    Connect,
    /// The hook on accepted connections.
    Accept,
    /// The exit of accept, through the descriptor (tracepoint mode).
    AcceptExit,
    /// The request for the peer's address (tracepoint mode).
    PeerName,
    /// The hook on attempts that fail before they begin.
    ConnectError,
    /// The request to connect (tracepoint mode).
    Attempt,
    /// The hook on listening sockets and state changes.
    State,
    /// None: who holds the socket was found afterwards.
    Inventory,
    /// The hook on datagrams that are sent.
    DatagramSent,
    /// The hook on datagrams that come.
    DatagramReceived,
    /// The hook on packets that a ping socket or a raw one sends.
    PacketSent,
    /// The hook on packets whose IP header the process writes.
    PacketWritten,
    /// The hook on packets that come to such a socket.
    PacketReceived,
}

/// A TCP connection, or a flow of datagrams, from one socket's side.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Identity in the output.
    pub id: ConnectionId,
    /// Identity in the kernel. Never printed.
    pub socket: SocketId,
    /// Above IP.
    pub protocol: Protocol,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// Who began it.
    pub direction: Direction,
    /// Who owns it: the process that connected or accepted, or sent or received first. It never changes.
    pub owner: Option<ProcessKey>,
    /// Where the owner is known from.
    pub owner_provenance: Provenance,
    /// How the owner was seen.
    pub opening: Opening,
    /// The other end's connection, where that socket is on this host too.
    pub peer: Option<ConnectionId>,
    /// When connect or accept was called, or the first datagram seen.
    pub opened_at: Option<BootTime>,
    /// Whether it was found open, rather than seen to open.
    pub existing: bool,
    /// What led its owner to connect, as far as that can be told.
    pub cause: Option<Arc<Cause>>,
    /// Whether it runs over Multipath TCP; the ends are those of its first subflow.
    pub mptcp: bool,
    /// The name by which the other end was asked for, if its owner connected.
    pub domain: Option<Domain>,
}

/// A further path that a Multipath TCP connection had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// Between which ends.
    pub endpoints: Endpoints,
    /// What it carried, unless unreadable.
    pub totals: Option<Totals>,
}

/// One output event. `process` is always the image at that moment, `None` only where unknown.
#[derive(Debug)]
pub struct Observation<'a> {
    /// When the kernel saw it.
    pub time: BootTime,
    /// What it is about.
    pub fact: Fact<'a>,
}

/// What an output event says.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A process began; its image is its parent's.
    ProcessForked(&'a Arc<Image>),
    /// A process became another program.
    ProcessExecuted(&'a Arc<Image>),
    /// A process ended.
    ProcessExited {
        /// Its last image.
        process: &'a Arc<Image>,
        /// As `wait` would tell: exit code << 8 | signal.
        status: u32,
    },
    /// An outbound connection is established.
    ConnectionOpened {
        /// Which.
        connection: &'a Connection,
        /// Owner, as it was when it connected.
        process: Option<&'a Arc<Image>>,
        /// From connect to established, in nanoseconds.
        connect_duration_ns: Option<u64>,
    },
    /// An inbound connection was handed to a process.
    ConnectionAccepted {
        /// Which.
        connection: &'a Connection,
        /// Owner, as it was when it accepted.
        process: Option<&'a Arc<Image>>,
    },
    /// An outbound attempt failed. Nothing follows about this connection.
    ConnectionFailed {
        /// Which.
        connection: &'a Connection,
        /// Owner, as it was when it connected.
        process: Option<&'a Arc<Image>>,
        /// The reason; `None` if the kernel did not let it be seen.
        errno: Option<Errno>,
        /// How it ended.
        state: ConnState,
    },
    /// A connection was found that had opened unseen: before tracing began, or missed.
    ConnectionExisting {
        /// Which.
        connection: &'a Connection,
        /// Owner, as far as it follows from who holds the socket.
        process: Option<&'a Arc<Image>>,
        /// Everyone who holds the socket.
        holders: &'a [Arc<Image>],
        /// What it has carried so far, unless unreadable.
        totals: Option<Totals>,
    },
    /// A connection ended.
    ConnectionClosed {
        /// Which.
        connection: &'a Connection,
        /// Owner, as it is at the close, or was at its exit.
        process: Option<&'a Arc<Image>>,
        /// What it carried, unless unreadable; over all subflows.
        totals: Option<Totals>,
        /// Its subflows but the first, in the order in which they ended.
        subflows: &'a [Subflow],
        /// From connect or accept to CLOSE, in nanoseconds.
        duration_ns: Option<u64>,
        /// How it ended.
        state: ConnState,
        /// The error that ended it, if one did.
        errno: Option<Errno>,
    },
    /// A socket begins to listen.
    ListenOpened {
        /// Which; the remote end is unspecified, the direction ingress.
        connection: &'a Connection,
        /// Who.
        process: Option<&'a Arc<Image>>,
        /// Everyone who holds the socket, if it was found listening; else nobody is named here.
        holders: &'a [Arc<Image>],
    },
    /// A socket ceases to listen.
    ListenClosed {
        /// Which.
        connection: &'a Connection,
        /// Who opened it, as it is now or was at its exit.
        process: Option<&'a Arc<Image>>,
    },
    /// Datagrams between a socket and a peer.
    DatagramFlow {
        /// Which.
        connection: &'a Connection,
        /// Owner, as it was with the first datagram, or later as it is or was at its exit.
        process: Option<&'a Arc<Image>>,
        /// Whether it begins or ends.
        stage: FlowStage,
        /// What it has carried so far.
        totals: FlowTotals,
        /// What of that was not told before.
        new: FlowTotals,
        /// From the first datagram to the last so far, in nanoseconds; `None` at the first.
        duration_ns: Option<u64>,
    },
    /// A process opened a socket that can see or forge traffic.
    SocketOpened {
        /// Which.
        socket: &'a RawSocket,
        /// Who.
        process: Option<&'a Arc<Image>>,
        /// What led to it, as far as that can be told.
        cause: Option<&'a Cause>,
    },
    /// A process asked for a name.
    Lookup {
        /// What, whom, and what came of it.
        lookup: &'a Lookup,
        /// Who, as it was when it asked.
        process: Option<&'a Arc<Image>>,
        /// From the question to the answer, or for how long it was waited for, in nanoseconds.
        duration_ns: u64,
    },
    /// A connection begins with a TLS handshake.
    ClientHello {
        /// What the client asks for.
        hello: &'a ClientHello,
        /// On which connection, if that is known.
        connection: Option<&'a Connection>,
        /// Its owner, as it is now or was at its exit.
        process: Option<&'a Arc<Image>>,
    },
    /// A rule matched.
    Detected {
        /// Which, and why.
        detection: &'a Detection,
        /// The contact that made it clear, if it was one.
        connection: Option<&'a Connection>,
        /// Whom it is about, as it was then.
        process: Option<&'a Arc<Image>>,
    },
    /// Something was lost.
    Lost(Loss),
}

impl<'a> Fact<'a> {
    /// Whom it is about, where that is known.
    pub fn process(&self) -> Option<&'a Arc<Image>> {
        match *self {
            Fact::ProcessForked(process)
            | Fact::ProcessExecuted(process)
            | Fact::ProcessExited { process, .. } => Some(process),
            Fact::ConnectionOpened { process, .. }
            | Fact::ConnectionAccepted { process, .. }
            | Fact::ConnectionFailed { process, .. }
            | Fact::ConnectionExisting { process, .. }
            | Fact::ConnectionClosed { process, .. }
            | Fact::ListenOpened { process, .. }
            | Fact::ListenClosed { process, .. }
            | Fact::DatagramFlow { process, .. }
            | Fact::SocketOpened { process, .. }
            | Fact::Lookup { process, .. }
            | Fact::ClientHello { process, .. }
            | Fact::Detected { process, .. } => process,
            Fact::Lost(_) => None,
        }
    }

    /// The connection or listener that it is about.
    pub fn connection(&self) -> Option<&'a Connection> {
        match *self {
            Fact::ConnectionOpened { connection, .. }
            | Fact::ConnectionAccepted { connection, .. }
            | Fact::ConnectionFailed { connection, .. }
            | Fact::ConnectionExisting { connection, .. }
            | Fact::ConnectionClosed { connection, .. }
            | Fact::ListenOpened { connection, .. }
            | Fact::ListenClosed { connection, .. }
            | Fact::DatagramFlow { connection, .. } => Some(connection),
            Fact::ClientHello { connection, .. } | Fact::Detected { connection, .. } => connection,
            Fact::ProcessForked(_)
            | Fact::ProcessExecuted(_)
            | Fact::ProcessExited { .. }
            | Fact::SocketOpened { .. }
            | Fact::Lookup { .. }
            | Fact::Lost(_) => None,
        }
    }

    /// Between which ends it happened.
    pub fn endpoints(&self) -> Option<&'a Endpoints> {
        match *self {
            Fact::Lookup { lookup, .. } => Some(&lookup.endpoints),
            Fact::ClientHello { hello, .. } => Some(&hello.endpoints),
            _ => Some(&self.connection()?.endpoints),
        }
    }
}

impl<'a> Fact<'a> {
    /// What led to it.
    pub fn cause(&self) -> Option<&'a Cause> {
        match (self, self.connection(), self.process()) {
            (&Fact::SocketOpened { cause, .. }, ..) => cause,
            (_, Some(connection), _) => connection.cause.as_deref(),
            (_, None, Some(process)) => process.cause.as_deref(),
            (_, None, None) => None,
        }
    }

    /// Everyone who holds the socket that it is about, as far as that was looked for.
    pub fn holders(&self) -> &'a [Arc<Image>] {
        match *self {
            Fact::ConnectionExisting { holders, .. } | Fact::ListenOpened { holders, .. } => {
                holders
            }
            _ => &[],
        }
    }
}

/// Where a flow of datagrams stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStage {
    /// The first datagram.
    Start,
    /// It goes on.
    Info,
    /// Its socket is closed, or it has been idle for a minute, or tracing ends.
    End,
}

/// Something that was lost, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where: `ring`, `hook`, `decode`, `table`, `sink`.
    pub stage: &'static str,
    /// What: a record kind, a hook, a sink.
    pub kind: &'static str,
    /// In what `count` counts.
    pub unit: LossUnit,
    /// How many since the last report.
    pub count: u64,
}

impl Loss {
    /// The word for a stage or kind that was recorded. There are few of them: each is kept once, for ever.
    pub fn word(text: &str) -> &'static str {
        static WORDS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
        const WORDS_MAX: usize = 1024;
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        match words.iter().find(|word| **word == text) {
            Some(word) => word,
            None if words.len() >= WORDS_MAX => "other",
            None => {
                let word: &'static str = String::leak(text.to_owned());
                words.push(word);
                word
            }
        }
    }
}

/// What is counted as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossUnit {
    /// Records of the kernel programs; how many events they would have become is not known.
    Record,
    /// Output events.
    Event,
    /// Datagrams.
    Packet,
}

/// Takes observations, in order. It must not block. One that hands them on to another hands on every call.
pub trait Sink {
    /// What follows was recorded there: on another host, in another boot, or more is known of these. Of what
    /// happens now a sink knows that from its beginning, and is never told.
    fn begin(&mut self, _about: &Arc<About>) {}
    /// One observation.
    fn observe(&mut self, observation: &Observation<'_>);
    /// A batch is over: hand on what was collected.
    fn flush(&mut self);
    /// Whether it would take some hundred observations more without losing one. What can wait, waits.
    fn has_room(&self) -> bool {
        true
    }
}
