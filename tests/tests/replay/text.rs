//! Observations as lines of text.

use std::fmt::Write as _;
use std::sync::Arc;

use tracer::event::{Errno, Totals};
use tracer::observation::{
    Connection, ConnectionId, Direction, Fact, LossUnit, Observation, Opening, Sink, Subflow,
};
use tracer::process::cause::{Cause, Certainty};
use tracer::process::cgroup::Container;
use tracer::process::image::{Image, Parent, Provenance, Relation};
use tracer::state::Counters;

use crate::dns;
use crate::hello;
use crate::raw_socket;
use crate::scenario::ERRNOS;

/// What was observed so far, one line each.
#[derive(Default)]
pub(crate) struct Transcript {
    text: String,
    /// Connections in the order in which they are first mentioned: `c1`, `c2`, …
    connections: Vec<ConnectionId>,
}

impl Transcript {
    /// The whole text, with a last line of what the state still holds.
    pub(crate) fn end(mut self, counters: &Counters) -> String {
        let connections = &counters.connections;
        writeln!(
            self.text,
            "end: {} egress, {} ingress, {} listening, {} unattributed, {} sockets, {} processes",
            connections.active_egress,
            connections.active_ingress,
            connections.listeners,
            connections.unattributed,
            counters.connection_entries,
            counters.process_entries,
        )
        .unwrap();
        let compared = &connections.compared;
        if compared.runs > 0 {
            writeln!(
                self.text,
                "compared {} times: {} missed, {} stale, {} repaired",
                compared.runs, compared.missed, compared.stale, compared.repaired
            )
            .unwrap();
        }
        let lookups = &counters.lookups;
        if lookups.malformed + lookups.unexpected > 0 {
            writeln!(
                self.text,
                "of DNS: {} malformed, {} unexpected",
                lookups.malformed, lookups.unexpected
            )
            .unwrap();
        }
        let malformed = counters.hellos.malformed;
        if malformed > 0 {
            writeln!(self.text, "of TLS: {malformed} malformed").unwrap();
        }
        self.text
    }

    fn id(&mut self, id: ConnectionId) -> String {
        let known = self.connections.iter().position(|&other| other == id);
        let index = known.unwrap_or_else(|| {
            self.connections.push(id);
            self.connections.len() - 1
        });
        format!("c{}", index + 1)
    }

    /// Identity, ends, owner and how that is known, peer.
    fn connection(&mut self, connection: &Connection) -> String {
        let ends = &connection.endpoints;
        let arrow = match connection.direction {
            Direction::Egress => ">",
            Direction::Ingress => "<",
            Direction::Unknown => "?",
        };
        let owner = connection
            .owner
            .map_or("nobody".into(), |owner| owner.tgid.to_string());
        let mut text = format!(
            "{} {} {arrow} {} by {owner} ({}, {})",
            self.id(connection.id),
            ends.local,
            ends.remote,
            provenance(connection.owner_provenance),
            opening(connection.opening),
        );
        if connection.mptcp {
            text.push_str(" mptcp");
        }
        if let Some(peer) = connection.peer {
            write!(text, " peer {}", self.id(peer)).unwrap();
        }
        if let Some(domain) = &connection.domain {
            text.push_str(&dns::domain(domain));
        }
        text
    }

    /// ` | after c1 to 10 (likely, of 1), c4 to 30 (possible, of 3)`: the outermost contact first.
    fn cause(&mut self, fact: &Fact<'_>) -> String {
        let links = fact.cause().into_iter().flat_map(Cause::outwards);
        let links: Vec<String> = links
            .map(|link| {
                let certainty = match link.certainty {
                    Certainty::Likely => "likely",
                    Certainty::Possible => "possible",
                };
                let (id, tgid) = (self.id(link.connection), link.server.key.tgid);
                format!("{id} to {tgid} ({certainty}, of {})", link.candidates)
            })
            .collect();
        if links.is_empty() {
            return String::new();
        }
        let links: Vec<String> = links.into_iter().rev().collect();
        format!(" | after {}", links.join(", "))
    }

    fn fact(&mut self, fact: &Fact<'_>) -> String {
        match fact {
            Fact::ProcessForked(image) => process("forked", image),
            Fact::ProcessExecuted(image) => {
                let path = image.program.executable.escape_ascii();
                format!("executed {} {path}{}", image.key.tgid, lineage(Some(image)))
            }
            Fact::ProcessExited {
                process: image,
                status,
            } => {
                format!(
                    "exited {} status {status}{}",
                    image.key.tgid,
                    lineage(Some(image))
                )
            }
            Fact::ConnectionOpened {
                connection,
                process,
                connect_duration_ns,
            } => {
                let after = duration(" after", *connect_duration_ns);
                format!(
                    "opened {}{after}{}",
                    self.connection(connection),
                    lineage(*process)
                )
            }
            Fact::ConnectionAccepted {
                connection,
                process,
            } => {
                format!(
                    "accepted {}{}",
                    self.connection(connection),
                    lineage(*process)
                )
            }
            Fact::ConnectionFailed {
                connection,
                process,
                errno,
                state,
            } => {
                let error = errno.map_or(" errno unknown".into(), error);
                let connection = self.connection(connection);
                format!("failed {connection} {state:?}{error}{}", lineage(*process))
            }
            Fact::ConnectionClosed {
                connection,
                process,
                totals,
                subflows,
                duration_ns,
                state,
                errno,
            } => {
                let lasted = duration(" lasted", *duration_ns);
                let error = errno.map(error).unwrap_or_default();
                let totals = totals.map(carried).unwrap_or_default();
                let connection = self.connection(connection);
                let (paths, lineage) = (paths(subflows), lineage(*process));
                format!("closed {connection} {state:?}{error}{lasted}{totals}{paths}{lineage}")
            }
            Fact::ListenOpened {
                connection,
                process,
                holders,
            } => {
                format!(
                    "listening {}{}{}",
                    self.connection(connection),
                    held(holders),
                    lineage(*process)
                )
            }
            Fact::ConnectionExisting {
                connection,
                process,
                holders,
                totals,
            } => {
                let totals = totals.map(carried).unwrap_or_default();
                let connection = self.connection(connection);
                let held = held(holders);
                format!("existing {connection}{totals}{held}{}", lineage(*process))
            }
            Fact::ListenClosed {
                connection,
                process,
            } => {
                format!(
                    "unlistened {}{}",
                    self.connection(connection),
                    lineage(*process)
                )
            }
            Fact::SocketOpened {
                socket, process, ..
            } => {
                let socket = raw_socket::write(socket);
                let by = process.map_or("nobody".into(), |image| image.key.tgid.to_string());
                format!("socket opened {socket} by {by}{}", lineage(*process))
            }
            Fact::DatagramFlow {
                connection,
                process,
                stage,
                ..
            } => {
                let connection = self.connection(connection);
                format!("flow {stage:?} {connection}{}", lineage(*process))
            }
            Fact::Lookup {
                lookup,
                process,
                duration_ns,
            } => {
                let after = duration(" after", Some(*duration_ns));
                format!("{}{after}{}", dns::lookup(lookup), lineage(*process))
            }
            Fact::ClientHello {
                hello,
                connection,
                process,
            } => {
                let ends = &hello.endpoints;
                let connection = match connection {
                    Some(connection) => self.connection(connection),
                    None => format!("{} ? {}", ends.local, ends.remote),
                };
                let said = hello::write(hello);
                format!("hello on {connection}{said}{}", lineage(*process))
            }
            Fact::Detected {
                detection,
                connection,
                process,
            } => {
                let about = connection.map(|connection| self.connection(connection));
                let about = about.map(|about| format!(" | {about}")).unwrap_or_default();
                format!(
                    "DETECTED {} ({}): {} | of {}{about}{}",
                    detection.rule.id,
                    detection.severity.name(),
                    detection.explanation,
                    detection.evidence_total,
                    lineage(*process)
                )
            }
            Fact::Lost(loss) => {
                let unit = match loss.unit {
                    LossUnit::Record => "record",
                    LossUnit::Event => "event",
                    LossUnit::Packet => "packet",
                };
                format!(
                    "lost {} {unit} at {}: {}",
                    loss.count, loss.stage, loss.kind
                )
            }
        }
    }
}

impl Sink for Transcript {
    fn observe(&mut self, observation: &Observation<'_>) {
        let fact = &observation.fact;
        let (text, cause) = (self.fact(fact), self.cause(fact));
        writeln!(self.text, "{} {text}{cause}", time(observation.time.0)).unwrap();
    }

    fn flush(&mut self) {}
}

/// ` held by 20, 21`.
fn held(holders: &[Arc<Image>]) -> String {
    let holders: Vec<String> = holders
        .iter()
        .map(|holder| holder.key.tgid.to_string())
        .collect();
    if holders.is_empty() {
        String::new()
    } else {
        format!(" held by {}", holders.join(", "))
    }
}

/// ` with 10.0.0.1:4000 to 10.0.0.2:80 sent 1 received 2`, for each further subflow.
fn paths(subflows: &[Subflow]) -> String {
    let path = |subflow: &Subflow| {
        let (local, remote) = (subflow.endpoints.local, subflow.endpoints.remote);
        let totals = subflow.totals.map(carried).unwrap_or_default();
        format!(" with {local} to {remote}{totals}")
    };
    subflows.iter().map(path).collect()
}

fn process(verb: &str, image: &Arc<Image>) -> String {
    format!("{verb} {}{}", image.key.tgid, lineage(Some(image)))
}

/// ` | curl < bash <? systemd`: `<` joins by birth, `<?` at present. Before it stands where the process is,
/// if that is known: the container and its runtime, or the path of the cgroup.
fn lineage(image: Option<&Arc<Image>>) -> String {
    let Some(image) = image else {
        return String::new();
    };
    let mut text = String::new();
    if let Some(cgroup) = &image.cgroup {
        match &cgroup.container {
            Some(Container { id, runtime }) => {
                let runtime = runtime.unwrap_or("container");
                write!(text, " in {runtime} {}", id[..8].escape_ascii())
            }
            None => write!(text, " in {}", cgroup.path.escape_ascii()),
        }
        .unwrap();
    }
    text.push_str(" | ");
    for image in image.lineage() {
        write!(text, "{}", image.name.as_bytes().escape_ascii()).unwrap();
        text.push_str(match image.parent {
            Parent::Known(Relation::Birth, _) => " < ",
            Parent::Known(Relation::Present, _) => " <? ",
            Parent::Root => "",
            Parent::Unknown => " < unknown",
            Parent::Cut => " < cut",
        });
    }
    text
}

fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Kernel => "kernel",
        Provenance::Procfs => "procfs",
        Provenance::Inferred => "inferred",
        Provenance::Unknown => "unknown",
    }
}

fn opening(opening: Opening) -> &'static str {
    match opening {
        Opening::Connect => "connect",
        Opening::Accept => "accept",
        Opening::AcceptExit => "accept exit",
        Opening::PeerName => "peer name",
        Opening::ConnectError => "connect error",
        Opening::Attempt => "attempt",
        Opening::State => "state",
        Opening::Inventory => "inventory",
        Opening::DatagramSent | Opening::DatagramReceived => "datagram",
        Opening::PacketSent | Opening::PacketWritten | Opening::PacketReceived => "packet",
    }
}

fn error(errno: Errno) -> String {
    let name = ERRNOS
        .iter()
        .find(|(_, number)| *number == errno.0)
        .map(|(name, _)| *name);
    name.map_or(format!(" errno {}", errno.0), |name| format!(" {name}"))
}

fn carried(totals: Totals) -> String {
    let rtt = totals
        .rtt_us
        .map(|rtt| format!(" rtt {rtt}us"))
        .unwrap_or_default();
    let again = totals.retransmits;
    let again = if again == 0 {
        String::new()
    } else {
        format!(" {again} retransmits")
    };
    format!(
        " sent {} received {}{rtt}{again}",
        totals.sent, totals.received
    )
}

fn duration(label: &str, ns: Option<u64>) -> String {
    ns.map_or(String::new(), |ns| format!("{label} {}", time(ns)))
}

/// In milliseconds, exactly.
fn time(ns: u64) -> String {
    let (ms, rest) = (ns / 1_000_000, ns % 1_000_000);
    if rest == 0 {
        return format!("{ms}ms");
    }
    format!("{ms}.{}ms", format!("{rest:06}").trim_end_matches('0'))
}
