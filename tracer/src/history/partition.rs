//! One file of the history while it is written.
//!
//! In: items. Out: rows, in transactions. It begins empty and ends sealed: indexed, without a write-ahead log, and
//! never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, Result, params};
use serde_json::json;

use super::code::{self, Coded as _, bits};
use super::intern::{Interned, Text, Written};
use super::item::{End, Item, What};
use super::schema;
use super::views;
use crate::dns::{Ending, Lookup};
use crate::event::{BootTime, Endpoints, FlowTotals, RawSocket, Totals, Transport};
use crate::observation::{Connection as Traced, ConnectionId, FlowStage, Loss, Subflow};
use crate::output::Context;
use crate::process::image::Image;

/// How long before its making a file's times begin, in nanoseconds: later rows have small numbers, which take
/// less room than negative ones.
const MARGIN_NS: u64 = 60_000_000_000;

/// What is true of everything in a file.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Host, boot, hooks and users, as [`Context`] has them, in JSON.
    pub(super) host: String,
    /// How far the wall clock is ahead of `CLOCK_BOOTTIME`, in nanoseconds.
    pub(super) offset: i64,
    /// When the file was begun.
    pub(super) begun: BootTime,
    /// When the daemon was: what is open stands in the last file of each run.
    pub(super) run: BootTime,
}

impl Origin {
    /// What the formats will have to know.
    pub(super) fn host(context: &mut Context) -> String {
        let host = &context.host;
        json!({
            "name": host.name,
            "machine_id": host.machine_id,
            "boot_id": host.boot_id.to_string(),
            "hooks": context.hooks,
            "users": context.users.names(),
            "netns": context.netns.recorded(),
        })
        .to_string()
    }
}

/// A file that is being written.
pub(super) struct Partition {
    path: PathBuf,
    database: Connection,
    interned: Interned,
    /// Connections that have ended.
    rows: u64,
    begun: BootTime,
    offset: i64,
    /// The last end of a connection, which is a key.
    last_ended: i64,
}

impl Partition {
    /// Begins a file. There must be none yet.
    pub(super) fn create(path: &Path, origin: &Origin) -> Result<Self> {
        let base = origin.begun.0.saturating_sub(MARGIN_NS).cast_signed();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags)?;
        database.set_prepared_statement_cache_capacity(64);
        database.pragma_update(None, "page_size", 4096)?;
        database.pragma_update(None, "application_id", schema::APPLICATION)?;
        database.pragma_update(None, "user_version", schema::VERSION)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        database.pragma_update(None, "wal_autocheckpoint", 4096)?;
        database.pragma_update(None, "foreign_keys", false)?;
        let wall_base = base.saturating_add(origin.offset);
        let views = views::of_file(wall_base);
        database.execute_batch(&format!("BEGIN; {} {views} COMMIT;", schema::TABLES))?;
        for (key, value) in [
            ("base", base),
            ("offset", origin.offset),
            ("begun", origin.begun.0.cast_signed() - base),
            ("run", origin.run.0.cast_signed()),
        ] {
            database.execute("INSERT INTO meta VALUES (?1, ?2)", params![key, value])?;
        }
        let host = &origin.host;
        database.execute("INSERT INTO meta VALUES ('host', ?1)", [host])?;
        let version = env!("CARGO_PKG_VERSION");
        database.execute("INSERT INTO meta VALUES ('tracer', ?1)", [version])?;
        Ok(Self {
            path: path.to_owned(),
            database,
            interned: Interned::new(base),
            rows: 0,
            begun: origin.begun,
            offset: origin.offset,
            last_ended: i64::MIN,
        })
    }

    /// Connections that have ended in it.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// When it was begun.
    pub(super) fn begun(&self) -> BootTime {
        self.begun
    }

    /// How far the wall clock was ahead of the kernel's when it was begun.
    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// More is known of the host than when the file was begun.
    pub(super) fn describe(&self, host: &str) -> Result<()> {
        let update = "UPDATE meta SET value = ?1 WHERE key = 'host'";
        self.database.execute(update, [host]).map(drop)
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<()> {
        self.database.execute_batch("BEGIN")
    }

    /// Ends it: what was written since stays.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.interned.learn(&self.database)?;
        self.database.execute_batch("COMMIT")
    }

    /// Ends it: nothing was written.
    pub(super) fn roll_back(&self) {
        // A failure may have ended it before.
        let _ = self.database.execute_batch("ROLLBACK");
    }

    /// Writes the rest, makes the file quick to ask, and closes it.
    pub(super) fn seal(self) -> Result<()> {
        drop(self.interned);
        seal(&self.database)
    }

    /// Writes an item, but for connections: of these the caller knows which are open.
    pub(super) fn write(&mut self, item: &Item) -> Result<()> {
        let process = item.process.as_ref();
        match &item.what {
            What::Executed => self.executed(item.time, process),
            What::Exited { status } => self.exited(item.time, process, *status),
            What::Opened(_)
            | What::Ended(..)
            | What::Forked
            | What::Hello(_)
            | What::Detected(_) => Ok(()),
            What::ListenOpened(traced) => self.listener(traced, process, None),
            What::ListenClosed(traced) => self.listener(traced, process, Some(item.time)),
            What::Flow(traced, stage, totals) => self.flow(traced, process, *stage, totals),
            What::SocketOpened(socket) => self.raw_socket(item.time, process, socket),
            What::Lookup(lookup, duration) => self.lookup(item.time, process, lookup, *duration),
            What::Lost(loss) => self.lost(item.time, loss),
        }
    }

    fn owner(&mut self, process: Option<&Arc<Image>>) -> Result<Option<Written>> {
        let owner = process.map(|image| self.interned.process(&self.database, image));
        owner.transpose()
    }

    fn executed(&mut self, time: BootTime, process: Option<&Arc<Image>>) -> Result<()> {
        let Some(owner) = self.owner(process)? else {
            return Ok(());
        };
        let time = self.interned.time(time.0);
        let mut update = self
            .database
            .prepare_cached("UPDATE process SET executed = ?2 WHERE id = ?1")?;
        update.execute([owner.row, time]).map(drop)
    }

    fn exited(&mut self, time: BootTime, process: Option<&Arc<Image>>, status: u32) -> Result<()> {
        let Some(owner) = self.owner(process)? else {
            return Ok(());
        };
        let time = self.interned.time(time.0);
        let mut update = self
            .database
            .prepare_cached("UPDATE process SET exited = ?2, status = ?3 WHERE id = ?1")?;
        update.execute(params![owner.row, time, status]).map(drop)
    }

    /// Writes a connection that is open.
    pub(super) fn open(&mut self, traced: &Traced, process: Option<&Arc<Image>>) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, port) = self.interned.contact(&self.database, traced, owner)?;
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
    pub(super) fn forget_open(&mut self, id: ConnectionId) -> Result<()> {
        let first_seen = self.interned.time(id.first_seen_ns);
        let mut delete = self
            .database
            .prepare_cached("DELETE FROM open WHERE first_seen = ?1 AND serial = ?2")?;
        delete.execute(params![first_seen, id.serial]).map(drop)
    }

    /// Writes a connection that has ended. `opener` is the owner's image when it opened.
    pub(super) fn ended(
        &mut self,
        time: BootTime,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        opener: Option<&Arc<Image>>,
        end: &End,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, port) = self.interned.contact(&self.database, traced, owner)?;
        let totals = end.totals;
        let retransmits = totals.map_or(0, |totals| totals.retransmits);
        let errno = end.errno.map(|errno| errno.0);
        let ending = (end.failed, end.state, errno, retransmits);
        let ending = self.interned.ending(&self.database, ending)?;
        let first_seen = self.interned.time(traced.id.first_seen_ns);
        let delay = match traced.opened_at {
            Some(opened) => Some(self.interned.time(opened.0) - first_seen),
            None => None,
        };
        let ended = self.interned.time(time.0);
        // What is out of order, or of the same nanosecond, takes the next place that is free.
        let mut key = ended;
        if ended <= self.last_ended {
            key = self.free_key(ended)?;
        }
        self.last_ended = self.last_ended.max(key);
        let mut insert = self.database.prepare_cached(
            "INSERT INTO connection (ended, contact, process, port, age, delay, sent, received, rtt, ending,
             serial) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        insert.execute(params![
            key,
            contact,
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
        drop(insert);
        self.rows += 1;
        self.more(key, traced, process, opener, &end.subflows)
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
    fn own_cause(&mut self, traced: &Traced, process: Option<&Arc<Image>>) -> Result<Option<i64>> {
        let of_owner = process.and_then(|image| image.cause.as_ref());
        let own = traced
            .cause
            .as_ref()
            .filter(|cause| of_owner.is_none_or(|of_owner| !Arc::ptr_eq(cause, of_owner)));
        self.interned.cause(&self.database, own)
    }

    /// Writes a listener, or that it has ceased to listen.
    pub(super) fn listener(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        closed: Option<BootTime>,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, _) = self.interned.contact(&self.database, traced, owner)?;
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

    fn flow(
        &mut self,
        traced: &Traced,
        process: Option<&Arc<Image>>,
        stage: FlowStage,
        totals: &FlowTotals,
    ) -> Result<()> {
        let owner = self.owner(process)?;
        let (contact, port) = self.interned.contact(&self.database, traced, owner)?;
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

    fn raw_socket(
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

    fn lookup(
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
            .string(&self.database, question.name.as_bytes())?;
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

    fn lost(&mut self, time: BootTime, loss: &Loss) -> Result<()> {
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

/// Makes a file that will not grow any more quick to ask, and a single file.
pub(super) fn seal(database: &Connection) -> Result<()> {
    database.execute_batch(&format!(
        "BEGIN; {} {} COMMIT;",
        schema::SUMS,
        schema::INDICES
    ))?;
    // Others may be reading: then it stays as it is, which is no worse than before.
    let _ = database.pragma_update(None, "journal_mode", "delete");
    Ok(())
}

/// Ports are stored as signed, since most of those that programs are given would otherwise take a byte more.
fn signed(port: u16) -> i32 {
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
