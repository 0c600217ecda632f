//! What two records say of the ends of one socket.
//!
//! The kernel fills in an unbound end late and clears the ends of a closed socket early. In: ends
//! that may lack an address or a port. Out: whether they can be of one connection, and what they
//! say together.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::Endpoints;

/// [`Endpoints`] as the table keeps them: in little memory, and quick to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: End,
    pub(super) remote: End,
    /// Inode number of the network namespace; 0 if unknown.
    pub(super) netns: u32,
    /// Whether the socket is an `AF_INET6` one, whatever its addresses are.
    pub(super) ipv6_socket: bool,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) address: Address,
    pub(super) port: u16,
}

/// An IPv6 address as two numbers, the upper half first. An IPv4 address is mapped: IPv4-mapped ones
/// are IPv4 in [`Endpoints`], so the way back is unambiguous. (The standard library compares and
/// converts byte by byte, which cost a tenth of all that is done for a record.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    upper: [u32; 2],
    lower: [u32; 2],
}

impl From<&Endpoints> for Ends {
    #[inline]
    fn from(endpoints: &Endpoints) -> Self {
        Ends {
            local: endpoints.local.into(),
            remote: endpoints.remote.into(),
            netns: endpoints.netns,
            ipv6_socket: endpoints.ipv6_socket,
        }
    }
}

impl From<&Ends> for Endpoints {
    #[inline]
    fn from(ends: &Ends) -> Self {
        Endpoints {
            netns: ends.netns,
            local: ends.local.into(),
            remote: ends.remote.into(),
            ipv6_socket: ends.ipv6_socket,
        }
    }
}

impl From<SocketAddr> for End {
    #[inline]
    fn from(address: SocketAddr) -> Self {
        End {
            address: match address {
                SocketAddr::V4(address) => Address::mapped(*address.ip()),
                SocketAddr::V6(address) => Address::of(*address.ip()),
            },
            port: address.port(),
        }
    }
}

impl From<End> for SocketAddr {
    #[inline]
    fn from(end: End) -> Self {
        SocketAddr::new(end.address.into(), end.port)
    }
}

impl Address {
    const MAPPED: u32 = 0xffff;

    #[inline]
    fn of(ip: Ipv6Addr) -> Self {
        let bits = ip.to_bits();
        let word = |place: u32| (bits >> (32 * place)) as u32;
        Address {
            upper: [word(3), word(2)],
            lower: [word(1), word(0)],
        }
    }

    #[inline]
    fn mapped(ip: Ipv4Addr) -> Self {
        Address {
            upper: [0; 2],
            lower: [Self::MAPPED, ip.to_bits()],
        }
    }

    #[inline]
    fn is_ipv4(self) -> bool {
        self.upper == [0; 2] && self.lower[0] == Self::MAPPED
    }

    /// Whether there is no address.
    #[inline]
    fn is_unspecified(self) -> bool {
        self.lower[1] == 0 && self.upper == [0; 2] && matches!(self.lower[0], 0 | Self::MAPPED)
    }
}

impl Hash for Address {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b] = self.upper.map(u64::from);
        let [c, d] = self.lower.map(u64::from);
        state.write_u128(u128::from(a << 32 | b) << 64 | u128::from(c << 32 | d));
    }
}

impl From<Address> for IpAddr {
    #[inline]
    fn from(address: Address) -> Self {
        let [a, b] = address.upper.map(u128::from);
        let [c, d] = address.lower.map(u128::from);
        if address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::from_bits(address.lower[1]))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d))
        }
    }
}

impl Ends {
    /// Whether nothing in `other` contradicts these.
    #[inline]
    pub(super) fn agree_with(&self, other: &Ends) -> bool {
        (self.netns == other.netns || self.netns == 0 || other.netns == 0)
            && self.local.agrees_with(other.local)
            && self.remote.agrees_with(other.remote)
    }

    /// These, with what they lack taken from `other`.
    pub(super) fn completed_by(&self, other: &Ends) -> Ends {
        Ends {
            netns: if self.netns == 0 {
                other.netns
            } else {
                self.netns
            },
            local: self.local.completed_by(other.local),
            remote: self.remote.completed_by(other.remote),
            ipv6_socket: self.ipv6_socket,
        }
    }

    /// Whether both ends have a port.
    #[inline]
    pub(super) fn are_complete(&self) -> bool {
        self.local.port != 0 && self.remote.port != 0
    }

    /// Whether no record can add anything.
    #[inline]
    pub(super) fn lack_nothing(&self) -> bool {
        self.are_complete()
            && self.netns != 0
            && !self.local.address.is_unspecified()
            && !self.remote.address.is_unspecified()
    }

    /// Whether the socket is an IPv6 one that speaks IPv4.
    pub(super) fn are_mapped(&self) -> bool {
        self.ipv6_socket && self.remote.address.is_ipv4()
    }
}

impl End {
    #[inline]
    fn agrees_with(self, other: End) -> bool {
        (self.port == other.port || self.port == 0 || other.port == 0)
            && (self.address == other.address
                || self.address.is_unspecified()
                || other.address.is_unspecified())
    }

    fn completed_by(self, other: End) -> End {
        End {
            address: if self.address.is_unspecified() {
                other.address
            } else {
                self.address
            },
            port: if self.port == 0 {
                other.port
            } else {
                self.port
            },
        }
    }
}

/// The ends of a socket for tests: others for each.
#[cfg(test)]
pub(crate) fn sample(socket: u64) -> Endpoints {
    let port = 1_000 + u16::try_from(socket).unwrap();
    Endpoints {
        netns: 1,
        local: ([10, 0, 0, 1], port).into(),
        remote: ([10, 0, 0, 2], 80).into(),
        ipv6_socket: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(netns: u32, local: &str, remote: &str) -> Ends {
        let [local, remote] = [local, remote].map(|end| end.parse().unwrap());
        Ends::from(&Endpoints {
            netns,
            local,
            remote,
            ipv6_socket: false,
        })
    }

    #[test]
    fn ends_come_back_as_they_were() {
        for [local, remote] in [
            ["10.0.0.1:4000", "10.0.0.2:80"],
            ["0.0.0.0:0", "[::]:0"],
            ["[fe80::1]:5", "[::1]:6"],
        ] {
            let endpoints = Endpoints {
                netns: 7,
                local: local.parse().unwrap(),
                remote: remote.parse().unwrap(),
                ipv6_socket: true,
            };
            assert_eq!(Endpoints::from(&Ends::from(&endpoints)), endpoints);
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
        assert!(open.lack_nothing());
        assert!(!ends(1, "0.0.0.0:4000", "10.0.0.2:80").lack_nothing());
    }
}
