//! Connections, listeners and flows, out of the lines of a recording.
//!
//! In: the members of a line about ends and owner. Out: connections, totals and subflows, as a socket sees them.

use std::sync::Arc;

use super::document::{Document, End, Network};
use super::error::LineError;
use super::words::{self, Ids};
use crate::dns::names::Domain;
use crate::event::{BootTime, Endpoints, FlowTotals, Protocol, SocketId, Totals};
use crate::observation::{Connection, Direction, FlowStage, Opening, Subflow};
use crate::output::action::Action;
use crate::output::names;
use crate::process::cause::Cause;
use crate::process::image::Image;

type Result<T> = std::result::Result<T, LineError>;

/// What a line is about. When it was opened follows from its action, and is left open.
pub(super) fn connection(
    document: &Document<'_>,
    action: Action,
    process: Option<&Arc<Image>>,
    cause: Option<Arc<Cause>>,
    ids: &mut Ids,
) -> Result<Connection> {
    const ID: &str = "tracer.connection_id";
    const PROVENANCE: &str = "tracer.owner_provenance";
    let tracer = &document.tracer;
    let id = tracer.connection_id.as_ref();
    let network = network(document)?;
    let protocol = protocol(network)?;
    let direction = direction(network)?;
    let hook = tracer.hook.as_deref();
    let hook = hook.map(|hook| words::plain("tracer.hook", hook));
    let hook = hook.transpose()?;
    // Where no hook is named, none was attached for the first of all ways.
    let (opening, family) = hook.map_or((Opening::Attempt, None), |hook| {
        words::opening(hook, protocol)
    });
    let mut endpoints = endpoints(document, action, direction)?;
    endpoints.ipv6_socket = family.unwrap_or(endpoints.ipv6_socket);
    let provenance = tracer.owner_provenance.as_ref();
    let peer = match &tracer.peer_connection_id {
        Some(id) => Some(ids.connection("tracer.peer_connection_id", id)?),
        None => None,
    };
    Ok(Connection {
        id: ids.connection(ID, id.ok_or(LineError::Missing(ID))?)?,
        socket: SocketId(0),
        protocol,
        endpoints,
        direction,
        owner: process.map(|image| image.key),
        owner_provenance: words::word(
            PROVENANCE,
            provenance.ok_or(LineError::Missing(PROVENANCE))?,
            names::provenance,
        )?,
        opening,
        peer,
        opened_at: None,
        existing: tracer.existing,
        cause,
        mptcp: tracer.mptcp,
        domain: domain(document)?,
    })
}

/// When it was opened, by what its action tells: exactly for what was accepted or has ended; for what was connected
/// from when it was first seen, which is no later.
pub(super) fn opened_at(
    action: Action,
    connection: &Connection,
    time: BootTime,
    duration_ns: Option<u64>,
) -> Option<BootTime> {
    let first_seen = BootTime(connection.id.first_seen_ns);
    match action {
        Action::ConnectionClosed => Some(BootTime(time.0.saturating_sub(duration_ns?))),
        Action::ConnectionAccepted => Some(time),
        _ if connection.existing || connection.owner.is_none() => None,
        _ => Some(first_seen),
    }
}

fn network<'d, 'a>(document: &'d Document<'a>) -> Result<&'d Network<'a>> {
    let network = document.network.as_ref();
    network.ok_or(LineError::Missing("network"))
}

fn protocol(network: &Network<'_>) -> Result<Protocol> {
    match (&network.iana_number, network.transport.as_deref()) {
        (Some(number), _) => words::number("network.iana_number", number).map(Protocol),
        (None, Some("tcp")) => Ok(Protocol::TCP),
        (None, Some("udp")) => Ok(Protocol::UDP),
        (None, _) => Err(LineError::Missing("network.iana_number")),
    }
}

fn direction(network: &Network<'_>) -> Result<Direction> {
    const FIELD: &str = "network.direction";
    let word = network.direction.as_ref();
    words::word(
        FIELD,
        word.ok_or(LineError::Missing(FIELD))?,
        names::direction,
    )
}

/// Between which ends, as the socket sees them. Whether that is one for IPv6 is told by its local end.
pub(super) fn endpoints(
    document: &Document<'_>,
    action: Action,
    direction: Direction,
) -> Result<Endpoints> {
    let is_ipv4 = match network(document)?.family.as_deref() {
        Some("ipv4") => true,
        Some("ipv6") => false,
        _ => return Err(LineError::wrong("network.type", "ipv4 or ipv6")),
    };
    let [source, destination] =
        [&document.source, &document.destination].map(|end| words::address(end, is_ipv4));
    if action.is_about_listener() && document.destination.ip.is_none() {
        return Err(LineError::Missing("destination.ip"));
    }
    let (local, remote) = match direction {
        _ if action.is_about_listener() => (destination, words::address(&End::default(), is_ipv4)),
        Direction::Ingress => (destination, source),
        Direction::Egress | Direction::Unknown => (source, destination),
    };
    Ok(Endpoints {
        netns: document.tracer.netns.as_ref().map_or(0, |netns| netns.id),
        local,
        remote,
        ipv6_socket: local.is_ipv6(),
    })
}

fn domain(document: &Document<'_>) -> Result<Option<Domain>> {
    const FIELD: &str = "tracer.provenance.destination.domain";
    let Some(name) = &document.destination.domain else {
        return Ok(None);
    };
    let known_from = document.tracer.provenance.domain.as_ref();
    Ok(Some(Domain {
        name: words::printable("destination.domain", name)?.into(),
        known_from: words::word(
            FIELD,
            known_from.ok_or(LineError::Missing(FIELD))?,
            names::known_from,
        )?,
    }))
}

/// The local end, then the remote one.
fn ends<'d, 'a>(
    direction: Direction,
    source: &'d End<'a>,
    destination: &'d End<'a>,
) -> [&'d End<'a>; 2] {
    match direction {
        Direction::Ingress => [destination, source],
        Direction::Egress | Direction::Unknown => [source, destination],
    }
}

/// What a connection carried, if that is told.
pub(super) fn totals(document: &Document<'_>, direction: Direction) -> Option<Totals> {
    let [local, remote] = ends(direction, &document.source, &document.destination);
    Some(Totals {
        sent: local.bytes?,
        received: remote.bytes?,
        rtt_us: document.tracer.rtt_us,
        retransmits: document.tracer.retransmits.unwrap_or_default(),
    })
}

/// What a flow has carried until `time`, when it was last seen.
pub(super) fn flow_totals(
    document: &Document<'_>,
    direction: Direction,
    time: BootTime,
) -> Result<FlowTotals> {
    let [local, remote] = ends(direction, &document.source, &document.destination);
    let counts = |end: &End<'_>| Some((end.packets?, end.bytes?));
    let (Some((sent_packets, sent_bytes)), Some((received_packets, received_bytes))) =
        (counts(local), counts(remote))
    else {
        return Err(LineError::Missing("bytes or packets of an end"));
    };
    Ok(FlowTotals {
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
        last: time,
    })
}

/// Whether a flow begins, goes on or ends.
pub(super) fn stage(document: &Document<'_>) -> Result<FlowStage> {
    let mut types = document.event.types.iter();
    let stage = types.find_map(|word| match &**word {
        "start" => Some(FlowStage::Start),
        "info" => Some(FlowStage::Info),
        "end" => Some(FlowStage::End),
        _ => None,
    });
    stage.ok_or(LineError::wrong(
        "event.type",
        "a list with one of start, info, end",
    ))
}

/// The further paths of a connection.
pub(super) fn subflows(document: &Document<'_>, connection: &Connection) -> Vec<Subflow> {
    let subflows = document.tracer.subflows.iter();
    let subflow = |subflow: &super::document::Subflow<'_>| {
        let ends = ends(connection.direction, &subflow.source, &subflow.destination);
        let is_ipv4 = ends.iter().any(|end| end.ip.is_some_and(|ip| ip.is_ipv4()));
        let [local, remote] = ends.map(|end| words::address(end, is_ipv4));
        Subflow {
            endpoints: Endpoints {
                local,
                remote,
                ..connection.endpoints
            },
            totals: ends[0]
                .bytes
                .zip(ends[1].bytes)
                .map(|(sent, received)| Totals {
                    sent,
                    received,
                    ..Totals::default()
                }),
        }
    };
    subflows.map(subflow).collect()
}
