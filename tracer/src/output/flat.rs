//! Connections and flows in one flat shape, for formats that have columns instead of documents.
//!
//! In: records. Out: for each the same facts, with the initiator as source. What is not known is `None`.

use std::sync::Arc;

use super::action::Action;
use super::json::community::CommunityIds;
use super::record::{End, Record};
use super::users::Users;
use super::{Context, names, past, protocol, text};
use crate::clock::WallOffset;
use crate::event::{BootTime, Errno, Protocol, Totals};
use crate::identity::{Id, Identities};
use crate::observation::{Connection, Direction};
use crate::process::content::{Origin, Package};
use crate::process::image::Image;

/// What is known of a connection or a flow.
pub struct Flat<'a> {
    /// The same, of this host's side.
    pub connection: &'a Connection,
    /// When it was first seen, in nanoseconds since 1970.
    pub first_seen: i64,
    /// When connect or accept was called, or the first datagram seen.
    pub opened: Option<i64>,
    /// When it ended, failed, or was last seen, as a flow.
    pub ended: Option<i64>,
    /// In nanoseconds.
    pub duration_ns: Option<u64>,
    /// The protocol above IP, where it has a name.
    pub transport: Option<&'static str>,
    /// The initiator.
    pub source: End,
    /// The acceptor.
    pub destination: End,
    /// Zeek's letters; of a TCP connection alone.
    pub state: Option<&'static str>,
    /// Why it failed or ended.
    pub error: Option<String>,
    /// What only TCP has.
    pub totals: Option<Totals>,
    /// See [`Identities::connection`].
    pub id: Id,
    /// The other end's, if that is on this host.
    pub peer_id: Option<Id>,
    /// The hash of both ends, as other tools have it.
    pub community_id: Option<String>,
    /// The name by which its destination was asked for, and by whom.
    pub domain: Option<(String, &'static str)>,
    /// Whose it is.
    pub owner: Option<Owner>,
}

/// Whose something is.
#[derive(Clone)]
pub struct Owner {
    /// Its PID.
    pub pid: u32,
    /// See [`Identities::process`].
    pub entity_id: String,
    /// The name of its main thread.
    pub name: String,
    /// What it runs.
    pub executable: Option<String>,
    /// With its arguments.
    pub command_line: Option<String>,
    /// Effective user.
    pub user_id: Option<u32>,
    /// The user's name.
    pub user: Option<String>,
    /// The package of what it runs, and its version.
    pub package: Option<(String, String)>,
    /// Whether no package has what it runs.
    pub unpackaged: Option<bool>,
    /// SHA-256 of what it runs.
    pub sha256: Option<String>,
    /// The container that it is in.
    pub container: Option<String>,
    /// From itself to the first ancestor.
    pub lineage: String,
    /// Whether that reaches PID 1 or 2.
    pub lineage_complete: bool,
}

/// Makes records flat.
pub struct Flattener {
    identities: Identities,
    offset: WallOffset,
    users: Users,
    community_ids: CommunityIds,
    /// The last owner: connections come in crowds.
    last: Option<(Arc<Image>, Owner)>,
}

impl Flattener {
    /// For records of this host.
    pub fn new(context: Context) -> Self {
        Self {
            identities: Identities::new(context.host.boot_id),
            offset: context.offset,
            users: context.users,
            community_ids: CommunityIds::new(),
            last: None,
        }
    }

    /// What a record says of a connection or a flow; `None` if it is about something else.
    pub fn flat<'a>(&mut self, record: &Record<'a>) -> Option<Flat<'a>> {
        let connection = record.connection.filter(|_| !record.is_listener())?;
        let ends = record.ends();
        let unix = |time| self.offset.unix_nanoseconds(time);
        let is_over = matches!(
            record.action,
            Action::ConnectionClosed | Action::ConnectionFailed | Action::DatagramFlow
        );
        let opened = connection.opened_at;
        let lasted = || Some(record.time.since(opened?)).filter(|_| is_over);
        let community_id = match (ends.source.address(), ends.destination.address()) {
            (Some(source), Some(destination)) => {
                self.community_ids
                    .of(connection.protocol, source, destination)
            }
            _ => None,
        };
        Some(Flat {
            connection,
            first_seen: unix(BootTime(connection.id.first_seen_ns)),
            opened: opened.map(unix),
            ended: is_over.then(|| unix(record.time)),
            duration_ns: record.duration_ns.or_else(lasted),
            transport: protocol::of(connection.protocol),
            source: ends.source,
            destination: ends.destination,
            state: record
                .state
                .filter(|_| connection.protocol == Protocol::TCP)
                .map(names::state),
            error: record.errno.map(errno),
            totals: record.totals,
            id: self.identities.connection(connection.id),
            peer_id: connection.peer.map(|peer| self.identities.connection(peer)),
            community_id: community_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            domain: connection.domain.as_ref().map(|domain| {
                (
                    domain.name.to_string(),
                    names::known_from(domain.known_from),
                )
            }),
            owner: record.process.map(|image| self.owner(image)),
        })
    }

    fn owner(&mut self, image: &Arc<Image>) -> Owner {
        if let Some((last, owner)) = &self.last
            && Arc::ptr_eq(last, image)
        {
            return owner.clone();
        }
        let owner = self.owner_of(image);
        self.last = Some((Arc::clone(image), owner.clone()));
        owner
    }

    fn owner_of(&mut self, image: &Image) -> Owner {
        let program = &image.program;
        let facts = program.facts();
        let package = match facts.map(|facts| &facts.origin) {
            Some(Origin::Package(package)) => Some(package_of(package)),
            _ => None,
        };
        let container = image.container();
        Owner {
            pid: image.key.tgid,
            entity_id: self
                .identities
                .process(image.key, image.key_rounded)
                .to_string(),
            name: readable(image.name.as_bytes()),
            executable: some(&program.executable),
            command_line: program.arguments.as_deref().map(command_line),
            user_id: image.euid,
            user: self.users.of(image, BootTime(0)).map(str::to_owned),
            package,
            unpackaged: facts.and_then(|facts| match facts.origin {
                Origin::Unpackaged => Some(true),
                Origin::Package(_) => Some(false),
                Origin::Unknown => None,
            }),
            sha256: Some(past::sha256_of(image)).filter(|hash| !hash.is_empty()),
            container: container.map(|container| readable(&container.id)),
            lineage: past::lineage_of(image),
            lineage_complete: image.lineage_complete(),
        }
    }
}

fn package_of(package: &Package) -> (String, String) {
    (readable(&package.name), readable(&package.version))
}

fn errno(errno: Errno) -> String {
    names::errno(errno).map_or_else(|| errno.0.to_string(), str::to_owned)
}

/// In which way a connection goes, in the words of JSON's `network.direction`.
pub fn direction(direction: Direction) -> &'static str {
    names::direction(direction)
}

fn some(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| readable(bytes))
}

/// Arguments with spaces between them.
pub fn command_line(arguments: &[u8]) -> String {
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    let parts: Vec<String> = arguments.split(|&byte| byte == 0).map(readable).collect();
    parts.join(" ")
}

/// Text as it is, where it is text; a byte that is not as `\xHH`.
pub fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut readable = String::new();
            for chunk in bytes.utf8_chunks() {
                readable += chunk.valid();
                for byte in chunk.invalid() {
                    readable += &format!("\\x{byte:02x}");
                }
            }
            readable
        }
    }
}

/// Whether a character could command a terminal or turn the direction of what follows.
pub fn is_unsafe(character: char) -> bool {
    text::is_unsafe_on_a_terminal(character)
}
