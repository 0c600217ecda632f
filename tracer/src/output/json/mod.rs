//! JSON lines, by the names of the Elastic Common Schema 9, nested.
//!
//! In: observations. Out: one object a line, whose members the schema of `tracer schema` describes.
//! What is not known is absent.

pub(in crate::output) mod community;
mod detection;
mod file;
mod hello;
mod lookup;
mod marks;
mod object;
mod process;
mod raw_socket;
mod socket;
mod standing;
mod tree;

use std::sync::Arc;

use self::community::{CommunityIds, Text};
use self::marks::{Added, Marks};
use self::object::{Key, Object, key, write_list};
use self::process::Processes;
use self::standing::Standings;
use super::action::{Action, Aspect};
use super::record::{End, Ends, Record};
use super::{Context, Format};
use super::{names, protocol};
use crate::clock::UtcClock;
use crate::dns::names::Domain;
use crate::event::{Errno, Protocol};
use crate::host::Host;
use crate::identity::Identities;
use crate::kernel::netns;
use crate::observation::{Connection, Direction, Loss};
use crate::process::cause::Cause;
use crate::process::image::Image;

/// Protocols that most lines are about.
const USUAL: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

/// Formats events as JSON lines.
pub struct Json {
    clock: UtcClock,
    identities: Identities,
    /// From `ecs` to the sequence number, by [`Action`] and [`Aspect`].
    classes: [[Vec<u8>; Aspect::ALL.len()]; Action::ALL.len()],
    /// `network` up to the community ID, by protocol, [`Direction`] and whether it is IPv4.
    networks: [[[Vec<u8>; 2]; Direction::ALL.len()]; USUAL.len()],
    standings: Standings,
    /// The member `host`, the same in every line.
    host: Vec<u8>,
    processes: Processes,
    community_ids: CommunityIds,
    netns: netns::Names,
}

impl Json {
    /// For events of this host.
    pub fn new(context: Context) -> Self {
        let identities = Identities::new(context.host.boot_id);
        let clock = UtcClock::new(context.offset);
        Self {
            processes: Processes::new(identities.clone(), clock.clone(), context.users),
            clock,
            identities,
            classes: Action::ALL.map(|action| Aspect::ALL.map(|aspect| class(action, aspect))),
            networks: USUAL.map(|protocol| {
                Direction::ALL
                    .map(|direction| [false, true].map(|v4| network(protocol, direction, v4)))
            }),
            standings: Standings::new(context.hooks),
            host: host_member(&context.host),
            community_ids: CommunityIds::new(),
            netns: context.netns,
        }
    }

    fn event(&self, record: &Record<'_>, sequence: u64, line: &mut Object<'_>) {
        let aspect = record.aspect() as usize;
        let mut event = line.begun(&self.classes[record.action as usize][aspect]);
        event.digits(sequence);
        if let Some(lookup) = record.lookup {
            event.word(key!("outcome"), names::lookup_outcome(lookup));
        }
        if let Some(duration) = record.duration_ns {
            event.number(key!("duration"), duration);
        }
        event.end();
    }

    fn network(&mut self, record: &Record<'_>, line: &mut Object<'_>) {
        let Some(connection) = record.connection else {
            match (record.lookup, record.hello) {
                (Some(lookup), _) => self.lookup(lookup, record, line),
                (None, Some(_)) => self.unknown_connection(record, line),
                (None, None) => {}
            }
            return;
        };
        let ends = &record.ends();
        let (protocol, direction, v4) =
            (connection.protocol, connection.direction, record.is_ipv4());
        let other;
        let begun = match USUAL.iter().position(|&usual| usual == protocol) {
            Some(place) => &self.networks[place][direction as usize][usize::from(v4)],
            None => {
                other = network(protocol, direction, v4);
                &other
            }
        };
        let mut network = line.begun(begun);
        if let Some(protocol) = record.protocol() {
            network.word(key!("protocol"), protocol);
        }
        if let Some(id) = self.community_id(protocol, ends) {
            network.word(key!("community_id"), id);
        }
        network.end();
        write_end(key!("source"), &ends.source, line);
        match &connection.domain {
            Some(domain) => write_named_end(&ends.destination, domain, line),
            None => write_end(key!("destination"), &ends.destination, line),
        }
    }

    fn community_id(&mut self, protocol: Protocol, ends: &Ends) -> Option<&Text> {
        let (source, destination) = (ends.source.address()?, ends.destination.address()?);
        self.community_ids.of(protocol, source, destination)
    }

    fn process(&mut self, image: &Arc<Image>, record: &Record<'_>, line: &mut Object<'_>) {
        line.object(key!("process"), |process| {
            process.members(&self.processes.rendered(image, record.time).process);
            if let Some(code) = record.exit_code() {
                process.number(key!("exit_code"), code);
            }
        });
        line.members(&self.processes.rendered(image, record.time).workload);
    }

    fn tracer(&mut self, record: &Record<'_>, tracer: &mut Object<'_>) {
        if let Some(connection) = record.connection {
            self.connection(connection, record, tracer);
        }
        if let Some(socket) = record.socket {
            raw_socket::write_socket(socket, tracer);
        }
        self.netns(record, tracer);
        if !record.holders.is_empty() {
            self.processes.write_holders(record.holders, tracer);
        }
        if let Some(totals) = record.totals {
            if let Some(rtt) = totals.rtt_us {
                tracer.number(key!("rtt_us"), rtt);
            }
            tracer.number(key!("retransmits"), totals.retransmits);
        }
        if let Some(signal) = record.exit_signal() {
            write_signal(signal, tracer);
        }
        if let Some(image) = record.process {
            let texts = self.processes.rendered(image, record.time);
            texts.write_tracer(&added(record), tracer);
            if record.action == Action::ProcessExit {
                self.processes.forget(image.key);
            }
        } else {
            Marks::default().write(&added(record), tracer);
        }
        if let Some(lookup) = record.lookup {
            lookup::write_remarks(lookup, tracer);
        }
        if let Some(hello) = record.hello {
            hello::write_offer(hello, tracer);
        }
        if let Some(detection) = record.detection {
            self.detection(detection, tracer);
        }
        if let Some(cause) = record.cause {
            let out = tracer.key(key!("cause"));
            out.push(b'[');
            self.write_cause(cause, out);
            out.push(b']');
        }
        if let Some(loss) = record.loss {
            tracer.object(key!("lost"), |lost| write_loss(loss, lost));
        }
    }

    /// From the outermost contact inwards.
    fn write_cause(&self, cause: &Cause, out: &mut Vec<u8>) {
        if let Some(before) = &cause.before {
            self.write_cause(before, out);
            out.push(b',');
        }
        let mut link = Object::begin(out);
        link.word(
            key!("connection_id"),
            self.identities.connection(cause.connection),
        );
        link.object(key!("peer"), |peer| {
            peer.ip(key!("ip"), cause.peer.ip());
            peer.number(key!("port"), cause.peer.port());
        });
        link.object(key!("process"), |process| {
            self.processes.write_brief(&cause.server, process);
        });
        link.word(key!("certainty"), names::certainty(cause.certainty));
        link.number(key!("candidates"), cause.candidates);
        link.end();
    }

    fn connection(
        &mut self,
        connection: &Connection,
        record: &Record<'_>,
        tracer: &mut Object<'_>,
    ) {
        tracer.word(
            key!("connection_id"),
            self.identities.connection(connection.id),
        );
        if let Some(peer) = connection.peer {
            tracer.word(key!("peer_connection_id"), self.identities.connection(peer));
        }
        tracer.members(self.standings.of(connection, record.state));
        if connection.existing {
            tracer.boolean(key!("existing"), true);
        }
        if connection.mptcp {
            tracer.boolean(key!("mptcp"), true);
        }
        if !record.subflows.is_empty() {
            write_list(
                record.subflows,
                tracer.key(key!("subflows")),
                |subflow, out| {
                    let ends = Ends::of(
                        connection.direction,
                        &subflow.endpoints,
                        subflow.totals.map(Into::into),
                    );
                    let mut object = Object::begin(out);
                    write_end(key!("source"), &ends.source, &mut object);
                    write_end(key!("destination"), &ends.destination, &mut object);
                    object.end();
                },
            );
        }
    }

    /// The network namespace in which it happened, if that is known.
    fn netns(&mut self, record: &Record<'_>, tracer: &mut Object<'_>) {
        let of_ends = || Some(record.endpoints()?.netns);
        let id = record.socket.map(|socket| socket.netns).or_else(of_ends);
        let Some(id) = id.filter(|&id| id != 0) else {
            return;
        };
        let name = self.netns.of(id, record.time);
        tracer.object(key!("netns"), |netns| {
            netns.number(key!("id"), id);
            if let Some(name) = name {
                netns.text(key!("name"), name);
            }
        });
    }
}

impl Format for Json {
    fn line(&mut self, record: &Record<'_>, sequence: u64, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.word(key!("@timestamp"), self.clock.render(record.time));
        self.event(record, sequence, &mut line);
        self.network(record, &mut line);
        if let Some(socket) = record.socket {
            raw_socket::write_network(socket, &mut line);
        }
        if let Some(hello) = record.hello {
            hello::write_name(hello, &mut line);
        }
        if let Some(image) = record.process {
            self.process(image, record, &mut line);
        }
        line.members(&self.host);
        if let Some(detection) = record.detection {
            detection::write_rule(detection, &mut line);
        }
        if let Some(errno) = record.errno {
            line.object(key!("error"), |error| write_error(errno, error));
        }
        line.object(key!("tracer"), |tracer| self.tracer(record, tracer));
        line.end();
        out.push(b'\n');
    }
}

/// What the line says beyond what is known of the process.
fn added(record: &Record<'_>) -> Added {
    let domain = record
        .connection
        .and_then(|connection| connection.domain.as_ref());
    let by_resolver = record.lookup.is_some_and(|lookup| lookup.by_resolver);
    Added {
        flag: by_resolver.then_some("resolver"),
        domain: domain.map(|domain| domain.known_from),
        probable_protocol: record.probable_protocol().is_some(),
    }
}

/// From `ecs` to where the sequence number goes: what follows from the action alone.
fn class(action: Action, aspect: Aspect) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = Object::members_only(&mut text);
    line.members(br#""ecs":{"version":"9.0.0"}"#);
    let mut event = Object::begin(line.key(key!("event")));
    event.word(key!("kind"), action.kind());
    if !action.category().is_empty() {
        event.words(key!("category"), action.category());
        event.words(key!("type"), action.types(aspect));
    }
    event.word(key!("action"), action.name());
    if let Some(outcome) = action.outcome() {
        event.word(key!("outcome"), outcome);
    }
    event.key(key!("sequence"));
    text
}

/// The member `network`, open for the community ID.
fn network(protocol: Protocol, direction: Direction, is_ipv4: bool) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = Object::members_only(&mut text);
    let mut network = Object::begin(line.key(key!("network")));
    if let Some(name) = protocol::of(protocol) {
        network.word(key!("transport"), name);
    }
    if protocol != Protocol::TCP {
        network.word(key!("iana_number"), itoa::Buffer::new().format(protocol.0));
    }
    network.word(key!("type"), if is_ipv4 { "ipv4" } else { "ipv6" });
    network.word(key!("direction"), names::direction(direction));
    text
}

/// An end of which nothing is known is absent.
#[inline]
fn write_end(key: Key, end: &End, line: &mut Object<'_>) {
    if !end.is_unknown() {
        line.object(key, |object| write_address(end, object));
    }
}

/// A destination with its name.
fn write_named_end(end: &End, domain: &Domain, line: &mut Object<'_>) {
    line.object(key!("destination"), |object| {
        write_address(end, object);
        object.text(key!("domain"), &domain.name);
    });
}

#[inline]
fn write_address(end: &End, object: &mut Object<'_>) {
    if let Some(ip) = end.ip {
        object.ip(key!("ip"), ip);
    }
    if let Some(port) = end.port {
        object.number(key!("port"), port);
    }
    if let Some(carried) = end.carried {
        object.number(key!("bytes"), carried.bytes);
        if let Some(packets) = carried.packets {
            object.number(key!("packets"), packets);
        }
    }
}

fn write_error(errno: Errno, error: &mut Object<'_>) {
    match names::errno(errno) {
        Some(name) => error.word(key!("code"), name),
        None => error.word(key!("code"), itoa::Buffer::new().format(errno.0)),
    }
}

fn write_signal(signal: u32, tracer: &mut Object<'_>) {
    match names::signal(signal) {
        Some(name) => tracer.word(key!("exit_signal"), name),
        None => tracer.word(key!("exit_signal"), itoa::Buffer::new().format(signal)),
    }
}

fn write_loss(loss: Loss, lost: &mut Object<'_>) {
    lost.word(key!("stage"), loss.stage);
    lost.word(key!("kind"), loss.kind);
    lost.word(key!("unit"), names::loss_unit(loss.unit));
    lost.number(key!("count"), loss.count);
}

fn host_member(host: &Host) -> Vec<u8> {
    let mut member = Vec::new();
    Object::members_only(&mut member).object(key!("host"), |object| {
        object.text(key!("name"), &host.name);
        if let Some(id) = &host.machine_id {
            object.word(key!("id"), id);
        }
    });
    member
}
