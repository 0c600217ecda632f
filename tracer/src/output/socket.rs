//! Sockets as they are now, in columns for people.
//!
//! In: sockets with whoever holds them. Out: a table as that of ss(8), with the lineage of each owner. What
//! comes from the outside world reaches the terminal only as [`text::write_terminal`] leaves it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use super::lineage::write_lineage;
use super::{names, text};
use crate::event::{BootTime, Endpoints, Name, ProcessKey, TcpState, Totals, Transport};
use crate::observation::{Connection, Direction};
use crate::process::image::{Image, Provenance};

/// A socket, and everything that is known of who it belongs to.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Which protocol.
    pub transport: Transport,
    /// Its state; a UDP socket without a peer is in CLOSE.
    pub state: TcpState,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// Name of its network namespace, where it has one.
    pub netns_name: Option<String>,
    /// Whether this is the namespace of who asks.
    pub is_in_own_netns: bool,
    /// Whether a listener has its local port.
    pub is_ingress: bool,
    /// Whether somebody holds it, known or not.
    pub has_file: bool,
    /// Whether it is a connection over Multipath TCP, of which the ends are those of the first subflow.
    pub mptcp: bool,
    /// What waits to be read and to be acknowledged; `None` if unknown.
    pub queues: Option<(u32, u32)>,
    /// What it has carried so far; `None` if unknown.
    pub totals: Option<Totals>,
    /// What a daemon has seen of it.
    pub connection: Option<Connection>,
    /// Who opened it.
    pub owner: Option<Arc<Image>>,
    /// Where that is known from.
    pub owner_provenance: Provenance,
    /// Everyone who holds it.
    pub holders: Vec<Arc<Image>>,
}

impl Socket {
    /// Whether it waits for whoever comes.
    pub fn is_listening(&self) -> bool {
        match self.transport {
            Transport::Tcp => self.state == TcpState::Listen,
            Transport::Udp => self.state == TcpState::Close,
        }
    }

    /// Who began it, as far as that was seen or follows from a listener at its port.
    pub fn direction(&self) -> Direction {
        match self.connection.as_ref().map(|known| known.direction) {
            Some(direction) if direction != Direction::Unknown => direction,
            _ if self.is_ingress => Direction::Ingress,
            _ => Direction::Unknown,
        }
    }

    /// When connect, accept or listen was called, if that was seen.
    pub fn opened_at(&self) -> Option<BootTime> {
        let known = self.connection.as_ref()?;
        let first_seen = BootTime(known.id.first_seen_ns);
        let seen = known.opened_at.or(Some(first_seen));
        seen.filter(|_| !known.existing)
    }

    /// Everyone who holds it but its owner.
    pub fn other_holders(&self) -> Vec<&Arc<Image>> {
        let is_other = |holder: &&Arc<Image>| {
            let owner = self.owner.as_ref();
            owner.is_none_or(|owner| owner.key != holder.key)
        };
        self.holders.iter().filter(is_other).collect()
    }
}

/// Titles of the columns.
const TITLES: [&str; 8] = [
    "Netid", "State", "Recv-Q", "Send-Q", "Local", "Peer", "Owner", "Lineage",
];

/// The table of all `sockets`.
pub fn table(sockets: &[Socket]) -> String {
    let titles = TITLES.map(str::to_owned);
    let rows: Vec<[String; 8]> = std::iter::once(titles)
        .chain(sockets.iter().map(columns))
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let begin = table.len();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(table, "{cell:width$}  ");
        }
        let line = table[begin..].trim_end().len();
        table.truncate(begin + line);
        table.push('\n');
    }
    table
}

fn columns(socket: &Socket) -> [String; 8] {
    let queue = |bytes: Option<u32>| bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    [
        names::transport(socket.transport).to_owned(),
        names::socket_state(socket.state).0.to_owned(),
        queue(socket.queues.map(|queues| queues.0)),
        queue(socket.queues.map(|queues| queues.1)),
        end(socket.endpoints.local),
        end(socket.endpoints.remote),
        owner(socket),
        lineage(socket),
    ]
}

pub(in crate::output) fn end(end: SocketAddr) -> String {
    match (end.ip().is_unspecified(), end.port()) {
        (true, 0) => "*:*".to_owned(),
        (_, 0) => format!("{}:*", end.ip()),
        _ => end.to_string(),
    }
}

/// A question mark for whoever is only believed to have opened it.
fn owner(socket: &Socket) -> String {
    match (&socket.owner, socket.has_file) {
        (Some(owner), _) if socket.owner_provenance == Provenance::Kernel => process(owner),
        (Some(owner), _) => process(owner) + "?",
        (None, true) => "?".to_owned(),
        (None, false) => "-".to_owned(),
    }
}

/// The lineage, then who else holds it, then where.
fn lineage(socket: &Socket) -> String {
    let mut parts = Vec::new();
    if let Some(owner) = &socket.owner {
        let mut raw = Vec::new();
        write_lineage(owner, &mut raw);
        parts.push(safe(&raw));
    }
    let others = socket.other_holders();
    let others: Vec<String> = others.into_iter().map(|holder| process(holder)).collect();
    if !others.is_empty() {
        let word = if socket.owner.is_some() {
            "also held by"
        } else {
            "held by"
        };
        parts.push(format!("{word} {}", others.join(", ")));
    }
    if !socket.is_in_own_netns {
        let netns = match &socket.netns_name {
            Some(name) => safe(name.as_bytes()),
            None => socket.endpoints.netns.to_string(),
        };
        parts.push(format!("in netns {netns}"));
    }
    parts.join("; ")
}

pub(in crate::output) fn process(image: &Image) -> String {
    named(image.name, image.key)
}

pub(in crate::output) fn named(name: Name, key: ProcessKey) -> String {
    let name = match name.as_bytes() {
        b"" => "?".to_owned(),
        name => safe(name),
    };
    format!("{name}[{}]", key.tgid)
}

pub(in crate::output) fn safe(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    text::write_terminal(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tgid: u32, name: &[u8]) -> Arc<Image> {
        Arc::new(Image::sample(tgid, name))
    }

    fn socket(local: &str, state: TcpState, holders: &[Arc<Image>]) -> Socket {
        Socket {
            transport: Transport::Tcp,
            state,
            endpoints: Endpoints {
                netns: 7,
                local: local.parse().unwrap(),
                remote: "0.0.0.0:0".parse().unwrap(),
                ipv6_socket: false,
            },
            netns_name: None,
            is_in_own_netns: true,
            is_ingress: false,
            has_file: !holders.is_empty(),
            mptcp: false,
            queues: Some((0, 128)),
            totals: None,
            connection: None,
            owner: holders.first().cloned(),
            owner_provenance: Provenance::Inferred,
            holders: holders.to_vec(),
        }
    }

    #[test]
    fn columns_are_aligned_and_nothing_in_them_is_obeyed() {
        let evil = image(5, b"a\x1b[2Jb");
        let elsewhere = Socket {
            is_in_own_netns: false,
            owner: None,
            ..socket("10.0.0.1:8080", TcpState::Listen, &[evil, image(6, b"b")])
        };
        let table = table(&[socket("0.0.0.0:80", TcpState::Listen, &[]), elsewhere]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "Netid  State   Recv-Q  Send-Q  Local          Peer  Owner  Lineage",
                "tcp    LISTEN  0       128     0.0.0.0:80     *:*   -",
                "tcp    LISTEN  0       128     10.0.0.1:8080  *:*   ?      held by a\\u{1b}[2Jb[5], b[6]; in netns 7",
            ]
        );
    }
}
