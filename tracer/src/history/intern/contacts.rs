//! Who talks to whom, and how that ends.
//!
//! In: connections. Out: the numbers of the rows that many of them share.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use rusqlite::{Connection, Result, params};

use super::{CONTACTS_MAX, Interned, OTHERS_MAX, Written};
use crate::event::Protocol;
use crate::history::code::{Coded as _, bits};
use crate::history::item::End;
use crate::observation::{ConnState, Connection as Traced, Direction, Opening};
use crate::process::image::Provenance;

/// How a connection came to be, from which address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Way {
    direction: Direction,
    protocol: Protocol,
    local: IpAddr,
    netns: u32,
    provenance: Provenance,
    opening: Opening,
    ipv6_socket: bool,
    existing: bool,
    mptcp: bool,
}

/// Who talks to whom, as far as it is the same for many connections.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Contact {
    lineage: Option<i64>,
    way: i64,
    remote: IpAddr,
    port: u16,
    domain: Option<(i64, i64)>,
}

/// The row of a contact, and what is not written in it yet: what its connections that have ended amount to.
pub(in crate::history) struct Counted {
    pub(in crate::history) row: i64,
    count: u64,
    failed: u64,
    first: i64,
    last: i64,
    sent: u64,
    received: u64,
}

impl Counted {
    fn new(row: i64) -> Self {
        Self {
            row,
            count: 0,
            failed: 0,
            first: i64::MAX,
            last: i64::MIN,
            sent: 0,
            received: 0,
        }
    }

    /// Adds a connection that was there for some time, in the file's times.
    pub(in crate::history) fn add(&mut self, end: &End, there: RangeInclusive<i64>) {
        self.count += 1;
        self.failed += u64::from(end.failed);
        self.first = self.first.min(*there.start());
        self.last = self.last.max(*there.end());
        if let Some(totals) = &end.totals {
            self.sent = self.sent.saturating_add(totals.sent);
            self.received = self.received.saturating_add(totals.received);
        }
    }
}

impl Interned {
    /// The row of how connections end.
    pub(in crate::history) fn ending(
        &mut self,
        database: &Connection,
        (failed, state, errno, retransmits): (bool, ConnState, Option<u32>, u32),
    ) -> Result<i64> {
        let key = (failed, state, errno, retransmits);
        if let Some(&row) = self.endings.0.get(&key) {
            return Ok(row);
        }
        let mut insert = database.prepare_cached(
            "INSERT INTO ending (failed, state, errno, retransmits) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let row = insert.insert(params![failed, state.code(), errno, retransmits])?;
        self.endings.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    /// The row of who talks to whom, and the port that is not part of it, which is the initiator's.
    pub(in crate::history) fn contact(
        &mut self,
        database: &Connection,
        traced: &Traced,
        owner: Option<Written>,
    ) -> Result<(&mut Counted, u16)> {
        let (local, remote) = (traced.endpoints.local, traced.endpoints.remote);
        let (port, other) = match traced.direction {
            Direction::Ingress => (local.port(), remote.port()),
            Direction::Egress | Direction::Unknown => (remote.port(), local.port()),
        };
        let domain = match &traced.domain {
            Some(domain) => {
                let name = self.string(database, domain.name.as_bytes())?;
                name.map(|name| (name, domain.known_from.code()))
            }
            None => None,
        };
        let way = self.way(database, traced)?;
        let key = Contact {
            lineage: owner.map(|owner| owner.lineage),
            way,
            remote: remote.ip(),
            port,
            domain,
        };
        if let Some(&place) = self.contacts.0.get(&key) {
            return Ok((&mut self.counted[place], other));
        }
        let remote = self.string(database, remote.ip().to_string().as_bytes())?;
        let mut insert = database.prepare_cached(
            "INSERT INTO contact (lineage, way, remote, port, domain, domain_known_from)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let row = insert.insert(params![
            key.lineage,
            way,
            remote,
            port,
            domain.map(|(name, _)| name),
            domain.map(|(_, known_from)| known_from),
        ])?;
        if self.counted.len() >= CONTACTS_MAX {
            self.add_up(database)?;
            self.contacts.0.clear();
        }
        let place = self.counted.len();
        self.contacts.remember(key, place, CONTACTS_MAX);
        self.counted.push(Counted::new(row));
        Ok((&mut self.counted[place], other))
    }

    /// Writes down what contacts amount to, and forgets it.
    pub(in crate::history) fn add_up(&mut self, database: &Connection) -> Result<()> {
        let mut update = database.prepare_cached(
            "UPDATE contact SET count = ?2, failed = ?3, first = ?4, last = ?5, sent = ?6, received = ?7
             WHERE id = ?1",
        )?;
        for contact in self.counted.drain(..).filter(|contact| contact.count > 0) {
            update.execute(params![
                contact.row,
                contact.count.cast_signed(),
                contact.failed.cast_signed(),
                contact.first,
                contact.last,
                contact.sent.cast_signed(),
                contact.received.cast_signed(),
            ])?;
        }
        Ok(())
    }

    fn way(&mut self, database: &Connection, traced: &Traced) -> Result<i64> {
        let way = Way {
            direction: traced.direction,
            protocol: traced.protocol,
            local: traced.endpoints.local.ip(),
            netns: traced.endpoints.netns,
            provenance: traced.owner_provenance,
            opening: traced.opening,
            ipv6_socket: traced.endpoints.ipv6_socket,
            existing: traced.existing,
            mptcp: traced.mptcp,
        };
        if let Some(&row) = self.ways.0.get(&way) {
            return Ok(row);
        }
        let local = self.string(database, way.local.to_string().as_bytes())?;
        let mut insert = database.prepare_cached(
            "INSERT INTO way (direction, protocol, local, netns, provenance, opening, flags)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let row = insert.insert(params![
            way.direction.code(),
            way.protocol.0,
            local,
            way.netns,
            way.provenance.code(),
            way.opening.code(),
            bits([way.ipv6_socket, way.existing, way.mptcp]),
        ])?;
        self.ways.remember(way, row, OTHERS_MAX);
        Ok(row)
    }
}
