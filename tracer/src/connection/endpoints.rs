//! What two records say of the ends of one socket.
//!
//! The kernel fills in an unbound end late and clears the ends of a closed socket early. In: ends
//! that may lack an address or a port. Out: whether they can be of one connection, and what they
//! say together.

use std::net::{IpAddr, SocketAddr};

use crate::event::Endpoints;

impl Endpoints {
    /// Whether nothing in `other` contradicts these.
    pub(super) fn agree_with(&self, other: &Endpoints) -> bool {
        (self.netns == other.netns || self.netns == 0 || other.netns == 0)
            && end_agrees(self.local, other.local)
            && end_agrees(self.remote, other.remote)
    }

    /// These, with what they lack taken from `other`.
    pub(super) fn completed_by(&self, other: &Endpoints) -> Endpoints {
        Endpoints {
            netns: if self.netns == 0 {
                other.netns
            } else {
                self.netns
            },
            local: completed(self.local, other.local),
            remote: completed(self.remote, other.remote),
            ipv6_socket: self.ipv6_socket,
        }
    }

    /// Whether both ends have a port.
    pub(super) fn are_complete(&self) -> bool {
        self.local.port() != 0 && self.remote.port() != 0
    }

    /// Whether the socket is an IPv6 one that speaks IPv4.
    pub(super) fn are_mapped(&self) -> bool {
        self.ipv6_socket && self.is_ipv4()
    }
}

fn end_agrees(one: SocketAddr, other: SocketAddr) -> bool {
    let ports = one.port() == other.port() || one.port() == 0 || other.port() == 0;
    let unset = |ip: IpAddr| ip.is_unspecified();
    ports && (one.ip() == other.ip() || unset(one.ip()) || unset(other.ip()))
}

fn completed(end: SocketAddr, other: SocketAddr) -> SocketAddr {
    let ip = if end.ip().is_unspecified() {
        other.ip()
    } else {
        end.ip()
    };
    SocketAddr::new(
        ip,
        if end.port() == 0 {
            other.port()
        } else {
            end.port()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(netns: u32, local: &str, remote: &str) -> Endpoints {
        let [local, remote] = [local, remote].map(|end| end.parse().unwrap());
        Endpoints {
            netns,
            local,
            remote,
            ipv6_socket: false,
        }
    }

    #[test]
    fn cleared_ends_contradict_nothing() {
        let open = ends(1, "10.0.0.1:4000", "10.0.0.2:80");
        assert!(open.agree_with(&open));
        assert!(open.agree_with(&ends(0, "0.0.0.0:0", "[::]:0")));
        assert!(ends(1, "0.0.0.0:0", "10.0.0.2:80").agree_with(&open));
    }

    #[test]
    fn each_difference_is_a_contradiction() {
        let open = ends(1, "10.0.0.1:4000", "10.0.0.2:80");
        assert!(!open.agree_with(&ends(2, "10.0.0.1:4000", "10.0.0.2:80")));
        assert!(!open.agree_with(&ends(1, "10.0.0.3:4000", "10.0.0.2:80")));
        assert!(!open.agree_with(&ends(1, "0.0.0.0:4001", "0.0.0.0:0")));
        assert!(!open.agree_with(&ends(1, "0.0.0.0:0", "0.0.0.0:81")));
    }

    #[test]
    fn what_is_missing_comes_from_the_other() {
        let open = ends(1, "10.0.0.1:4000", "10.0.0.2:80");
        assert_eq!(ends(0, "0.0.0.0:0", "[::]:0").completed_by(&open), open);
        assert_eq!(open.completed_by(&ends(2, "1.1.1.1:1", "2.2.2.2:2")), open);
    }
}
