//! JSON lines, by the names of the Elastic Common Schema 9, nested.
//!
//! In: observations. Out: one object a line, whose members the schema of `tracer schema` describes.
//! What is not known is absent.

mod community;
mod object;
mod process;

use std::sync::Arc;

use self::community::CommunityIds;
use self::object::Object;
use self::process::Processes;
use super::action::Action;
use super::names::{self, HookNames};
use super::record::{End, Ends, Record};
use super::{Context, Format};
use crate::clock::UtcClock;
use crate::event::Errno;
use crate::host::Host;
use crate::identity::Identities;
use crate::observation::{ConnState, Connection, Loss, Observation};
use crate::process::image::Image;

/// Formats events as JSON lines.
pub struct Json {
    clock: UtcClock,
    identities: Identities,
    hooks: HookNames,
    /// The member `host`, the same in every line.
    host: Vec<u8>,
    processes: Processes,
    community_ids: CommunityIds,
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
            hooks: context.hooks,
            host: host_member(&context.host),
            community_ids: CommunityIds::new(),
        }
    }

    fn write(&mut self, record: &Record<'_>, sequence: u64, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.word("@timestamp", self.clock.render(record.time));
        line.members(br#""ecs":{"version":"9.0.0"}"#);
        line.object("event", |event| write_event(record, sequence, event));
        self.network(record, &mut line);
        if let Some(image) = record.process {
            self.process(image, record, &mut line);
        }
        line.members(&self.host);
        if let Some(errno) = record.errno {
            line.object("error", |error| write_error(errno, error));
        }
        line.object("tracer", |tracer| self.tracer(record, tracer));
        line.end();
        out.push(b'\n');
    }

    fn network(&mut self, record: &Record<'_>, line: &mut Object<'_>) {
        let Some(connection) = record.connection else {
            return;
        };
        let ends = record.ends();
        line.object("network", |network| {
            network.word("transport", "tcp");
            network.word("type", if record.is_ipv4() { "ipv4" } else { "ipv6" });
            network.word("direction", names::direction(connection.direction));
            if let Some(id) = self.community_id(ends) {
                network.word("community_id", id);
            }
        });
        write_end("source", ends.source, line);
        write_end("destination", ends.destination, line);
    }

    fn community_id(&mut self, ends: Ends) -> Option<&str> {
        self.community_ids
            .of(ends.source.address()?, ends.destination.address()?)
    }

    fn process(&mut self, image: &Arc<Image>, record: &Record<'_>, line: &mut Object<'_>) {
        line.object("process", |process| {
            process.members(&self.processes.rendered(image, record.time).process);
            if let Some(code) = record.exit_code() {
                process.number("exit_code", code);
            }
        });
    }

    fn tracer(&mut self, record: &Record<'_>, tracer: &mut Object<'_>) {
        if let Some(connection) = record.connection {
            self.connection(connection, record.state, tracer);
        }
        if let Some(totals) = record.totals {
            if let Some(rtt) = totals.rtt_us {
                tracer.number("rtt_us", rtt);
            }
            tracer.number("retransmits", totals.retransmits);
        }
        if let Some(signal) = record.exit_signal() {
            write_signal(signal, tracer);
        }
        if let Some(image) = record.process {
            tracer.members(&self.processes.rendered(image, record.time).tracer);
            if record.action == Action::ProcessExit {
                self.processes.forget(image.key);
            }
        }
        if let Some(loss) = record.loss {
            tracer.object("lost", |lost| write_loss(loss, lost));
        }
    }

    fn connection(
        &self,
        connection: &Connection,
        state: Option<ConnState>,
        tracer: &mut Object<'_>,
    ) {
        tracer.word(
            "connection_id",
            self.identities.connection(connection.id).as_str(),
        );
        if let Some(peer) = connection.peer {
            tracer.word(
                "peer_connection_id",
                self.identities.connection(peer).as_str(),
            );
        }
        if let Some(state) = state {
            tracer.word("state", names::state(state));
        }
        if let Some(hook) = self.hooks.of(connection.opening) {
            tracer.word("hook", hook);
        }
        tracer.word(
            "owner_provenance",
            names::provenance(connection.owner_provenance),
        );
        if connection.endpoints.netns != 0 {
            tracer.object("netns", |netns| {
                netns.number("id", connection.endpoints.netns)
            });
        }
    }
}

impl Format for Json {
    fn line(&mut self, observation: &Observation<'_>, sequence: u64, out: &mut Vec<u8>) {
        self.write(&Record::of(observation), sequence, out);
    }
}

fn write_event(record: &Record<'_>, sequence: u64, event: &mut Object<'_>) {
    let action = record.action;
    event.word("kind", action.kind());
    if !action.category().is_empty() {
        event.words("category", action.category());
        event.words("type", action.types(record.state == Some(ConnState::REJ)));
    }
    event.word("action", action.name());
    if let Some(outcome) = action.outcome() {
        event.word("outcome", outcome);
    }
    event.number("sequence", sequence);
    if let Some(duration) = record.duration_ns {
        event.number("duration", duration);
    }
}

/// An end of which nothing is known is absent.
fn write_end(key: &str, end: End, line: &mut Object<'_>) {
    if end == End::default() {
        return;
    }
    line.object(key, |object| {
        if let Some(ip) = end.ip {
            object.ip("ip", ip);
        }
        if let Some(port) = end.port {
            object.number("port", port);
        }
        if let Some(bytes) = end.bytes {
            object.number("bytes", bytes);
        }
    });
}

fn write_error(errno: Errno, error: &mut Object<'_>) {
    match names::errno(errno) {
        Some(name) => error.word("code", name),
        None => error.word("code", itoa::Buffer::new().format(errno.0)),
    }
}

fn write_signal(signal: u32, tracer: &mut Object<'_>) {
    match names::signal(signal) {
        Some(name) => tracer.word("exit_signal", name),
        None => tracer.word("exit_signal", itoa::Buffer::new().format(signal)),
    }
}

fn write_loss(loss: Loss, lost: &mut Object<'_>) {
    lost.word("stage", loss.stage);
    lost.word("kind", loss.kind);
    lost.word("unit", names::loss_unit(loss.unit));
    lost.number("count", loss.count);
}

fn host_member(host: &Host) -> Vec<u8> {
    let mut member = Vec::new();
    Object::members_only(&mut member).object("host", |object| {
        object.text("name", &host.name);
        if let Some(id) = &host.machine_id {
            object.word("id", id);
        }
    });
    member
}
