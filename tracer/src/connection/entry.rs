//! What the table remembers of one socket.

use std::sync::Arc;

use crate::event::{BootTime, Close, Errno, TcpState, Totals};
use crate::observation::Connection;
use crate::process::image::Image;
use crate::process::table::{ProcessId, ProcessTable};

/// Entries that last until a record ends them.
pub(super) const LASTING: usize = 0;
/// Closed; a reset may follow.
pub(super) const ENDING: usize = 1;
/// In a state that the next record, if it comes soon, explains.
pub(super) const WAITING: usize = 2;

/// How long an entry stays in [`ENDING`]: the kernel sends a reset at once or not at all.
pub(super) const ENDING_NS: u64 = 2_000_000;
/// How long an entry stays in [`WAITING`]: what explains it comes before the system call returns.
pub(super) const WAITING_NS: u64 = 50_000_000;

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
            Phase::Attempted { .. }
            | Phase::Cancelled { .. }
            | Phase::Failed(_)
            | Phase::Unlistened => WAITING,
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
            Phase::Cancelled { .. } | Phase::Ending(_) | Phase::Failed(_) | Phase::Unlistened => {
                false
            }
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

    /// The process as it is now or was at its exit.
    pub(super) fn now<'a>(&'a self, processes: &'a ProcessTable) -> &'a Arc<Image> {
        processes.image(self.process).unwrap_or(&self.at_open)
    }
}

/// A socket, from the moment in which it gets a part until it has none.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) connection: Connection,
    pub(super) owner: Option<Owner>,
    pub(super) phase: Phase,
    /// When it entered the phase.
    pub(super) since: BootTime,
    /// This host sent a reset for it.
    pub(super) reset_sent: bool,
}

impl Entry {
    /// The owner as it was when it became the owner.
    pub(super) fn process_at_open(&self) -> Option<&Arc<Image>> {
        self.owner.as_ref().map(|owner| &owner.at_open)
    }

    /// The owner as it is now or was at its exit.
    pub(super) fn process_now<'a>(&'a self, processes: &'a ProcessTable) -> Option<&'a Arc<Image>> {
        self.owner.as_ref().map(|owner| owner.now(processes))
    }
}
