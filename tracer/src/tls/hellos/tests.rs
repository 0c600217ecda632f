//! Which handshakes are told, when, and what is remembered of them.

use super::*;
use crate::connection::endpoints::sample as endpoints;

fn hello(name: &str) -> ClientHello {
    ClientHello {
        endpoints: endpoints(1),
        server_name: Some(name.into()),
        protocols: Vec::new(),
        omitted: 0,
        encrypted_client_hello: false,
        truncated: false,
    }
}

fn id(serial: u32) -> ConnectionId {
    ConnectionId {
        first_seen_ns: 1,
        serial,
    }
}

#[test]
fn a_connection_is_told_once_and_has_the_name_from_then_on() {
    let mut hellos = Hellos::default();
    assert!(hellos.is_first_of(id(1)));
    assert_eq!(hellos.domain(id(1)), None);
    hellos.remember(id(1), &hello("a.test"));
    assert!(!hellos.is_first_of(id(1)));
    let domain = hellos.domain(id(1)).unwrap();
    assert_eq!(
        (&*domain.name, domain.known_from),
        ("a.test", KnownFrom::ClientHello)
    );
    assert_eq!(hellos.domain(id(2)), None);
}

#[test]
fn the_oldest_connection_makes_room() {
    let mut hellos = Hellos::default();
    for serial in 0..=TOLD_MAX as u32 {
        hellos.remember(id(serial), &hello("a.test"));
    }
    assert_eq!(hellos.domain(id(0)), None);
    assert!(hellos.domain(id(1)).is_some());
    assert_eq!(
        (hellos.names.len(), hellos.order.len()),
        (TOLD_MAX, TOLD_MAX)
    );
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut hellos = Hellos::default();
    let payload = HelloPayload {
        socket: SocketId(1),
        endpoints: endpoints(1),
        bytes: b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    };
    assert_eq!(hellos.read(&payload), None);
    assert_eq!(hellos.counters(), HelloCounters { malformed: 1 });
}

fn waiting(time: u64, socket: u64) -> Waiting {
    Waiting {
        time: BootTime(time),
        socket: SocketId(socket),
        hello: hello("a.test"),
    }
}

#[test]
fn who_waits_is_taken_by_its_socket_or_when_its_time_is_over() {
    let mut hellos = Hellos::default();
    for (time, socket) in [(1, 7), (2, 8)] {
        assert!(hellos.hold(waiting(time, socket)).is_none());
    }
    assert_eq!(hellos.due(), Some(BootTime(1 + WAIT_NS)));
    assert_eq!(hellos.take(SocketId(7)).unwrap().time, BootTime(1));
    assert!(hellos.take(SocketId(7)).is_none());
    assert!(hellos.take_due(BootTime(1 + WAIT_NS)).is_none());
    let due = hellos.take_due(BootTime(2 + WAIT_NS)).unwrap();
    assert_eq!(due.socket, SocketId(8));
    assert_eq!(hellos.due(), None);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let mut hellos = Hellos::default();
    for socket in 0..WAITING_MAX as u64 {
        assert!(hellos.hold(waiting(1, socket)).is_none());
    }
    let oldest = hellos.hold(waiting(1, 9_999)).unwrap();
    assert_eq!(oldest.socket, SocketId(0));
}
