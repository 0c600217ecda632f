//! Connections, listeners and flows of datagrams, while they are written.
//!
//! In: what happened to one of them. Out: its row.

use std::sync::Arc;

use rusqlite::{Result, params};
use serde_json::json;

use super::Batch;
use crate::event::{BootTime, Endpoints, FlowTotals, Totals};
use crate::history::code::Coded as _;
use crate::history::intern::Written;
use crate::history::item::End;
use crate::observation::{Connection as Traced, ConnectionId, FlowStage, Subflow};
use crate::process::image::Image;

/// Writes a connection that has ended.
pub(super) const INSERT_ENDED: &str =
    "INSERT INTO connection (ended, contact, process, port, age, delay, sent, received, rtt,
    ending, serial) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

impl Batch<'_> {
    /// Writes a connection that is open.
    pub(in crate::history) fn open(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, port) = self.contact(traced, owner)?;
        let cause = self.own_cause(traced, process)?;
        let peer = traced
            .peer
            .map(|peer| (self.interned.time(peer.first_seen_ns), peer.serial));
        let mut insert = self.database.prepare_cached(
            "INSERT OR REPLACE INTO open (first_seen, serial, contact, process, port, opened, cause,
             peer_first_seen, peer_serial) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(traced.id.first_seen_ns),
            traced.id.serial,
            contact,
            owner.map(|owner| owner.row),
            signed(port),
            traced.opened_at.map(|time| self.interned.time(time.0)),
            cause,
            peer.map(|(first_seen, _)| first_seen),
            peer.map(|(_, serial)| serial),
        ]);
        inserted.map(drop)
    }

    /// A connection is no longer open.
    pub(in crate::history) fn forget_open(&mut self, id: ConnectionId) -> Result<()> {
        let first_seen = self.interned.time(id.first_seen_ns);
        let mut delete = self
            .database
            .prepare_cached("DELETE FROM open WHERE first_seen = ?1 AND serial = ?2")?;
        delete.execute(params![first_seen, id.serial]).map(drop)
    }

    /// Writes a connection that has ended. `opener` is the owner's image when it opened.
    pub(in crate::history) fn ended(
        &mut self,
        time: BootTime,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        opener: Option<&Arc<Image>>,
        end: &End,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let totals = end.totals;
        let retransmits = totals.map_or(0, |totals| totals.retransmits);
        let errno = end.errno.map(|errno| errno.0);
        let ending = (end.failed, end.state, errno, retransmits);
        let ending = self.interned.ending(self.database, ending)?;
        let first_seen = self.interned.time(traced.id.first_seen_ns);
        let delay = match traced.opened_at {
            Some(opened) => Some(self.interned.time(opened.0) - first_seen),
            None => None,
        };
        let ended = self.interned.time(time.0);
        // What is out of order, or of the same nanosecond, takes the next place that is free.
        let mut key = ended;
        if ended <= *self.last_ended {
            key = self.free_key(ended)?;
        }
        *self.last_ended = key.max(*self.last_ended);
        let (contact, port) = self.interned.contact(self.database, traced, owner)?;
        contact.add(end, first_seen..=key);
        self.insert_ended.execute(params![
            key,
            contact.row,
            owner.map(|owner| owner.row),
            signed(port),
            key - first_seen,
            delay,
            totals.map(|totals: Totals| totals.sent.cast_signed()),
            totals.map(|totals| totals.received.cast_signed()),
            totals.and_then(|totals| totals.rtt_us),
            ending,
            traced.id.serial,
        ])?;
        *self.rows += 1;
        self.more(key, traced, process, opener, &end.subflows)
    }

    /// The row of a contact, and the port that is not part of it.
    pub(super) fn contact(
        &mut self,
        traced: &Traced,
        owner: Option<Written>,
    ) -> Result<(i64, u16)> {
        let (contact, port) = self.interned.contact(self.database, traced, owner)?;
        Ok((contact.row, port))
    }

    fn free_key(&self, ended: i64) -> Result<i64> {
        let mut taken = self
            .database
            .prepare_cached("SELECT 1 FROM connection WHERE ended = ?1")?;
        let mut key = ended;
        while taken.exists([key])? {
            key += 1;
        }
        Ok(key)
    }

    /// What most connections do not have.
    fn more(
        &mut self,
        key: i64,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        opener: Option<&Arc<Image>>,
        subflows: &[Subflow],
    ) -> Result<()> {
        let same = match (process, opener) {
            (Some(process), Some(opener)) => Arc::ptr_eq(process, opener),
            _ => true,
        };
        let opener = if same { None } else { self.owner(opener)? };
        let cause = self.own_cause(traced, process)?;
        if opener.is_none() && cause.is_none() && traced.peer.is_none() && subflows.is_empty() {
            return Ok(());
        }
        let peer = traced
            .peer
            .map(|peer| (self.interned.time(peer.first_seen_ns), peer.serial));
        let subflows: Vec<_> = subflows.iter().map(subflow).collect();
        let subflows = (!subflows.is_empty()).then(|| json!(subflows).to_string());
        let mut insert = self.database.prepare_cached(
            "INSERT INTO more (ended, opener, cause, peer_first_seen, peer_serial, subflows)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let inserted = insert.execute(params![
            key,
            opener.map(|opener| opener.row),
            cause,
            peer.map(|(first_seen, _)| first_seen),
            peer.map(|(_, serial)| serial),
            subflows,
        ]);
        inserted.map(drop)
    }

    /// The row of what led to a connection, unless it is what led to its owner.
    pub(super) fn own_cause(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
    ) -> Result<Option<i64>> {
        let of_owner = process.and_then(|image| image.cause.as_ref());
        let own = traced
            .cause
            .as_ref()
            .filter(|cause| of_owner.is_none_or(|of_owner| !Arc::ptr_eq(cause, of_owner)));
        self.interned.cause(self.database, own)
    }

    /// Writes a listener, or that it has ceased to listen.
    pub(in crate::history) fn listener(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        closed: Option<BootTime>,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, _) = self.contact(traced, owner)?;
        let mut insert = self.database.prepare_cached(
            "INSERT OR REPLACE INTO listener (first_seen, serial, contact, process, opened, closed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(traced.id.first_seen_ns),
            traced.id.serial,
            contact,
            owner.map(|owner| owner.row),
            traced.opened_at.map(|time| self.interned.time(time.0)),
            closed.map(|time| self.interned.time(time.0)),
        ]);
        inserted.map(drop)
    }

    pub(super) fn flow(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        stage: FlowStage,
        totals: &FlowTotals,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, port) = self.contact(traced, owner)?;
        let cause = self.own_cause(traced, process)?;
        let mut insert = self.database.prepare_cached(
            "INSERT OR REPLACE INTO flow (first_seen, serial, contact, process, port, last, stage, sent_packets,
             sent, received_packets, received, cause)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(traced.id.first_seen_ns),
            traced.id.serial,
            contact,
            owner.map(|owner| owner.row),
            signed(port),
            self.interned.time(totals.last.0),
            stage.code(),
            totals.sent_packets.cast_signed(),
            totals.sent_bytes.cast_signed(),
            totals.received_packets.cast_signed(),
            totals.received_bytes.cast_signed(),
            cause,
        ]);
        inserted.map(drop)
    }
}

/// Ports are stored as signed, since most of those that programs are given would otherwise take a byte more.
pub(super) fn signed(port: u16) -> i32 {
    i32::from(port) - 32_768
}

fn subflow(subflow: &Subflow) -> serde_json::Value {
    let Endpoints { local, remote, .. } = subflow.endpoints;
    json!({
        "local": local.to_string(),
        "remote": remote.to_string(),
        "sent": subflow.totals.map(|totals| totals.sent),
        "received": subflow.totals.map(|totals| totals.received),
        "rtt_us": subflow.totals.and_then(|totals| totals.rtt_us),
        "retransmits": subflow.totals.map(|totals| totals.retransmits),
    })
}
