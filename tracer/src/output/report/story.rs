//! One line of the timeline for each thing that happened, in words.
//!
//! In: an item of the history. Out: when it began, what kind of thing it is, who did it, a sentence, and how it is
//! known.

use std::net::SocketAddr;

use super::escape::cut;
use crate::dns::names::{Domain, KnownFrom};
use crate::dns::record::{code_name, type_name};
use crate::event::{BootTime, Errno, Protocol};
use crate::history::{Item, What};
use crate::observation::{Connection, Direction, FlowStage};
use crate::output::flat::{command_line, readable};
use crate::output::past::{self, Cells};
use crate::output::{names, protocol};
use crate::process::image::{Image, Provenance};

/// Longest command line that is shown, in characters.
const COMMAND_MAX: usize = 1000;

/// A line of the timeline. Its texts are as they came: whoever shows them makes them safe.
pub(super) struct Line {
    /// When it began.
    pub(super) at: BootTime,
    /// The sort of thing, in a word that is also a class of the style sheet.
    pub(super) sort: &'static str,
    /// Who.
    pub(super) who: String,
    /// What, in a sentence without its subject.
    pub(super) what: String,
    /// More about it.
    pub(super) more: String,
    /// Bytes out and in.
    pub(super) carried: Option<(u64, u64)>,
    /// How it is known who it was.
    pub(super) known: Provenance,
}

impl Line {
    /// The line for an item; `cells` writes quantities.
    pub(super) fn of(item: &Item, cells: &Cells) -> Self {
        let image = item.process.as_deref();
        let connection = past::connection(item);
        let (sort, what, more) = told(item, cells);
        Self {
            at: began(item),
            sort,
            who: image.map_or_else(|| "?".to_owned(), name),
            what,
            more,
            carried: past::carried(item),
            known: match (connection, image) {
                (Some(connection), _) => connection.owner_provenance,
                (None, Some(image)) => image.provenance,
                // What the tracer itself has counted.
                (None, None) => Provenance::Kernel,
            },
        }
    }
}

/// When something began that is told when it is over.
pub(super) fn began(item: &Item) -> BootTime {
    match &item.what {
        What::Ended(connection, _) | What::Flow(connection, ..) | What::Opened(connection) => {
            let first_seen = BootTime(connection.id.first_seen_ns);
            connection.opened_at.unwrap_or(first_seen)
        }
        What::Lookup(_, duration) => BootTime(item.time.0.saturating_sub(*duration)),
        _ => item.time,
    }
}

/// `curl[4312]`.
pub(super) fn name(image: &Image) -> String {
    format!("{}[{}]", readable(image.name.as_bytes()), image.key.tgid)
}

/// What it runs, with its arguments where they are known.
pub(super) fn command(image: &Image) -> String {
    cut(&whole_command(image), COMMAND_MAX)
}

/// The same in a few words.
pub(super) fn short_command(image: &Image) -> String {
    cut(&whole_command(image), COMMAND_MAX / 8)
}

fn whole_command(image: &Image) -> String {
    let arguments = image.program.arguments.as_deref();
    arguments.map_or_else(|| past::program_of(image), command_line)
}

fn told(item: &Item, cells: &Cells) -> (&'static str, String, String) {
    match &item.what {
        What::Forked => ("fork", String::new(), String::new()),
        What::Executed => ("exec", executed(item), life(item, cells)),
        What::Exited { status } => ("exit", format!("ends: {}", exit(*status)), String::new()),
        What::Opened(connection) => {
            let sort = way(connection, "connect", "accept");
            ("open", contact(connection, sort), "still open".to_owned())
        }
        What::Ended(connection, end) if end.failed => (
            "fail",
            format!("cannot connect to {}", peer(connection)),
            outcome(names::state(end.state), end.errno),
        ),
        What::Ended(connection, end) => {
            let (sort, verb) = match connection.direction {
                Direction::Ingress => ("accept", "accept"),
                _ => ("connect", "connect"),
            };
            let lasted = connection.opened_at.map(|opened| item.time.since(opened));
            let lasted = lasted.map_or_else(String::new, |it| format!("{}, ", cells.duration(it)));
            let outcome = outcome(names::state(end.state), end.errno);
            (
                sort,
                contact(connection, verb),
                format!("{lasted}{outcome}"),
            )
        }
        What::ListenOpened(connection) => (
            "listen",
            format!("listens on {}", end(connection.endpoints.local)),
            life(item, cells),
        ),
        What::ListenClosed(connection) => (
            "listen",
            format!("no longer listens on {}", end(connection.endpoints.local)),
            String::new(),
        ),
        What::Flow(connection, stage, totals) => flow(connection, *stage, totals, cells),
        What::SocketOpened(socket) => {
            let protocol = protocol::transport(socket).or_else(|| protocol::ether_type(socket));
            let protocol =
                protocol.map_or_else(|| format!("protocol {}", socket.protocol), str::to_owned);
            let family = names::raw_family(socket.family);
            (
                "raw",
                format!("opens a raw socket: {family}, {protocol}"),
                "it can see or forge traffic".to_owned(),
            )
        }
        What::Lookup(lookup, duration) => {
            let kind = type_name(lookup.question.kind);
            let what = format!(
                "asks {} for {kind} {}",
                lookup.endpoints.remote, lookup.question.name
            );
            ("name", what, answer(item, *duration, cells))
        }
        What::Hello(told) => {
            let name = told.0.server_name.as_deref().unwrap_or_default();
            ("tls", name.to_owned(), String::new())
        }
        What::Detected(told) => {
            let detection = &told.0;
            let what = format!("{} ({})", detection.rule.name, detection.severity.name());
            ("alert", what, detection.explanation.clone())
        }
        What::Lost(loss) => (
            "lost",
            format!("{} {}s lost", loss.count, names::loss_unit(loss.unit)),
            format!("{} in stage {}", loss.kind, loss.stage),
        ),
    }
}

fn way<'a>(connection: &Connection, out: &'a str, inward: &'a str) -> &'a str {
    match connection.direction {
        Direction::Ingress => inward,
        Direction::Egress => out,
        Direction::Unknown => "",
    }
}

fn contact(connection: &Connection, verb: &str) -> String {
    let peer = peer(connection);
    match (verb, connection.existing) {
        ("accept", false) => format!("accepts {peer} on {}", end(connection.endpoints.local)),
        ("accept", true) => format!("has accepted {peer}, before tracing began"),
        ("connect", false) => format!("connects to {peer}"),
        (_, true) => format!("is connected with {peer}, since before tracing began"),
        (_, false) => format!("is connected with {peer}"),
    }
}

fn flow(
    connection: &Connection,
    stage: FlowStage,
    totals: &crate::event::FlowTotals,
    cells: &Cells,
) -> (&'static str, String, String) {
    let transport = transport(connection.protocol);
    let what = match connection.direction {
        Direction::Ingress => format!("is sent {transport} by {}", peer(connection)),
        _ => format!("sends {transport} to {}", peer(connection)),
    };
    let lasted = cells.duration(totals.last.0.saturating_sub(connection.id.first_seen_ns));
    let (sent, received) = (totals.sent_packets, totals.received_packets);
    let ongoing = if stage == FlowStage::End {
        ""
    } else {
        ", not over yet"
    };
    (
        "datagram",
        what,
        format!("{lasted}, {sent} packets out, {received} in{ongoing}"),
    )
}

/// A protocol's name in capitals, as people write it.
pub(super) fn transport(protocol: Protocol) -> String {
    protocol::of(protocol).map_or_else(
        || format!("IP protocol {}", protocol.0),
        str::to_ascii_uppercase,
    )
}

/// An end; of one that is not known, only what is.
pub(super) fn end(address: SocketAddr) -> String {
    if address.port() == 0 {
        return address.ip().to_string();
    }
    address.to_string()
}

/// The other end, with the name by which it was asked for.
fn peer(connection: &Connection) -> String {
    let peer = end(connection.endpoints.remote);
    match &connection.domain {
        Some(name) => format!("{peer} ({})", domain(name)),
        None => peer,
    }
}

/// A name, and a doubt if not its process asked for it.
pub(super) fn domain(domain: &Domain) -> String {
    match domain.known_from {
        KnownFrom::Process => domain.name.to_string(),
        KnownFrom::Container | KnownFrom::Host => format!("perhaps {}", domain.name),
        KnownFrom::ClientHello => format!("{}, as the client says", domain.name),
    }
}

/// Zeek's letters, what they mean, and the error.
fn outcome(state: &str, errno: Option<Errno>) -> String {
    let meaning = match state {
        "S0" => "no answer, or given up",
        "REJ" => "refused",
        "S1" => "not ended in order",
        "SF" => "closed in order",
        "RSTO" => "reset by the initiator",
        "RSTR" => "reset by the acceptor",
        _ => "found open",
    };
    let errno = errno.map(|errno| {
        names::errno(errno).map_or_else(|| format!(", errno {}", errno.0), |it| format!(", {it}"))
    });
    format!("{meaning} ({state}{})", errno.unwrap_or_default())
}

fn executed(item: &Item) -> String {
    let Some(image) = item.process.as_deref() else {
        return "becomes a program that is not known".to_owned();
    };
    format!("runs {}", command(image))
}

/// Until when a process or a listener was there.
fn life(item: &Item, cells: &Cells) -> String {
    match item.over {
        Some((over, status)) => {
            let lasted = cells.duration(over.since(item.time));
            status.map_or_else(
                || format!("for {lasted}"),
                |status| format!("for {lasted}, {}", exit(status)),
            )
        }
        // What becomes another program, or goes on, has no end here.
        None if matches!(item.what, What::Executed) => String::new(),
        None => "end not seen".to_owned(),
    }
}

/// How a process ended.
pub(super) fn exit(status: u32) -> String {
    let (code, signal) = (status >> 8 & 0xff, status & 0x7f);
    match (signal, names::signal(signal)) {
        (0, _) => format!("exit code {code}"),
        (_, Some(name)) => format!("killed by {name}"),
        (signal, None) => format!("killed by signal {signal}"),
    }
}

fn answer(item: &Item, duration: u64, cells: &Cells) -> String {
    let What::Lookup(lookup, _) = &item.what else {
        return String::new();
    };
    let Some(answer) = lookup.answer() else {
        return match lookup.errno() {
            Some(_) => "no answer".to_owned(),
            None => "answer not known".to_owned(),
        };
    };
    let code = code_name(answer.code);
    let addresses: Vec<String> = lookup.addresses().map(|it| it.to_string()).collect();
    let addresses = addresses.join(" ");
    let took = cells.duration(duration);
    format!("{code} {addresses} after {took}")
}
