//! Connections: those that have ended, and those that were open when the file did.
//!
//! In: a span, perhaps contacts. Out: items.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use hashbrown::HashSet;
use rusqlite::{Connection as Database, Result, Row};
use serde::Deserialize;

use super::{Referred, Span, Visit, each};
use crate::event::{BootTime, Endpoints, Totals};
use crate::history::item::{End, Item, What};
use crate::observation::Subflow;

pub(in crate::history::reader) const ENDED: &str =
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

/// The same, but only those of some contacts, in any order.
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

/// The same in a file that has no index yet.
pub(in crate::history::reader) fn scan_of(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    contacts: &[i64],
    visit: &mut Visit<'_>,
) -> Result<()> {
    let wanted: HashSet<i64, foldhash::fast::RandomState> = contacts.iter().copied().collect();
    let mut select = database.prepare_cached(
        "SELECT ended, contact FROM connection WHERE ended >= ?1 AND ended - age <= ?2",
    )?;
    let mut one = database.prepare_cached(&format!("{ENDED} WHERE c.ended = ?1"))?;
    let mut rows = select.query([span.since, span.until])?;
    while let Some(row) = rows.next()? {
        let contact: i64 = row.get(1)?;
        if !wanted.contains(&contact) {
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

pub(in crate::history::reader) fn ended_item(
    database: &Database,
    referred: &mut Referred,
    row: &Row<'_>,
) -> Result<Item> {
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
