//! A socket as a line of the picture.

use super::Marks;
use crate::event::BootTime;
use crate::observation::Direction;
use crate::output::names;
use crate::output::socket::{Socket, end, process, safe};
use crate::process::image::Provenance;
use crate::quantity;

/// Between which ends, in which state, how old it is, what it has carried, and whose it is.
pub(super) fn described(socket: &Socket, marks: &Marks, now: BootTime) -> String {
    let transport = if socket.mptcp {
        "mptcp"
    } else {
        names::transport(socket.transport)
    };
    let mut parts = vec![
        format!("{transport} {}", ends(socket, marks)),
        names::socket_state(socket.state).0.to_owned(),
    ];
    let opened_at = socket.opened_at();
    parts.extend(opened_at.map(|at| quantity::duration(now.since(at))));
    if let Some(totals) = socket.totals.filter(|_| !socket.is_listening()) {
        let [sent, received] = [totals.sent, totals.received].map(quantity::bytes);
        parts.push(format!("sent {sent}, received {received}"));
    }
    let remarks = remarks(socket).join("; ");
    if !remarks.is_empty() {
        parts.push(format!("({remarks})"));
    }
    parts.join("  ")
}

/// The initiator stands before the arrow, as in compact lines.
fn ends(socket: &Socket, marks: &Marks) -> String {
    let [local, remote] = [socket.endpoints.local, socket.endpoints.remote].map(end);
    let Marks {
        arrow, both_ways, ..
    } = marks;
    match socket.direction() {
        _ if socket.is_listening() => local,
        Direction::Egress => format!("{local} {arrow} {remote}"),
        Direction::Ingress => format!("{remote} {arrow} {local}"),
        Direction::Unknown => format!("{local} {both_ways} {remote}"),
    }
}

/// How sure its owner is, who else holds it, and where it is.
fn remarks(socket: &Socket) -> Vec<String> {
    let mut remarks = Vec::new();
    let held = match (&socket.owner, socket.owner_provenance) {
        (None, _) => {
            remarks.push("owner ?".to_owned());
            "held by"
        }
        (Some(_), Provenance::Kernel) => "also held by",
        (Some(_), _) => {
            remarks.push("inferred".to_owned());
            "also held by"
        }
    };
    if let [first, rest @ ..] = &socket.other_holders()[..] {
        let more = match rest.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        remarks.push(format!("{held} {}{more}", process(first)));
    }
    if !socket.is_in_own_netns {
        let netns = match &socket.netns_name {
            Some(name) => safe(name.as_bytes()),
            None => socket.endpoints.netns.to_string(),
        };
        remarks.push(format!("in netns {netns}"));
    }
    remarks
}
