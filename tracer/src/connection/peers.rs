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
