//! What the history keeps of an observation: the same, owned, for another thread.
//!
//! In: observations, borrowed; or rows. Out: items, and from these the same observations again. Everything
//! large in them is shared, so that an item costs the state task no more than some counting.

use std::sync::Arc;

use crate::dns::Lookup;
use crate::event::{BootTime, Errno, FlowTotals, RawSocket, Totals};
use crate::observation::{
    ConnState, Connection, Direction, Fact, FlowStage, Loss, Observation, Subflow,
};
use crate::process::image::Image;

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
}

/// What happened.
#[derive(Debug)]
pub enum What {
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
    /// What is kept of an observation. Of a fork nothing is: who forked whom stands in the lineage of
    /// whoever does anything. Nor is what a TLS client asks for, but as the name of its connection.
    pub(super) fn of(observation: &Observation<'_>) -> Option<Self> {
        let what = match observation.fact {
            Fact::ProcessForked(_) | Fact::ClientHello { .. } => return None,
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
        let fact = match &self.what {
            What::Executed => Fact::ProcessExecuted(process?),
            &What::Exited { status } => Fact::ProcessExited {
                process: process?,
                status,
            },
            What::Opened(connection) if connection.existing => Fact::ConnectionExisting {
                connection,
                process,
                holders: &[],
                totals: None,
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
                connect_duration_ns: None,
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
                holders: &[],
            },
            What::ListenClosed(connection) => Fact::ListenClosed {
                connection,
                process,
            },
            &What::Flow(ref connection, stage, totals) => Fact::DatagramFlow {
                connection,
                process,
                stage,
                totals,
                new: totals,
                duration_ns: (stage != FlowStage::Start)
                    .then(|| totals.last.0.saturating_sub(connection.id.first_seen_ns)),
            },
            What::SocketOpened(socket) => Fact::SocketOpened {
                socket,
                process,
                cause: process.and_then(|process| process.cause.as_deref()),
            },
            &What::Lookup(ref lookup, duration_ns) => Fact::Lookup {
                lookup,
                process,
                duration_ns,
            },
            &What::Lost(loss) => Fact::Lost(loss),
        };
        Some(fact)
    }
}
