//! What the rows of connections refer to: contacts, processes, endings.
//!
//! In: numbers of rows. Out: what stands there, read once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection as Database, Result, Row};

use crate::dns::names::{Domain, KnownFrom};
use crate::event::{Endpoints, Errno, Protocol, SocketId};
use crate::history::code::{Coded as _, flags};
use crate::history::reader::images::Images;
use crate::observation::{ConnState, Connection, ConnectionId, Direction, Opening};
use crate::process::image::{Image, Provenance};

/// Who talks to whom, as far as it is the same for many connections.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Who began it.
    pub direction: Direction,
    /// Above IP.
    pub protocol: Protocol,
    /// This end.
    pub local: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// The acceptor's.
    pub port: u16,
    /// The row of the lineage, where the owner is known.
    pub lineage: Option<i64>,
    netns: u32,
    domain: Option<Domain>,
    provenance: Provenance,
    opening: Opening,
    ipv6_socket: bool,
    existing: bool,
    mptcp: bool,
}

/// How connections end.
#[derive(Clone, Copy, Debug)]
pub(in crate::history::reader) struct Ended {
    pub(super) failed: bool,
    pub(super) state: ConnState,
    pub(super) errno: Option<Errno>,
    pub(super) retransmits: u32,
}

/// What rows refer to, as far as it has been read.
pub(in crate::history::reader) struct Referred {
    pub(in crate::history::reader) images: Images,
    contacts: HashMap<i64, Arc<Contact>, foldhash::fast::RandomState>,
    endings: HashMap<i64, Ended, foldhash::fast::RandomState>,
}

/// How many contacts are remembered.
const CONTACTS_MAX: usize = 65_536;

impl Referred {
    pub(in crate::history::reader) fn new(base: i64) -> Self {
        Self {
            images: Images::new(base),
            contacts: HashMap::default(),
            endings: HashMap::default(),
        }
    }

    pub(super) fn process(
        &mut self,
        database: &Database,
        row: Option<i64>,
    ) -> Result<Option<Arc<Image>>> {
        match row {
            Some(row) => self.images.image(database, row),
            None => Ok(None),
        }
    }

    /// A contact by its row.
    pub(in crate::history::reader) fn contact(
        &mut self,
        database: &Database,
        row: i64,
    ) -> Result<Arc<Contact>> {
        if let Some(contact) = self.contacts.get(&row) {
            return Ok(Arc::clone(contact));
        }
        let mut select = database.prepare_cached(
            "SELECT w.direction, w.protocol, w.local, k.remote, k.port, w.netns, k.domain, k.domain_known_from,
             w.provenance, w.opening, w.flags, k.lineage
             FROM contact k JOIN way w ON w.id = k.way WHERE k.id = ?1",
        )?;
        let images = &mut self.images;
        let contact = select.query_row([row], |row| {
            let mut address = |column| images.address(database, row.get(column)?);
            let (local, remote) = (address(2)?, address(3)?);
            let name = images.string(database, row.get(6)?)?;
            let known_from = KnownFrom::of_code(row.get::<_, Option<i64>>(7)?.unwrap_or(-1));
            let [ipv6_socket, existing, mptcp] = flags(row.get(10)?);
            Ok(Contact {
                direction: Direction::of_code(row.get(0)?).unwrap_or(Direction::Unknown),
                protocol: Protocol(row.get(1)?),
                local,
                remote,
                port: row.get(4)?,
                lineage: row.get(11)?,
                netns: row.get(5)?,
                domain: known_from.map(|known_from| Domain {
                    name: String::from_utf8_lossy(&name).into(),
                    known_from,
                }),
                provenance: Provenance::of_code(row.get(8)?).unwrap_or(Provenance::Unknown),
                opening: Opening::of_code(row.get(9)?).unwrap_or(Opening::Inventory),
                ipv6_socket,
                existing,
                mptcp,
            })
        })?;
        let contact = Arc::new(contact);
        if self.contacts.len() >= CONTACTS_MAX {
            self.contacts.clear();
        }
        self.contacts.insert(row, Arc::clone(&contact));
        Ok(contact)
    }

    pub(super) fn ending(&mut self, database: &Database, row: i64) -> Result<Ended> {
        if let Some(ending) = self.endings.get(&row) {
            return Ok(*ending);
        }
        let mut select = database
            .prepare_cached("SELECT failed, state, errno, retransmits FROM ending WHERE id = ?1")?;
        let ending = select.query_row([row], |row| {
            Ok(Ended {
                failed: row.get(0)?,
                state: ConnState::of_code(row.get(1)?).unwrap_or(ConnState::OTH),
                errno: row.get::<_, Option<u32>>(2)?.map(Errno),
                retransmits: row.get(3)?,
            })
        })?;
        if self.endings.len() >= CONTACTS_MAX {
            self.endings.clear();
        }
        self.endings.insert(row, ending);
        Ok(ending)
    }

    /// The connection of a row that begins with when it was first seen, a serial number, contact, process, and port;
    /// and its owner.
    pub(super) fn connection(
        &mut self,
        database: &Database,
        row: &Row<'_>,
    ) -> Result<(Connection, Option<Arc<Image>>)> {
        let id = self.id(row.get(0)?, row.get(1)?);
        let contact = self.contact(database, row.get(2)?)?;
        let process = self.process(database, row.get(3)?)?;
        let port = row.get::<_, i64>(4)? + 32_768;
        let port = u16::try_from(port).unwrap_or_default();
        let (local_port, remote_port) = match contact.direction {
            Direction::Ingress => (contact.port, port),
            Direction::Egress | Direction::Unknown => (port, contact.port),
        };
        let connection = Connection {
            id,
            socket: SocketId(0),
            protocol: contact.protocol,
            endpoints: Endpoints {
                netns: contact.netns,
                local: SocketAddr::new(contact.local, local_port),
                remote: SocketAddr::new(contact.remote, remote_port),
                ipv6_socket: contact.ipv6_socket,
            },
            direction: contact.direction,
            owner: process.as_ref().map(|image| image.key),
            owner_provenance: contact.provenance,
            opening: contact.opening,
            peer: None,
            opened_at: None,
            existing: contact.existing,
            cause: process.as_ref().and_then(|image| image.cause.clone()),
            mptcp: contact.mptcp,
            domain: contact.domain.clone(),
        };
        Ok((connection, process))
    }

    /// What led to a connection, where that is not what led to its owner.
    pub(super) fn own_cause(
        &mut self,
        database: &Database,
        connection: &mut Connection,
        row: Option<i64>,
    ) -> Result<()> {
        if let Some(cause) = self.images.cause(database, row)? {
            connection.cause = Some(cause);
        }
        Ok(())
    }

    pub(super) fn id(&self, first_seen: i64, serial: u32) -> ConnectionId {
        ConnectionId {
            first_seen_ns: self.images.time(first_seen).0,
            serial,
        }
    }

    pub(super) fn peer(
        &self,
        first_seen: Option<i64>,
        serial: Option<u32>,
    ) -> Option<ConnectionId> {
        Some(self.id(first_seen?, serial?))
    }
}

/// Rows of the contacts that have an address at one of their ends, and are wanted.
pub(in crate::history::reader) fn contacts(
    database: &Database,
    referred: &mut Referred,
    ip: IpAddr,
    wanted: &dyn Fn(&Contact) -> bool,
) -> Result<Vec<i64>> {
    let mut addresses = database.prepare_cached("SELECT id FROM string WHERE value = ?1")?;
    let addresses = addresses.query_map([ip.to_string()], |row| row.get(0))?;
    let mut found = Vec::new();
    for address in addresses {
        let address: i64 = address?;
        for select in [
            "SELECT id FROM contact WHERE remote = ?1",
            // Most addresses are none of this host.
            "SELECT id FROM contact WHERE EXISTS (SELECT 1 FROM way WHERE local = ?1)
             AND way IN (SELECT id FROM way WHERE local = ?1) AND remote <> ?1",
        ] {
            let mut select = database.prepare_cached(select)?;
            let mut rows = select.query([address])?;
            while let Some(row) = rows.next()? {
                let id = row.get(0)?;
                if wanted(&*referred.contact(database, id)?) {
                    found.push(id);
                }
            }
        }
    }
    Ok(found)
}
