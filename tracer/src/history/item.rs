//! What the history keeps of an observation: the same, owned, for another thread.
//!
//! In: observations, borrowed; or rows. Out: items, and from these the same observations again. Everything
//! large in them is shared, so that an item costs the state task no more than some counting.

use std::sync::Arc;

use crate::detect::Detection;
use crate::dns::Lookup;
use crate::event::{BootTime, Errno, FlowTotals, RawSocket, Totals};
use crate::observation::{
    ConnState, Connection, Direction, Fact, FlowStage, Loss, Observation, Subflow,
};
use crate::process::cause::Cause;
use crate::process::image::Image;
use crate::tls::ClientHello;

/// An observation that is to be kept.
#[derive(Debug)]
pub struct Item {
    /// When the kernel saw it.
    pub time: BootTime,
    /// Whom it is about, where that is known.
    pub process: Option<Arc<Image>>,
    /// What happened.
    pub what: What,
    /// When that was over, and how a process ended, where a file of the history tells.
    pub over: Option<(BootTime, Option<u32>)>,
    /// What the history has no columns for, where a recording tells it.
    pub beyond: Option<Box<Beyond>>,
}

/// What of an observation only a recording of it tells.
#[derive(Debug, Default)]
pub struct Beyond {
    /// Everyone who holds the socket.
    pub holders: Vec<Arc<Image>>,
    /// What a connection that was found open had carried.
    pub totals: Option<Totals>,
    /// From connect to established, in nanoseconds.
    pub connect_duration_ns: Option<u64>,
    /// Of a flow, what was not told before, and for how long it had lasted, in nanoseconds.
    pub flow: Option<(FlowTotals, Option<u64>)>,
    /// What led to a raw socket.
    pub cause: Option<Arc<Cause>>,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// A process began. Not kept: who forked whom stands in the lineage of whoever does anything.
    Forked,
    /// A process became another program.
    Executed,
    /// A process ended.
    Exited {
        /// As `wait` would tell.
        status: u32,
    },
    /// A connection has opened, was accepted, or was found open.
    Opened(Connection),
    /// A connection has ended, or could not be opened.
    Ended(Connection, Box<End>),
    /// A socket begins to listen.
    ListenOpened(Connection),
    /// A socket ceases to listen.
    ListenClosed(Connection),
    /// Datagrams between a socket and a peer.
    Flow(Connection, FlowStage, FlowTotals),
    /// A process opened a socket that can see or forge traffic.
    SocketOpened(RawSocket),
    /// A process asked for a name; and how long the answer took, in nanoseconds.
    Lookup(Box<Lookup>, u64),
    /// A connection begins with a TLS handshake. Not kept, but as the name of its connection.
    Hello(Box<(ClientHello, Option<Connection>)>),
    /// A rule matched, and the contact that made it clear, if it was one.
    Detected(Box<(Detection, Option<Connection>)>),
    /// Something was lost.
    Lost(Loss),
}

/// How a connection ended.
#[derive(Debug)]
pub struct End {
    /// No connection came of it.
    pub failed: bool,
    /// What it carried, unless unreadable.
    pub totals: Option<Totals>,
    /// Its subflows but the first.
    pub subflows: Vec<Subflow>,
    /// How it ended.
    pub state: ConnState,
    /// The error that ended it, if one did.
    pub errno: Option<Errno>,
}

impl Item {
    /// What is kept of an observation.
    pub(super) fn of(observation: &Observation<'_>) -> Option<Self> {
        let what = match observation.fact {
            Fact::ProcessForked(_) | Fact::ClientHello { .. } => return None,
            Fact::Detected {
                detection,
                connection,
                ..
            } => What::Detected(Box::new((detection.clone(), connection.cloned()))),
            Fact::ProcessExecuted(_) => What::Executed,
            Fact::ProcessExited { status, .. } => What::Exited { status },
            Fact::ConnectionOpened { connection, .. }
            | Fact::ConnectionAccepted { connection, .. }
            | Fact::ConnectionExisting { connection, .. } => What::Opened(connection.clone()),
            Fact::ConnectionFailed {
                connection,
                errno,
                state,
                ..
            } => {
                let end = End {
                    failed: true,
                    totals: None,
                    subflows: Vec::new(),
                    state,
                    errno,
                };
                What::Ended(connection.clone(), Box::new(end))
            }
            Fact::ConnectionClosed {
                connection,
                totals,
                subflows,
                state,
                errno,
                ..
            } => {
                let end = End {
                    failed: false,
                    totals,
                    subflows: subflows.to_vec(),
                    state,
                    errno,
                };
                What::Ended(connection.clone(), Box::new(end))
            }
            Fact::ListenOpened { connection, .. } => What::ListenOpened(connection.clone()),
            Fact::ListenClosed { connection, .. } => What::ListenClosed(connection.clone()),
            Fact::DatagramFlow {
                connection,
                stage,
                totals,
                ..
            } => What::Flow(connection.clone(), stage, totals),
            Fact::SocketOpened { socket, .. } => What::SocketOpened(*socket),
            Fact::Lookup {
                lookup,
                duration_ns,
                ..
            } => What::Lookup(Box::new(lookup.clone()), duration_ns),
            Fact::Lost(loss) => What::Lost(loss),
        };
        Some(Self {
            time: observation.time,
            process: observation.fact.process().cloned(),
            what,
            over: None,
            beyond: None,
        })
    }

    /// The observation that it was. `None` if that was about a process that is not known any more.
    pub fn observation(&self) -> Option<Observation<'_>> {
        Some(Observation {
            time: self.time,
            fact: self.fact()?,
        })
    }

    fn fact(&self) -> Option<Fact<'_>> {
        let process = self.process.as_ref();
        let time = self.time;
        let beyond = self.beyond.as_deref();
        let holders = beyond.map_or(&[][..], |beyond| &beyond.holders);
        let fact = match &self.what {
            What::Forked => Fact::ProcessForked(process?),
            What::Executed => Fact::ProcessExecuted(process?),
            &What::Exited { status } => Fact::ProcessExited {
                process: process?,
                status,
            },
            What::Opened(connection) if connection.existing => Fact::ConnectionExisting {
                connection,
                process,
                holders,
                totals: beyond.and_then(|beyond| beyond.totals),
            },
            What::Opened(connection) if connection.direction == Direction::Ingress => {
                Fact::ConnectionAccepted {
                    connection,
                    process,
                }
            }
            What::Opened(connection) => Fact::ConnectionOpened {
                connection,
                process,
                connect_duration_ns: beyond.and_then(|beyond| beyond.connect_duration_ns),
            },
            What::Ended(connection, end) if end.failed => Fact::ConnectionFailed {
                connection,
                process,
                errno: end.errno,
                state: end.state,
            },
            What::Ended(connection, end) => Fact::ConnectionClosed {
                connection,
                process,
                totals: end.totals,
                subflows: &end.subflows,
                duration_ns: connection.opened_at.map(|opened| time.since(opened)),
                state: end.state,
                errno: end.errno,
            },
            What::ListenOpened(connection) => Fact::ListenOpened {
                connection,
                process,
                holders,
            },
            What::ListenClosed(connection) => Fact::ListenClosed {
                connection,
                process,
            },
            &What::Flow(ref connection, stage, totals) => {
                let lasted = || totals.last.0.saturating_sub(connection.id.first_seen_ns);
                let told = beyond.and_then(|beyond| beyond.flow);
                let (new, duration_ns) =
                    told.unwrap_or((totals, (stage != FlowStage::Start).then(lasted)));
                Fact::DatagramFlow {
                    connection,
                    process,
                    stage,
                    totals,
                    new,
                    duration_ns,
                }
            }
            What::SocketOpened(socket) => Fact::SocketOpened {
                socket,
                process,
                cause: match beyond {
                    Some(beyond) => beyond.cause.as_deref(),
                    None => process.and_then(|process| process.cause.as_deref()),
                },
            },
            &What::Lookup(ref lookup, duration_ns) => Fact::Lookup {
                lookup,
                process,
                duration_ns,
            },
            What::Hello(told) => {
                let (hello, connection) = &**told;
                Fact::ClientHello {
                    hello,
                    connection: connection.as_ref(),
                    process,
                }
            }
            What::Detected(told) => {
                let (detection, connection) = &**told;
                Fact::Detected {
                    detection,
                    connection: connection.as_ref(),
                    process,
                }
            }
            &What::Lost(loss) => Fact::Lost(loss),
        };
        Some(fact)
    }
}
