//! What processes do beside connections, look-ups, and losses, while they are written.
//!
//! In: what happened. Out: its row.

use std::sync::Arc;

use rusqlite::{Result, params};
use serde_json::json;

use super::Batch;
use crate::dns::{Ending, Lookup};
use crate::event::{BootTime, RawSocket, Transport};
use crate::history::code::{self, Coded as _, bits};
use crate::history::intern::Text;
use crate::observation::Loss;
use crate::process::image::Image;

impl Batch<'_> {
    pub(super) fn executed(&mut self, time: BootTime, process: Option<&Arc<Image>>) -> Result<()> {
        let Some(owner) = self.owner(process)? else {
            return Ok(());
        };
        let time = self.interned.time(time.0);
        let mut update = self
            .database
            .prepare_cached("UPDATE process SET executed = ?2 WHERE id = ?1")?;
        update.execute([owner.row, time]).map(drop)
    }

    pub(super) fn exited(
        &mut self,
        time: BootTime,
        process: Option<&Arc<Image>>,
        status: u32,
    ) -> Result<()> {
        let Some(owner) = self.owner(process)? else {
            return Ok(());
        };
        let time = self.interned.time(time.0);
        let mut update = self
            .database
            .prepare_cached("UPDATE process SET exited = ?2, status = ?3 WHERE id = ?1")?;
        update.execute(params![owner.row, time, status]).map(drop)
    }

    pub(super) fn raw_socket(
        &mut self,
        time: BootTime,
        process: Option<&Arc<Image>>,
        socket: &RawSocket,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let mut insert = self.database.prepare_cached(
            "INSERT INTO raw_socket (time, process, family, type, protocol, netns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(time.0),
            owner.map(|owner| owner.row),
            socket.family.code(),
            socket.socket_type.code(),
            socket.protocol,
            socket.netns,
        ]);
        inserted.map(drop)
    }

    pub(super) fn lookup(
        &mut self,
        time: BootTime,
        process: Option<&Arc<Image>>,
        lookup: &Lookup,
        duration_ns: u64,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let question = &lookup.question;
        let name = self
            .interned
            .string(self.database, question.name.as_bytes())?;
        let answer = lookup.answer();
        let answers = answer.map(|answer| {
            let records = answer.records.iter().map(|record| {
                json!({"name": record.name, "type": record.kind, "ttl": record.ttl,
                       "data": record.data.to_string()})
            });
            json!(records.collect::<Vec<_>>()).to_string()
        });
        let ending = match lookup.ending {
            Ending::Answered(_) => 0,
            Ending::Unanswered => 1,
            Ending::Unknown => 2,
        };
        // Of the answer: what it lacks stands behind its header.
        let lacks = answer.map_or(0, |answer| {
            bits([answer.malformed, answer.incomplete]) | i64::from(answer.omitted) << 2
        });
        let flags =
            code::of_header(lookup.asked) | code::of_header(lookup.flags()) << 6 | lacks << 12;
        let mut insert = self.database.prepare_cached(
            "INSERT INTO lookup (time, process, local, server, netns, transport, transaction_id, name, type,
             class, attempts, by_resolver, duration, ending, code, flags, answers)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(time.0),
            owner.map(|owner| owner.row),
            lookup.endpoints.local.to_string(),
            lookup.endpoints.remote.to_string(),
            lookup.endpoints.netns,
            lookup.transport == Transport::Udp,
            lookup.id,
            name,
            question.kind,
            question.class,
            lookup.attempts,
            lookup.by_resolver,
            duration_ns.cast_signed(),
            ending,
            answer.map(|answer| answer.code),
            flags,
            answers,
        ]);
        inserted.map(drop)
    }

    pub(super) fn lost(&mut self, time: BootTime, loss: &Loss) -> Result<()> {
        let mut insert = self.database.prepare_cached(
            "INSERT INTO loss (time, stage, kind, unit, count) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let inserted = insert.execute(params![
            self.interned.time(time.0),
            Text(loss.stage.as_bytes()),
            Text(loss.kind.as_bytes()),
            loss.unit.code(),
            loss.count.cast_signed(),
        ]);
        inserted.map(drop)
    }
}
