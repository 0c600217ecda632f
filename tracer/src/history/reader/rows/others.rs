//! Listeners, flows of datagrams, raw sockets, and what was lost.
//!
//! In: a span. Out: items.

use std::ops::ControlFlow;

use rusqlite::{Connection as Database, Result, params};

use super::{Referred, Span, Visit, each};
use crate::event::{BootTime, FlowTotals, RawFamily, RawSocket, RawType};
use crate::history::code::Coded as _;
use crate::history::item::{Item, What};
use crate::observation::{FlowStage, Loss, LossUnit};

/// Listeners. Those that did not close in this file count only if it is the `last` of its run.
pub(in crate::history::reader) fn listeners(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    last: bool,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT first_seen, serial, contact, process, -32768, opened, closed FROM listener
         WHERE first_seen <= ?2 AND ifnull(closed, ?1) >= ?1 AND (closed IS NOT NULL OR ?3)
         ORDER BY first_seen",
    )?;
    each(
        select.query(params![span.since, span.until, last])?,
        visit,
        |row| {
            let (mut connection, process) = referred.connection(database, row)?;
            let opened: Option<i64> = row.get(5)?;
            connection.opened_at = opened.map(|time| referred.images.time(time));
            let closed: Option<i64> = row.get(6)?;
            Ok(Some(Item {
                time: connection
                    .opened_at
                    .unwrap_or(BootTime(connection.id.first_seen_ns)),
                process,
                what: What::ListenOpened(connection),
                over: closed.map(|time| (referred.images.time(time), None)),
                beyond: None,
            }))
        },
    )
}

/// Flows of datagrams, by their beginning.
pub(in crate::history::reader) fn flows(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT first_seen, serial, contact, process, port, last, stage, sent_packets, sent, received_packets,
         received, cause FROM flow WHERE first_seen <= ?2 AND last >= ?1 ORDER BY first_seen",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let (mut connection, process) = referred.connection(database, row)?;
        connection.opened_at = Some(BootTime(connection.id.first_seen_ns));
        referred.own_cause(database, &mut connection, row.get(11)?)?;
        let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let totals = FlowTotals {
            sent_packets: count(7)?,
            sent_bytes: count(8)?,
            received_packets: count(9)?,
            received_bytes: count(10)?,
            last: referred.images.time(row.get(5)?),
        };
        let stage = FlowStage::of_code(row.get(6)?).unwrap_or(FlowStage::Info);
        Ok(Some(Item {
            time: totals.last,
            process,
            what: What::Flow(connection, stage, totals),
            over: None,
            beyond: None,
        }))
    })
}

/// Raw and packet sockets.
pub(in crate::history::reader) fn raw_sockets(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT time, process, family, type, protocol, netns FROM raw_socket
         WHERE time BETWEEN ?1 AND ?2 ORDER BY time, id",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let process = referred.process(database, row.get(1)?)?;
        let family = RawFamily::of_code(row.get(2)?).unwrap_or(RawFamily::Packet);
        let socket_type = RawType::of_code(row.get(3)?).unwrap_or(RawType::Raw);
        // Whose it is stands in the process.
        let tgid = process.as_ref().map_or(0, |image| image.key.tgid);
        let (protocol, netns) = (row.get(4)?, row.get(5)?);
        let socket = RawSocket::recorded(family, socket_type, protocol, netns, tgid);
        Ok(Some(Item {
            time: referred.images.time(row.get(0)?),
            process,
            what: What::SocketOpened(socket),
            over: None,
            beyond: None,
        }))
    })
}

/// What was lost.
pub(in crate::history::reader) fn losses(
    database: &Database,
    referred: &Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT time, stage, kind, unit, count FROM loss WHERE time BETWEEN ?1 AND ?2 ORDER BY time, id",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let loss = Loss {
            stage: Loss::word(&row.get::<_, String>(1)?),
            kind: Loss::word(&row.get::<_, String>(2)?),
            unit: LossUnit::of_code(row.get(3)?).unwrap_or(LossUnit::Record),
            count: row.get::<_, i64>(4)?.cast_unsigned(),
        };
        Ok(Some(Item {
            time: referred.images.time(row.get(0)?),
            process: None,
            what: What::Lost(loss),
            over: None,
            beyond: None,
        }))
    })
}
