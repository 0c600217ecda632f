//! Connections: those that have ended, and those that were open when the file did.
//!
//! In: a span, perhaps contacts. Out: items.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use rusqlite::{Connection as Database, Result, Row, Rows};
use serde::Deserialize;

use super::{Referred, Span, Visit, each};
use crate::event::{BootTime, Endpoints, Totals};
use crate::history::item::{End, Item, What};
use crate::observation::Subflow;

const ENDED: &str =
    "SELECT c.ended - c.age, c.serial, c.contact, c.process, c.port, c.ended, c.delay, c.sent, c.received,
    c.rtt, c.ending, m.cause, m.peer_first_seen, m.peer_serial, m.subflows
    FROM connection c LEFT JOIN more m ON m.ended = c.ended";

/// Connections that were there in the span and have ended by now, by when they ended.
pub(in crate::history::reader) fn ended(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let older = span.older("c.");
    let mut select = database.prepare_cached(&format!(
        "{ENDED} WHERE {older} c.ended >= ?1 AND c.ended - c.age <= ?2 ORDER BY c.ended"
    ))?;
    each(select.query([span.since, span.until])?, visit, |row| {
        Ok(Some(ended_item(database, referred, row)?))
    })
}

/// Those that ended in the span, by when they did.
pub(in crate::history::reader) fn ended_in(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut select = database.prepare_cached(&format!(
        "{ENDED} WHERE c.ended BETWEEN ?1 AND ?2 ORDER BY c.ended"
    ))?;
    let visited = each(select.query([span.since, span.until])?, visit, |row| {
        Ok(Some(ended_item(database, referred, row)?))
    });
    visited.map(drop)
}

/// Connections that were there in the span, but only those of some contacts, in any order.
pub(in crate::history::reader) fn ended_of(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    contacts: &[i64],
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut select = database.prepare_cached(&format!(
        "{ENDED} WHERE c.contact = ?3 AND c.ended >= ?1 AND c.ended - c.age <= ?2"
    ))?;
    for contact in contacts {
        let rows = select.query([span.since, span.until, *contact])?;
        let visited = each(rows, visit, |row| {
            Ok(Some(ended_item(database, referred, row)?))
        });
        if visited?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Says of a row by its process and contact, which are rows as well, whether it is worth making an item of.
pub(in crate::history::reader) type WantedRow<'a> =
    dyn FnMut(&mut Referred, Option<i64>, i64) -> Result<bool> + 'a;

/// The same, but only those that are wanted, without an index.
pub(in crate::history::reader) fn scan(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    wanted: &mut WantedRow<'_>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut select = database.prepare_cached(
        "SELECT ended, process, contact FROM connection WHERE ended >= ?1 AND ended - age <= ?2",
    )?;
    let rows = select.query([span.since, span.until])?;
    scan_rows(database, referred, rows, wanted, visit)
}

/// Those that ended in the span and are wanted.
pub(in crate::history::reader) fn scan_ended(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    wanted: &mut WantedRow<'_>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut select = database.prepare_cached(
        "SELECT ended, process, contact FROM connection WHERE ended BETWEEN ?1 AND ?2",
    )?;
    let rows = select.query([span.since, span.until])?;
    scan_rows(database, referred, rows, wanted, visit)
}

fn scan_rows(
    database: &Database,
    referred: &mut Referred,
    mut rows: Rows<'_>,
    wanted: &mut WantedRow<'_>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut one = database.prepare_cached(&format!("{ENDED} WHERE c.ended = ?1"))?;
    while let Some(row) = rows.next()? {
        if !wanted(referred, row.get(1)?, row.get(2)?)? {
            continue;
        }
        let mut found = one.query([row.get::<_, i64>(0)?])?;
        if let Some(row) = found.next()?
            && visit(ended_item(database, referred, row)?).is_break()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn ended_item(database: &Database, referred: &mut Referred, row: &Row<'_>) -> Result<Item> {
    let (mut connection, process) = referred.connection(database, row)?;
    let first_seen: i64 = row.get(0)?;
    let delay: Option<i64> = row.get(6)?;
    connection.opened_at = delay.map(|delay| referred.images.time(first_seen + delay));
    referred.own_cause(database, &mut connection, row.get(11)?)?;
    connection.peer = referred.peer(row.get(12)?, row.get(13)?);
    let ending = referred.ending(database, row.get(10)?)?;
    let sent: Option<i64> = row.get(7)?;
    let totals = match sent {
        Some(sent) => Some(Totals {
            sent: sent.cast_unsigned(),
            received: row.get::<_, i64>(8)?.cast_unsigned(),
            rtt_us: row.get(9)?,
            retransmits: ending.retransmits,
        }),
        None => None,
    };
    let subflows: Option<String> = row.get(14)?;
    let subflows = subflows.map(|text| self::subflows(&text, connection.endpoints));
    let end = End {
        failed: ending.failed,
        totals,
        subflows: subflows.unwrap_or_default(),
        state: ending.state,
        errno: ending.errno,
    };
    Ok(Item {
        time: referred.images.time(row.get(5)?),
        process,
        what: What::Ended(connection, Box::new(end)),
        over: None,
        beyond: None,
    })
}

#[derive(Deserialize)]
struct StoredSubflow {
    local: SocketAddr,
    remote: SocketAddr,
    sent: Option<u64>,
    received: Option<u64>,
    rtt_us: Option<u32>,
    retransmits: Option<u32>,
}

fn subflows(text: &str, first: Endpoints) -> Vec<Subflow> {
    let stored: Vec<StoredSubflow> = serde_json::from_str(text).unwrap_or_default();
    let subflow = |stored: StoredSubflow| Subflow {
        endpoints: Endpoints {
            local: stored.local,
            remote: stored.remote,
            ..first
        },
        totals: stored.sent.map(|sent| Totals {
            sent,
            received: stored.received.unwrap_or_default(),
            rtt_us: stored.rtt_us,
            retransmits: stored.retransmits.unwrap_or_default(),
        }),
    };
    stored.into_iter().map(subflow).collect()
}

/// Connections that were open when the file ended, by when they opened.
pub(in crate::history::reader) fn open(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    open_of(database, referred, span, |_| true, visit)
}

/// The same, but only those of contacts that are wanted, by row.
pub(in crate::history::reader) fn open_of(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    wanted: impl Fn(i64) -> bool,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT first_seen, serial, contact, process, port, opened, cause, peer_first_seen, peer_serial
         FROM open WHERE first_seen <= ?1 ORDER BY first_seen",
    )?;
    each(select.query([span.until])?, visit, |row| {
        if !wanted(row.get(2)?) {
            return Ok(None);
        }
        let (mut connection, process) = referred.connection(database, row)?;
        let opened: Option<i64> = row.get(5)?;
        connection.opened_at = opened.map(|time| referred.images.time(time));
        referred.own_cause(database, &mut connection, row.get(6)?)?;
        connection.peer = referred.peer(row.get(7)?, row.get(8)?);
        Ok(Some(Item {
            time: connection
                .opened_at
                .unwrap_or(BootTime(connection.id.first_seen_ns)),
            process,
            what: What::Opened(connection),
            over: None,
            beyond: None,
        }))
    })
}
