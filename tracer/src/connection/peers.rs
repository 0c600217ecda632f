//! Finds the other end of a connection, where that is a socket of this host, too.
//!
//! In: connections as they open and close. Out: who is at the other end: the one with the reversed
//! ends in the same network namespace. A connection can be over before its other end is accepted, so
//! the last few that ended can still be found.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::event::{Endpoints, SocketId};
use crate::observation::{Connection, ConnectionId, Direction};

/// How many connections can be found after they ended.
const ENDED_MAX: usize = 4_096;

/// The ends of a connection, from one side. Plain numbers, because every connection is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    local: u128,
    remote: u128,
    ports: u32,
    netns: u32,
}

impl Flow {
    /// Both sockets of a connection have the same one, reversed, whatever their families.
    fn of(endpoints: &Endpoints) -> Option<Flow> {
        let Endpoints {
            netns,
            local,
            remote,
            ..
        } = endpoints;
        (*netns != 0 && endpoints.are_complete()).then(|| Flow {
            local: bits(local),
            remote: bits(remote),
            ports: u32::from(local.port()) << 16 | u32::from(remote.port()),
            netns: *netns,
        })
    }

    fn reversed(self) -> Flow {
        let Flow {
            local,
            remote,
            ports,
            netns,
        } = self;
        Flow {
            local: remote,
            remote: local,
            ports: ports.rotate_left(16),
            netns,
        }
    }
}

/// An address as a number; an IPv4 one as its IPv4-mapped IPv6 address.
fn bits(end: &SocketAddr) -> u128 {
    match end.ip() {
        IpAddr::V4(ip) => 0xffff << 32 | u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    peer: Peer,
    direction: Direction,
    linked: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its connection.
    pub(super) id: ConnectionId,
    /// Its socket, perhaps closed.
    pub(super) socket: SocketId,
}

/// Connections by their ends.
#[derive(Debug, Default)]
pub(super) struct Peers {
    places: HashMap<Flow, Place, foldhash::fast::RandomState>,
    ended: VecDeque<(Flow, ConnectionId)>,
}

impl Peers {
    /// Enters a connection, if its ends are complete, and finds its other end. `is_open` tells
    /// whether a connection has not ended.
    pub(super) fn enter(
        &mut self,
        connection: &Connection,
        is_open: impl Fn(Peer) -> bool,
    ) -> Option<Peer> {
        let flow = Flow::of(&connection.endpoints)?;
        let peer = self.link(flow.reversed(), connection, is_open);
        let place = Place {
            peer: Peer {
                id: connection.id,
                socket: connection.socket,
            },
            direction: connection.direction,
            linked: peer.is_some(),
        };
        self.places.insert(flow, place);
        peer
    }

    /// A connection is over. It can still be found until many others are.
    pub(super) fn end(&mut self, connection: &Connection) {
        let Some(flow) = Flow::of(&connection.endpoints) else {
            return;
        };
        if self.ended.len() == ENDED_MAX
            && let Some((flow, id)) = self.ended.pop_front()
            && let Entry::Occupied(place) = self.places.entry(flow)
            && place.get().peer.id == id
        {
            place.remove();
        }
        self.ended.push_back((flow, connection.id));
    }

    /// Takes the other end, unless it is another's already. A connection that ended can have
    /// been the other end only of one that this host accepts late.
    fn link(
        &mut self,
        flow: Flow,
        connection: &Connection,
        is_open: impl Fn(Peer) -> bool,
    ) -> Option<Peer> {
        let place = self.places.get_mut(&flow)?;
        let late =
            connection.direction != Direction::Egress && place.direction == Direction::Egress;
        if place.linked || place.peer.id == connection.id || !(late || is_open(place.peer)) {
            return None;
        }
        place.linked = true;
        Some(place.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Opening;
    use crate::process::image::Provenance;

    fn connection(serial: u32, direction: Direction, local: &str, remote: &str) -> Connection {
        let [local, remote] = [local, remote].map(|end| end.parse().unwrap());
        Connection {
            id: ConnectionId {
                first_seen_ns: 1,
                serial,
            },
            socket: SocketId(serial.into()),
            endpoints: Endpoints {
                netns: 1,
                local,
                remote,
                ipv6_socket: serial == 2,
            },
            direction,
            owner: None,
            owner_provenance: Provenance::Unknown,
            opening: Opening::State,
            peer: None,
            opened_at: None,
        }
    }

    fn open(_: Peer) -> bool {
        true
    }

    #[test]
    fn both_ends_find_each_other_once() {
        let mut peers = Peers::default();
        let client = connection(1, Direction::Egress, "127.0.0.1:4000", "127.0.0.1:80");
        let server = connection(2, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(peers.enter(&client, open), None);
        assert_eq!(
            peers.enter(&server, open),
            Some(Peer {
                id: client.id,
                socket: client.socket
            })
        );
        let third = connection(3, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(peers.enter(&third, open), None);
    }

    #[test]
    fn connection_that_ended_is_the_peer_only_of_a_late_accept() {
        let mut peers = Peers::default();
        let server = connection(2, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        peers.enter(&server, open);
        peers.end(&server);
        let client = connection(1, Direction::Egress, "127.0.0.1:4000", "127.0.0.1:80");
        assert_eq!(peers.enter(&client, |_| false), None);
        peers.end(&client);
        let late = connection(3, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(
            peers.enter(&late, |_| false).map(|peer| peer.id),
            Some(client.id)
        );
    }

    #[test]
    fn only_the_last_few_that_ended_are_remembered() {
        let mut peers = Peers::default();
        for serial in 0..10_000 {
            let local = format!("10.0.0.1:{}", 1 + serial);
            let connection = connection(serial, Direction::Egress, &local, "10.0.0.2:80");
            peers.enter(&connection, open);
            peers.end(&connection);
        }
        assert_eq!(
            (peers.places.len(), peers.ended.len()),
            (ENDED_MAX, ENDED_MAX)
        );
    }

    #[test]
    fn unknown_ends_have_no_peer() {
        let mut peers = Peers::default();
        let unbound = connection(1, Direction::Egress, "0.0.0.0:0", "127.0.0.1:80");
        assert_eq!(peers.enter(&unbound, open), None);
        assert!(peers.places.is_empty());
    }
}
