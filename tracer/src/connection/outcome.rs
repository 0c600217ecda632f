//! How a connection ended, in Zeek's letters.
//!
//! In: the state that a socket left, its error, and whether this host sent a reset. Out: a
//! [`ConnState`], as far as this socket can tell.

use rustix::io;

use super::entry::End;
use crate::event::{Errno, TcpState};
use crate::observation::{ConnState, Direction};

pub(super) const ECANCELED: Errno = errno(io::Errno::CANCELED);
pub(super) const EINPROGRESS: Errno = errno(io::Errno::INPROGRESS);
const ECONNREFUSED: Errno = errno(io::Errno::CONNREFUSED);
const ECONNRESET: Errno = errno(io::Errno::CONNRESET);
const ECONNABORTED: Errno = errno(io::Errno::CONNABORTED);
const EPIPE: Errno = errno(io::Errno::PIPE);

const fn errno(errno: io::Errno) -> Errno {
    Errno(errno.raw_os_error().unsigned_abs())
}

/// An attempt that never became a connection.
pub(super) fn failed(errno: Option<Errno>) -> ConnState {
    if errno == Some(ECONNREFUSED) {
        ConnState::REJ
    } else {
        ConnState::S0
    }
}

/// A connection that was established.
pub(super) fn closed(direction: Direction, end: &End, reset_sent: bool) -> ConnState {
    use TcpState::{
        CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, TimeWait,
    };
    match end.errno {
        Some(ECONNRESET | EPIPE | ECONNREFUSED) if reset_sent => reset_here(direction),
        Some(ECONNRESET | EPIPE | ECONNREFUSED) => reset_there(direction),
        Some(ECONNABORTED) => reset_here(direction),
        // Timed out, or the network gave up; a reset that goes out then says no more than that.
        Some(_) => ConnState::S1,
        None if reset_sent => reset_here(direction),
        None => match end.old_state {
            FinWait2 | LastAck | Closing | TimeWait => ConnState::SF,
            // Closed with data unread, without lingering, or disconnected.
            Established | CloseWait | SynReceived | FinWait1 => reset_here(direction),
            _ => ConnState::OTH,
        },
    }
}

/// Whether a reset that this host sends for a close may be reported after the close: the socket's
/// own process had closed it or shut it down before.
pub(super) fn reset_may_follow(end: &End) -> bool {
    matches!(end.old_state, TcpState::FinWait1 | TcpState::FinWait2)
}

fn reset_here(direction: Direction) -> ConnState {
    match direction {
        Direction::Egress => ConnState::RSTO,
        Direction::Ingress => ConnState::RSTR,
        Direction::Unknown => ConnState::OTH,
    }
}

fn reset_there(direction: Direction) -> ConnState {
    match direction {
        Direction::Egress => ConnState::RSTR,
        Direction::Ingress => ConnState::RSTO,
        Direction::Unknown => ConnState::OTH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Egress, Ingress, Unknown};

    const ETIMEDOUT: Errno = errno(io::Errno::TIMEDOUT);

    fn from(old_state: TcpState, errno: Option<Errno>) -> End {
        End {
            old_state,
            errno,
            totals: None,
        }
    }

    #[test]
    fn refused_is_rej_and_any_other_failure_s0() {
        assert_eq!(failed(Some(ECONNREFUSED)), ConnState::REJ);
        assert_eq!(failed(Some(ETIMEDOUT)), ConnState::S0);
        assert_eq!(failed(None), ConnState::S0);
    }

    #[test]
    fn in_order_is_sf_whoever_began() {
        for state in [
            TcpState::FinWait2,
            TcpState::LastAck,
            TcpState::Closing,
            TcpState::TimeWait,
        ] {
            for direction in [Egress, Ingress, Unknown] {
                assert_eq!(closed(direction, &from(state, None), false), ConnState::SF);
            }
        }
    }

    #[test]
    fn reset_by_the_peer_is_named_for_the_peers_part() {
        for errno in [ECONNRESET, EPIPE, ECONNREFUSED] {
            let end = from(TcpState::Established, Some(errno));
            assert_eq!(closed(Egress, &end, false), ConnState::RSTR);
            assert_eq!(closed(Ingress, &end, false), ConnState::RSTO);
            assert_eq!(closed(Unknown, &end, false), ConnState::OTH);
        }
    }

    #[test]
    fn reset_from_here_is_named_for_this_sockets_part() {
        let aborted = from(TcpState::Established, Some(ECONNABORTED));
        let unread = from(TcpState::CloseWait, None);
        for end in [aborted, unread] {
            assert_eq!(closed(Egress, &end, false), ConnState::RSTO);
            assert_eq!(closed(Ingress, &end, false), ConnState::RSTR);
            assert_eq!(closed(Unknown, &end, false), ConnState::OTH);
        }
    }

    #[test]
    fn reset_that_was_sent_makes_an_orderly_close_a_reset() {
        assert_eq!(
            closed(Egress, &from(TcpState::FinWait2, None), true),
            ConnState::RSTO
        );
        let by_late_data = from(TcpState::FinWait2, Some(ECONNRESET));
        assert_eq!(closed(Ingress, &by_late_data, true), ConnState::RSTR);
    }

    #[test]
    fn timed_out_connection_was_open() {
        for reset_sent in [false, true] {
            let end = from(TcpState::Established, Some(ETIMEDOUT));
            assert_eq!(closed(Egress, &end, reset_sent), ConnState::S1);
        }
    }
}
