//! Processes that became another program, and their ends.
//!
//! In: a span. Out: items.

use std::ops::ControlFlow;

use rusqlite::{Connection as Database, Result};

use super::{Referred, Span, Visit, each};
use crate::history::item::{Item, What};

/// Processes that became another program, by when they did; with their end, if that is in the same file.
pub(in crate::history::reader) fn processes(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT id, executed, exited, status FROM process
         WHERE executed BETWEEN ?1 AND ?2 ORDER BY executed",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let process = referred.process(database, row.get(0)?)?;
        let exited: Option<i64> = row.get(2)?;
        let status: Option<u32> = row.get(3)?;
        Ok(Some(Item {
            time: referred.images.time(row.get(1)?),
            process,
            what: What::Executed,
            over: exited.map(|time| (referred.images.time(time), status)),
            beyond: None,
        }))
    })
}

/// Ends of processes.
pub(in crate::history::reader) fn exits(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT id, exited, status FROM process WHERE exited BETWEEN ?1 AND ?2 ORDER BY exited",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        Ok(Some(Item {
            time: referred.images.time(row.get(1)?),
            process: referred.process(database, row.get(0)?)?,
            what: What::Exited {
                status: row.get(2)?,
            },
            over: None,
            beyond: None,
        }))
    })
}
