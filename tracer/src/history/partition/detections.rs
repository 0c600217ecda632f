//! Detections, while they are written.
//!
//! In: what was detected, about whom, and the contact that made it clear. Out: its row.

use std::sync::Arc;

use rusqlite::{Result, params};
use serde_json::{Value, json};

use super::Batch;
use super::connections::signed;
use crate::detect::{Detection, Evidence};
use crate::event::BootTime;
use crate::history::code::{Coded as _, NO_CAUSE};
use crate::history::intern::Text;
use crate::observation::Connection as Traced;
use crate::process::image::Image;

impl Batch<'_> {
    pub(super) fn detection(
        &mut self,
        time: BootTime,
        process: Option<&Arc<Image>>,
        detection: &Detection,
        traced: Option<&Traced>,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let rule = self
            .interned
            .string(self.database, detection.rule.id.as_bytes())?;
        let evidence: Vec<_> = detection.evidence.iter().map(evidence).collect();
        let mut insert = self.database.prepare_cached(
            "INSERT INTO detection (time, process, rule, severity, explanation, evidence, evidence_total)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let row = insert.insert(params![
            self.interned.time(time.0),
            owner.map(|owner| owner.row),
            rule,
            detection.severity.code(),
            Text(detection.explanation.as_bytes()),
            json!(evidence).to_string(),
            detection.evidence_total.cast_signed(),
        ])?;
        match traced {
            Some(traced) => self.detected_by(row, traced, process),
            None => Ok(()),
        }
    }

    /// Adds the contact that made a detection clear.
    fn detected_by(
        &mut self,
        row: i64,
        traced: &Traced,
        process: Option<&Arc<Image>>,
    ) -> Result<()> {
        // A shell may talk by way of another process, whose contact it is.
        let process_owns = process.filter(|image| traced.owner == Some(image.key));
        let owner = self.owner(process_owns)?;
        let (contact, port) = self.contact(traced, owner)?;
        let has_cause = process.is_some_and(|image| image.cause.is_some());
        let cause = match traced.cause {
            None if has_cause => Some(NO_CAUSE),
            _ => self.own_cause(traced, process)?,
        };
        let peer = traced
            .peer
            .map(|peer| (self.interned.time(peer.first_seen_ns), peer.serial));
        let mut update = self.database.prepare_cached(
            "UPDATE detection SET first_seen = ?2, serial = ?3, contact = ?4, port = ?5, opened = ?6, cause = ?7,
             peer_first_seen = ?8, peer_serial = ?9 WHERE id = ?1",
        )?;
        let updated = update.execute(params![
            row,
            self.interned.time(traced.id.first_seen_ns),
            traced.id.serial,
            contact,
            signed(port),
            traced.opened_at.map(|time| self.interned.time(time.0)),
            cause,
            peer.map(|(first_seen, _)| first_seen),
            peer.map(|(_, serial)| serial),
        ]);
        updated.map(drop)
    }
}

/// In times of `CLOCK_BOOTTIME`, as identities are made of them.
fn evidence(evidence: &Evidence) -> Value {
    match *evidence {
        Evidence::Connection(id) => json!({"connection": [id.first_seen_ns, id.serial]}),
        Evidence::Process(key, rounded) => json!({"process": [key.tgid, key.start_ns, rounded]}),
    }
}
