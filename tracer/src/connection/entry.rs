//! What the table remembers of one socket.

use std::sync::Arc;

use super::endpoints::Ends;
use super::serving::Place;
use crate::arena::Arena;
use crate::event::{BootTime, Close, Errno, Protocol, SocketId, TcpState, Totals};
use crate::observation::{Connection, ConnectionId, Direction, Opening};
use crate::process::cause::Cause;
use crate::process::image::{Image, Provenance};
use crate::process::table::{ProcessId, ProcessTable};

/// Entries that last until a record ends them.
pub(super) const LASTING: usize = 0;
/// Closed; a reset may follow.
pub(super) const ENDING: usize = 1;
/// In a state that the next record, if it comes soon, explains.
pub(super) const WAITING: usize = 2;

/// Over and reported, but the other end may still be looking for it.
pub(super) const ENDED: usize = 3;
/// Asked for; the beginning should follow.
pub(super) const ASKED: usize = 4;

/// Every entry, in one of the lists above.
pub(super) type Entries = Arena<Entry, 5>;

/// How long an entry stays in [`ENDING`]: the kernel sends a reset at once or not at all.
pub(super) const ENDING_NS: u64 = 2_000_000;
/// How long an entry stays in [`WAITING`]: what explains it comes before the system call returns.
pub(super) const WAITING_NS: u64 = 50_000_000;

/// How long an entry stays in [`ASKED`]: whoever asks can be preempted before it begins, and a failure that
/// was told is final.
pub(super) const ASKED_NS: u64 = 1_000_000_000;

/// A socket's part in the life of a connection or a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// A process asked for a connection; whether it begins will be seen.
    Attempted {
        /// Which thread asked.
        thread: u32,
    },
    /// An outbound connection begins.
    Connecting {
        /// Which thread connects.
        thread: u32,
    },
    /// Established from outside, and waiting to be accepted.
    Unaccepted,
    /// Reported as opened or accepted.
    Open,
    /// A listener.
    Listening,
    /// An attempt ended without an error on the socket: given up, unless the system call says more.
    Cancelled {
        /// Which thread connected; `None` if that was not seen.
        thread: Option<u32>,
    },
    /// Closed, and to be reported so; a reset may follow.
    Ending(End),
    /// Reported as failed; hooks on several functions may report the same failure again.
    Failed(Echo),
    /// Was a listener: connections that it had not accepted end after it.
    Unlistened,
    /// Nothing but the other end of another connection.
    Ended,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) old_state: TcpState,
    pub(super) errno: Option<Errno>,
    pub(super) totals: Option<Totals>,
}

impl From<&Close> for End {
    fn from(close: &Close) -> Self {
        let &Close {
            old_state,
            errno,
            totals,
            ..
        } = close;
        End {
            old_state,
            errno,
            totals,
        }
    }
}

/// Repetitions of a failure that are not failures of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    /// From which thread; `None` if from any.
    pub(super) thread: Option<u32>,
    /// With which error; `None` if with any.
    pub(super) errno: Option<Errno>,
    /// How many can come.
    pub(super) left: u8,
}

impl Phase {
    /// The list in which an entry in this phase belongs.
    pub(super) fn list(&self) -> usize {
        match self {
            Phase::Connecting { .. } | Phase::Unaccepted | Phase::Open | Phase::Listening => {
                LASTING
            }
            Phase::Ending(_) => ENDING,
            Phase::Attempted { .. } => ASKED,
            Phase::Cancelled { .. } | Phase::Failed(_) | Phase::Unlistened => WAITING,
            Phase::Ended => ENDED,
        }
    }

    /// Whether a socket in this phase can leave `old_state` for CLOSE.
    pub(super) fn can_leave(&self, old_state: TcpState) -> bool {
        match self {
            Phase::Attempted { .. } | Phase::Connecting { .. } => old_state != TcpState::Listen,
            Phase::Unaccepted | Phase::Open => {
                !matches!(old_state, TcpState::SynSent | TcpState::Listen)
            }
            Phase::Listening => old_state == TcpState::Listen,
            Phase::Cancelled { .. }
            | Phase::Ending(_)
            | Phase::Failed(_)
            | Phase::Unlistened
            | Phase::Ended => false,
        }
    }
}

/// The process that owns a connection or a listener.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) process: ProcessId,
    /// The process as it was when it became the owner.
    pub(super) at_open: Arc<Image>,
}

impl Owner {
    /// Makes a process the owner, so that the process table keeps it.
    pub(super) fn take(processes: &mut ProcessTable, process: ProcessId) -> Option<Owner> {
        let at_open = Arc::clone(processes.image(process)?);
        processes.hold(process);
        Some(Owner { process, at_open })
    }

    /// Makes the owner of a listener that of a connection, too.
    pub(super) fn share(&self, processes: &mut ProcessTable) -> Owner {
        processes.hold(self.process);
        Owner {
            process: self.process,
            at_open: Arc::clone(self.now(processes)),
        }
    }

    /// It owns nothing here any more.
    pub(super) fn release(self, processes: &mut ProcessTable) {
        processes.release(self.process);
        processes.retire(self.at_open);
    }

    /// The process as it is now or was at its exit.
    pub(super) fn now<'a>(&'a self, processes: &'a ProcessTable) -> &'a Arc<Image> {
        processes.image(self.process).unwrap_or(&self.at_open)
    }
}

/// A socket, from the moment in which it gets a part until it has none.
#[derive(Debug)]
pub(super) struct Entry {
    /// Identity in the output.
    pub(super) id: ConnectionId,
    /// Identity in the kernel.
    pub(super) socket: SocketId,
    /// Between which ends.
    pub(super) ends: Ends,
    /// Whether the other end finds it by them.
    pub(super) is_findable: bool,
    /// Who began it.
    pub(super) direction: Direction,
    /// Where the owner is known from.
    pub(super) owner_provenance: Provenance,
    /// How the owner was seen.
    pub(super) opening: Opening,
    /// This host sent a reset for it.
    pub(super) reset_sent: bool,
    /// It was found, rather than seen to begin.
    pub(super) existing: bool,
    /// It runs over Multipath TCP; the ends are those of the first subflow, and `socket` is one that lives.
    pub(super) mptcp: bool,
    pub(super) owner: Option<Owner>,
    /// What led its owner to connect, if that is not what led to the owner itself.
    pub(super) cause: Option<Arc<Cause>>,
    /// Where it stands among the connections that its owner is serving.
    pub(super) place: Place,
    /// The other end's connection, where that socket is on this host too; of no connection, time 0.
    pub(super) raw_peer: ConnectionId,
    /// When connect or accept was called; 0 if that was not seen.
    pub(super) raw_opened_at: BootTime,
    pub(super) phase: Phase,
    /// When it entered the phase.
    pub(super) since: BootTime,
}

impl Entry {
    /// Of which nothing is known but its ends.
    pub(super) fn new(
        id: ConnectionId,
        socket: SocketId,
        ends: Ends,
        phase: Phase,
        since: BootTime,
    ) -> Self {
        Self {
            id,
            socket,
            ends,
            is_findable: false,
            direction: Direction::Unknown,
            owner_provenance: Provenance::Unknown,
            opening: Opening::State,
            reset_sent: false,
            existing: false,
            mptcp: false,
            owner: None,
            cause: None,
            place: Place::NOWHERE,
            raw_peer: ConnectionId {
                first_seen_ns: 0,
                serial: 0,
            },
            raw_opened_at: BootTime::default(),
            phase,
            since,
        }
    }

    /// The same, seen to be opened.
    pub(super) fn opened(self, at: BootTime) -> Self {
        Self {
            raw_opened_at: at,
            ..self
        }
    }

    /// When connect or accept was called, if that was seen.
    pub(super) fn opened_at(&self) -> Option<BootTime> {
        Some(self.raw_opened_at).filter(|at| at.0 != 0)
    }

    /// Connect or accept is called.
    pub(super) fn set_opened_at(&mut self, at: BootTime) {
        self.raw_opened_at = at;
    }

    /// The other end's connection, where that socket is on this host, too.
    pub(super) fn peer(&self) -> Option<ConnectionId> {
        Some(self.raw_peer).filter(|peer| peer.first_seen_ns != 0)
    }

    /// The other end is this one.
    pub(super) fn set_peer(&mut self, peer: ConnectionId) {
        self.raw_peer = peer;
    }

    /// What led to it.
    pub(super) fn cause(&self) -> Option<&Arc<Cause>> {
        if self.direction != Direction::Egress {
            return None;
        }
        let of_owner = || self.owner.as_ref()?.at_open.cause.as_ref();
        self.cause.as_ref().or_else(of_owner)
    }

    /// The connection, as the sinks see it.
    pub(super) fn connection(&self) -> Connection {
        Connection {
            id: self.id,
            socket: self.socket,
            protocol: Protocol::TCP,
            endpoints: (&self.ends).into(),
            direction: self.direction,
            owner: self.owner.as_ref().map(|owner| owner.at_open.key),
            owner_provenance: self.owner_provenance,
            opening: self.opening,
            peer: self.peer(),
            opened_at: self.opened_at(),
            cause: self.cause().cloned(),
            existing: self.existing,
            mptcp: self.mptcp,
            domain: None,
        }
    }

    /// The owner as it was when it became the owner.
    pub(super) fn process_at_open(&self) -> Option<&Arc<Image>> {
        self.owner.as_ref().map(|owner| &owner.at_open)
    }

    /// The owner as it is now or was at its exit.
    pub(super) fn process_now<'a>(&'a self, processes: &'a ProcessTable) -> Option<&'a Arc<Image>> {
        self.owner.as_ref().map(|owner| owner.now(processes))
    }
}
