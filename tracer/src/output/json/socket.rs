//! A socket as it is now, as one line of JSON in the names of the events.

use super::object::{Object, key};
use super::{Json, write_end};
use crate::event::BootTime;
use crate::output::names;
use crate::output::record::End;
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
            self.socket_members(socket, now, tracer);
        });
        line.end();
        out.push(b'\n');
    }

    fn socket_members(&mut self, socket: &Socket, now: BootTime, tracer: &mut Object<'_>) {
        tracer.word(key!("socket_state"), names::socket_state(socket.state).1);
        if let Some((receive, send)) = socket.queues {
            tracer.number(key!("receive_queue"), receive);
            tracer.number(key!("send_queue"), send);
        }
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
        if let Some(owner) = &socket.owner {
            tracer.members(&self.processes.rendered(owner, now).tracer);
        }
    }
}

fn write_network(socket: &Socket, network: &mut Object<'_>) {
    network.word(key!("transport"), names::transport(socket.transport));
    let end = if socket.is_listening() {
        socket.endpoints.local
    } else {
        socket.endpoints.remote
    };
    network.word(key!("type"), if end.is_ipv4() { "ipv4" } else { "ipv6" });
    let is_ingress = socket.is_listening() || socket.is_ingress;
    network.word(
        key!("direction"),
        if is_ingress { "ingress" } else { "unknown" },
    );
}

fn write_ends(socket: &Socket, line: &mut Object<'_>) {
    let end = |address: std::net::SocketAddr| End {
        ip: Some(address.ip()),
        port: Some(address.port()),
        bytes: None,
    };
    let (local, remote) = (end(socket.endpoints.local), end(socket.endpoints.remote));
    if socket.is_listening() {
        write_end(key!("destination"), &local, line);
    } else {
        let (source, destination) = if socket.is_ingress {
            (remote, local)
        } else {
            (local, remote)
        };
        write_end(key!("source"), &source, line);
        write_end(key!("destination"), &destination, line);
    }
}
