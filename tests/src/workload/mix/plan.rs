//! What is done with each connection of a mix: a number in, its address, its pattern and its bytes out.

use std::net::{IpAddr, Ipv4Addr};

/// The address of number 0: in a part of the loopback network that nothing else uses.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);

/// How a server takes connections: with one thread that asks for the peer's address, with one that
/// does not, with two threads, with forked workers, through io_uring.
pub const SERVERS: [&str; 5] = ["naming", "plain", "threads", "workers", "ring"];

/// What the initiator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Connects, exchanges bytes, closes.
    Plain,
    /// The same without waiting in connect.
    Later,
    /// The same through io_uring, where there is any.
    Ring,
    /// The same from an IPv6 socket.
    Mapped,
    /// Leaves the end to another process, by SCM_RIGHTS.
    Passed,
    /// Leaves the end to a child.
    Forked,
    /// Resets the connection after the exchange.
    Aborted,
    /// Is refused.
    Refused,
    /// Is refused by a connect that does not wait.
    RefusedLater,
    /// Gives up before there is an answer.
    Cancelled,
    /// Resets a connection that nobody has accepted.
    NeverAccepted,
    /// Resets a connection of which the acceptor's side is half open.
    HalfOpen,
}

impl Pattern {
    /// That of connection `index`. `choice` is `all`, or `ends` for those that end early.
    pub fn of(index: u32, choice: &str) -> Pattern {
        // Every second connection is made by a process with a single thread.
        let (alone, place) = (index.is_multiple_of(2), index / 2);
        if choice == "ends" {
            return match place % 8 {
                0 | 1 => Pattern::Refused,
                2 => Pattern::RefusedLater,
                3 => Pattern::Cancelled,
                4 | 5 => Pattern::HalfOpen,
                _ => Pattern::Plain,
            };
        }
        match place % 64 {
            0..=3 => Pattern::Refused,
            4..=7 => Pattern::RefusedLater,
            8..=15 => Pattern::Later,
            16..=19 => Pattern::Mapped,
            20 | 21 => Pattern::Aborted,
            22 => Pattern::Cancelled,
            23 => Pattern::HalfOpen,
            // They stay in the listener's queue, which is short.
            24 if (place / 64).is_multiple_of(16) => Pattern::NeverAccepted,
            25..=32 if alone => Pattern::Ring,
            33..=40 if alone => Pattern::Passed,
            41 if alone => Pattern::Forked,
            _ => Pattern::Plain,
        }
    }

    /// Whether the connection is established, as its initiator sees it.
    pub fn opens(self) -> bool {
        !matches!(
            self,
            Pattern::Refused | Pattern::RefusedLater | Pattern::Cancelled
        )
    }

    /// Whether a server accepts it.
    pub fn is_accepted(self) -> bool {
        self.opens() && !matches!(self, Pattern::NeverAccepted | Pattern::HalfOpen)
    }

    /// Whether the initiator ends it by a reset.
    pub fn resets(self) -> bool {
        matches!(
            self,
            Pattern::Aborted | Pattern::NeverAccepted | Pattern::HalfOpen
        )
    }
}

/// Which of [`SERVERS`] connection `index` goes to.
pub fn server(index: u32) -> usize {
    (index / 3) as usize % SERVERS.len()
}

/// Bytes from the initiator to the acceptor.
pub fn up(index: u32) -> usize {
    1 + index as usize % 300
}

/// Bytes back; never none, so that whoever has read them knows that there is an acceptor.
pub fn down(index: u32) -> usize {
    1 + index as usize * 7 % 500
}

/// Whether the acceptor closes first. Whoever leaves the end to someone else does not wait for it.
pub fn acceptor_closes_first(index: u32, pattern: Pattern) -> bool {
    match pattern {
        Pattern::Passed | Pattern::Forked => true,
        Pattern::Aborted => false,
        _ => (index / 4).is_multiple_of(2),
    }
}

/// Where connection `index` goes.
pub fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + index)
}

/// The number of the connection that goes to `address`.
pub fn index_of(address: IpAddr) -> Option<u32> {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_loopback() => {
            address.to_bits().checked_sub(FIRST.to_bits())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_addresses() {
        for index in [0, 1, 255, 256, 10_000_000] {
            assert_eq!(index_of(address(index).into()), Some(index));
            let mapped = address(index).to_ipv6_mapped();
            assert_eq!(index_of(mapped.into()), Some(index));
        }
        assert_eq!(index_of(Ipv4Addr::LOCALHOST.into()), None);
        assert_eq!(index_of(Ipv4Addr::new(128, 0, 0, 0).into()), None);
    }

    #[test]
    fn a_small_mix_has_every_pattern() {
        let patterns: Vec<_> = (0..256).map(|index| Pattern::of(index, "all")).collect();
        for pattern in [
            Pattern::Plain,
            Pattern::Ring,
            Pattern::Passed,
            Pattern::Forked,
            Pattern::NeverAccepted,
            Pattern::HalfOpen,
            Pattern::Cancelled,
        ] {
            assert!(patterns.contains(&pattern), "{pattern:?}");
        }
    }
}
