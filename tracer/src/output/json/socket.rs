//! A socket as it is now, as one line of JSON in the names of the events.

use std::net::SocketAddr;

use super::marks::Added;
use super::object::{Object, key};
use super::{Json, write_end};
use crate::event::BootTime;
use crate::observation::Direction;
use crate::output::names;
use crate::output::record::{Carried, End};
use crate::output::socket::Socket;

impl Json {
    /// Appends a line for a socket. As in the events, a listener's address is the destination, and of a
    /// connection the initiator is the source; where nobody knows who that is, the local end.
    pub fn socket(&mut self, socket: &Socket, now: BootTime, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.word(key!("@timestamp"), self.clock.render(now));
        line.members(br#""ecs":{"version":"9.0.0"}"#);
        line.object(key!("network"), |network| write_network(socket, network));
        write_ends(socket, &mut line);
        if let Some(owner) = &socket.owner {
            line.object(key!("process"), |process| {
                process.members(&self.processes.rendered(owner, now).process);
            });
            line.members(&self.processes.rendered(owner, now).workload);
        }
        line.members(&self.host);
        line.object(key!("tracer"), |tracer| {
            self.socket_members(socket, tracer);
            if let Some(owner) = &socket.owner {
                let texts = self.processes.rendered(owner, now);
                texts.write_tracer(&Added::default(), tracer);
            }
        });
        line.end();
        out.push(b'\n');
    }

    /// Appends what there is to say about a socket but for its owner.
    pub(super) fn socket_alone(&mut self, socket: &Socket, line: &mut Object<'_>) {
        if let Some(opened_at) = socket.opened_at() {
            line.object(key!("event"), |event| {
                event.word(key!("start"), self.clock.render(opened_at));
            });
        }
        line.object(key!("network"), |network| write_network(socket, network));
        write_ends(socket, line);
        line.object(key!("tracer"), |tracer| self.socket_members(socket, tracer));
    }

    fn socket_members(&mut self, socket: &Socket, tracer: &mut Object<'_>) {
        if let Some(connection) = &socket.connection {
            let id = self.identities.connection(connection.id);
            tracer.word(key!("connection_id"), id);
        }
        tracer.word(key!("socket_state"), names::socket_state(socket.state).1);
        if let Some((receive, send)) = socket.queues {
            tracer.number(key!("receive_queue"), receive);
            tracer.number(key!("send_queue"), send);
        }
        write_path(socket, tracer);
        if socket.mptcp {
            tracer.boolean(key!("mptcp"), true);
        }
        tracer.word(
            key!("owner_provenance"),
            names::provenance(socket.owner_provenance),
        );
        if !socket.holders.is_empty() {
            self.processes.write_holders(&socket.holders, tracer);
        }
        tracer.object(key!("netns"), |netns| {
            netns.number(key!("id"), socket.endpoints.netns);
            if let Some(name) = &socket.netns_name {
                netns.text(key!("name"), name);
            }
        });
    }
}

/// What is known of the way to the peer.
fn write_path(socket: &Socket, tracer: &mut Object<'_>) {
    let Some(totals) = socket.totals.filter(|_| !socket.is_listening()) else {
        return;
    };
    if let Some(rtt) = totals.rtt_us {
        tracer.number(key!("rtt_us"), rtt);
    }
    tracer.number(key!("retransmits"), totals.retransmits);
}

fn write_network(socket: &Socket, network: &mut Object<'_>) {
    network.word(key!("transport"), names::transport(socket.transport));
    let end = if socket.is_listening() {
        socket.endpoints.local
    } else {
        socket.endpoints.remote
    };
    network.word(key!("type"), if end.is_ipv4() { "ipv4" } else { "ipv6" });
    let direction = if socket.is_listening() {
        Direction::Ingress
    } else {
        socket.direction()
    };
    network.word(key!("direction"), names::direction(direction));
}

fn write_ends(socket: &Socket, line: &mut Object<'_>) {
    let end = |address: SocketAddr, bytes: Option<u64>| End {
        ip: Some(address.ip()),
        port: Some(address.port()),
        carried: bytes.map(|bytes| Carried {
            bytes,
            packets: None,
        }),
    };
    let totals = socket.totals.filter(|_| !socket.is_listening());
    let sent = totals.map(|totals| totals.sent);
    let received = totals.map(|totals| totals.received);
    let local = end(socket.endpoints.local, sent);
    let remote = end(socket.endpoints.remote, received);
    if socket.is_listening() {
        write_end(key!("destination"), &local, line);
    } else {
        let (source, destination) = match socket.direction() {
            Direction::Ingress => (remote, local),
            Direction::Egress | Direction::Unknown => (local, remote),
        };
        write_end(key!("source"), &source, line);
        write_end(key!("destination"), &destination, line);
    }
}
