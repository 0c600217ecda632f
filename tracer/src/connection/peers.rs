//! Finds the other end of a connection, where that is a socket of this host, too.
//!
//! In: connections as they open and close. Out: who is at the other end: the one with the reversed
//! ends in the same network namespace. A connection can be over before its other end is accepted, so
//! the last few that ended can still be found.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::event::{Endpoints, SocketId};
use crate::observation::{Connection, ConnectionId, Direction};

/// How many connections can be found after they ended.
const ENDED_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Place {
    id: ConnectionId,
    socket: SocketId,
    direction: Direction,
    linked: bool,
    ended: bool,
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
    places: HashMap<Endpoints, Place, foldhash::fast::RandomState>,
    ended: VecDeque<(Endpoints, ConnectionId)>,
}

impl Peers {
    /// Enters a connection, whose ends have to be complete, and finds its other end.
    pub(super) fn enter(&mut self, connection: &Connection) -> Option<Peer> {
        let key = key(&connection.endpoints)?;
        let peer = self.link(&key, connection);
        let place = Place {
            id: connection.id,
            socket: connection.socket,
            direction: connection.direction,
            linked: peer.is_some(),
            ended: false,
        };
        self.places.insert(key, place);
        peer
    }

    /// A connection is over.
    pub(super) fn end(&mut self, connection: &Connection) {
        let Some(key) = key(&connection.endpoints) else {
            return;
        };
        let Some(place) = self
            .places
            .get_mut(&key)
            .filter(|place| place.id == connection.id)
        else {
            return;
        };
        place.ended = true;
        self.ended.push_back((key, connection.id));
        if self.ended.len() > ENDED_MAX
            && let Some((key, id)) = self.ended.pop_front()
            && self.places.get(&key).is_some_and(|place| place.id == id)
        {
            self.places.remove(&key);
        }
    }

    /// Takes the other end, unless it is another's already. A connection that ended can have
    /// been the other end only of one that this host accepts late.
    fn link(&mut self, key: &Endpoints, connection: &Connection) -> Option<Peer> {
        let place = self.places.get_mut(&key.reversed())?;
        let late =
            connection.direction != Direction::Egress && place.direction == Direction::Egress;
        if place.linked || place.id == connection.id || (place.ended && !late) {
            return None;
        }
        place.linked = true;
        Some(Peer {
            id: place.id,
            socket: place.socket,
        })
    }
}

/// Both sockets of a connection have the same key, reversed, whatever their families.
fn key(endpoints: &Endpoints) -> Option<Endpoints> {
    let known = endpoints.netns != 0 && endpoints.are_complete();
    known.then_some(Endpoints {
        ipv6_socket: false,
        ..*endpoints
    })
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

    #[test]
    fn both_ends_find_each_other_once() {
        let mut peers = Peers::default();
        let client = connection(1, Direction::Egress, "127.0.0.1:4000", "127.0.0.1:80");
        let server = connection(2, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(peers.enter(&client), None);
        assert_eq!(
            peers.enter(&server),
            Some(Peer {
                id: client.id,
                socket: client.socket
            })
        );
        let third = connection(3, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(peers.enter(&third), None);
    }

    #[test]
    fn connection_that_ended_is_the_peer_only_of_a_late_accept() {
        let mut peers = Peers::default();
        let server = connection(2, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        peers.enter(&server);
        peers.end(&server);
        let client = connection(1, Direction::Egress, "127.0.0.1:4000", "127.0.0.1:80");
        assert_eq!(peers.enter(&client), None);
        peers.end(&client);
        let late = connection(3, Direction::Ingress, "127.0.0.1:80", "127.0.0.1:4000");
        assert_eq!(peers.enter(&late).map(|peer| peer.id), Some(client.id));
    }

    #[test]
    fn only_the_last_few_that_ended_are_remembered() {
        let mut peers = Peers::default();
        for serial in 0..10_000 {
            let local = format!("10.0.0.1:{}", 1 + serial);
            let connection = connection(serial, Direction::Egress, &local, "10.0.0.2:80");
            peers.enter(&connection);
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
        assert_eq!(peers.enter(&unbound), None);
        assert!(peers.places.is_empty());
    }
}
