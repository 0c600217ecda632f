//! Connections, listeners and flows, as different as they can be.

use std::sync::Arc;

use tracer::dns::names::{Domain, KnownFrom};
use tracer::event::{BootTime, Endpoints, Protocol, SocketId, Totals};
use tracer::observation::{Connection, ConnectionId, Direction, Opening, Subflow};
use tracer::process::cause::{Cause, Certainty};
use tracer::process::image::{Image, Provenance};

use super::SECOND;
use super::processes::{awkward, curl, image};

/// An outbound connection of `curl`, with its other end on the same host.
pub(super) fn egress() -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial: 0,
        },
        socket: SocketId(0xffff_8880_1234_5678),
        protocol: Protocol::TCP,
        endpoints: Endpoints {
            netns: 4_026_531_840,
            local: "127.0.0.1:51234".parse().expect("an address"),
            remote: "127.0.0.1:443".parse().expect("an address"),
            ipv6_socket: false,
        },
        direction: Direction::Egress,
        owner: Some(curl().key),
        owner_provenance: Provenance::Kernel,
        opening: Opening::Connect,
        peer: Some(ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial: 1,
        }),
        opened_at: Some(BootTime(2 * SECOND)),
        existing: false,
        cause: Some(cause()),
        mptcp: false,
        domain: domain(KnownFrom::Process),
    }
}

/// A contact from outside that led, through a server on this host, to another one.
pub(super) fn cause() -> Arc<Cause> {
    let link = |serial, peer: &str, process: Arc<Image>, sure, before| {
        let connection = ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial,
        };
        let peer = peer.parse().expect("an address");
        Arc::new(Cause::new(
            connection,
            peer,
            (&*process).into(),
            sure,
            before,
        ))
    };
    let nginx = Arc::new(image(900, "nginx", "/usr/sbin/nginx", b""));
    let outer = link(
        2,
        "[2001:db8::2]:40000",
        nginx,
        (Certainty::Possible, 3),
        None,
    );
    let sure = (Certainty::Likely, 1);
    link(3, "127.0.0.1:50000", awkward(), sure, Some(outer))
}

/// What a destination of the samples is called.
fn domain(known_from: KnownFrom) -> Option<Domain> {
    let name = "example.org".into();
    Some(Domain { name, known_from })
}

/// An inbound connection over IPv6, from another host.
pub fn ingress() -> Connection {
    let endpoints = Endpoints {
        local: "[2001:db8::1]:22".parse().expect("an address"),
        remote: "[2001:db8::2]:40000".parse().expect("an address"),
        ipv6_socket: true,
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: 2 * SECOND,
        serial: 2,
    };
    let (direction, opening) = (Direction::Ingress, Opening::Accept);
    Connection {
        id,
        endpoints,
        direction,
        opening,
        peer: None,
        cause: None,
        domain: None,
        ..egress()
    }
}

/// A listening socket.
pub(super) fn listener() -> Connection {
    let endpoints = Endpoints {
        local: "0.0.0.0:443".parse().expect("an address"),
        remote: "0.0.0.0:0".parse().expect("an address"),
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: SECOND,
        serial: 0,
    };
    Connection {
        id,
        endpoints,
        opening: Opening::State,
        ..ingress()
    }
}

/// A connection that was found open, and of which nobody knows who opened it.
pub(super) fn existing() -> Connection {
    let id = ConnectionId {
        first_seen_ns: SECOND,
        serial: 1,
    };
    Connection {
        id,
        direction: Direction::Unknown,
        owner: None,
        owner_provenance: Provenance::Unknown,
        opening: Opening::Inventory,
        peer: None,
        cause: None,
        opened_at: None,
        domain: None,
        existing: true,
        endpoints: Endpoints {
            netns: 4_026_532_000,
            ..egress().endpoints
        },
        ..egress()
    }
}

/// A connection of which little is known.
pub(super) fn unattributed() -> Connection {
    let endpoints = Endpoints {
        netns: 0,
        local: "0.0.0.0:0".parse().expect("an address"),
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: 3 * SECOND,
        serial: 0,
    };
    let (owner_provenance, opening) = (Provenance::Unknown, Opening::Attempt);
    Connection {
        id,
        endpoints,
        owner_provenance,
        opening,
        owner: None,
        peer: None,
        cause: None,
        domain: domain(KnownFrom::Host),
        ..egress()
    }
}

/// A connection over Multipath TCP.
pub(super) fn multipath() -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: 4 * SECOND,
            serial: 0,
        },
        mptcp: true,
        peer: None,
        ..egress()
    }
}

/// Its second path.
pub(super) fn subflow() -> Subflow {
    Subflow {
        endpoints: Endpoints {
            local: "127.0.0.2:51235".parse().expect("an address"),
            ..egress().endpoints
        },
        totals: Some(Totals {
            sent: 8,
            received: 6_123,
            ..Totals::default()
        }),
    }
}

/// A flow of UDP that is sent, and one of ICMP that comes.
pub(super) fn flows() -> [Connection; 2] {
    let udp = Connection {
        id: ConnectionId {
            first_seen_ns: 5 * SECOND,
            serial: 0,
        },
        protocol: Protocol::UDP,
        opening: Opening::DatagramSent,
        peer: None,
        ..egress()
    };
    let icmp = Connection {
        id: ConnectionId {
            first_seen_ns: 5 * SECOND,
            serial: 1,
        },
        protocol: Protocol(1),
        endpoints: Endpoints {
            local: "192.0.2.1:0".parse().expect("an address"),
            remote: "192.0.2.2:0".parse().expect("an address"),
            ..udp.endpoints
        },
        direction: Direction::Ingress,
        owner: None,
        owner_provenance: Provenance::Unknown,
        opening: Opening::PacketReceived,
        cause: None,
        domain: None,
        ..udp.clone()
    };
    [udp, icmp]
}
