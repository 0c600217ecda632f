//! What led to a process or a connection: the connection that somebody in its lineage was serving.
//!
//! A process serves a connection from accept to close. Whoever it forks meanwhile, and whatever it connects
//! to meanwhile, may have come of that. No hook sees why, so a cause is never more than likely, and says from
//! among how many it was chosen.

use std::net::SocketAddr;
use std::sync::Arc;

use super::image::Brief;
use crate::observation::ConnectionId;

/// Longest chain of causes: what lies further out is left out.
pub(crate) const LINKS_MAX: u8 = 8;

/// How sure it is that this connection is the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It was the only one that the process was serving, or had accepted since it forked the last time.
    Likely,
    /// It was the latest of several.
    Possible,
}

/// An accepted connection that was being served, and what had led to that one.
#[derive(Debug)]
pub struct Cause {
    /// Which connection, by its accepting end.
    pub connection: ConnectionId,
    /// From where it came.
    pub peer: SocketAddr,
    /// Who accepted it, as it was then.
    pub server: Brief,
    /// How sure it is.
    pub certainty: Certainty,
    /// How many connections the process was serving.
    pub candidates: u32,
    /// What led to the connection itself, if that began on this host.
    pub before: Option<Arc<Cause>>,
    /// How many there are with those before.
    links: u8,
}

impl Cause {
    /// One more link. If the chain before is as long as it may be, it is left out.
    pub fn new(
        connection: ConnectionId,
        peer: SocketAddr,
        server: Brief,
        (certainty, candidates): (Certainty, u32),
        before: Option<Arc<Cause>>,
    ) -> Self {
        let before = before.filter(|before| before.links < LINKS_MAX);
        Self {
            connection,
            peer,
            server,
            certainty,
            candidates,
            links: 1 + before.as_ref().map_or(0, |before| before.links),
            before,
        }
    }

    /// This contact, then what led to it, up to the outermost.
    pub fn outwards(&self) -> impl Iterator<Item = &Cause> {
        std::iter::successors(Some(self), |cause| cause.before.as_deref())
    }
}
