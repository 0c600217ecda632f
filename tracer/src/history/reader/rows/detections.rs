//! Detections.
//!
//! In: a span. Out: items, with the contact that made them clear.

use std::ops::ControlFlow;

use rusqlite::{Connection as Database, Result, Row};
use serde::Deserialize;

use super::{Referred, Span, Visit, each};
use crate::detect::rule::{Rule, Severity};
use crate::detect::{Detection, Evidence, rule};
use crate::event::ProcessKey;
use crate::history::code::{Coded as _, NO_CAUSE};
use crate::history::item::{Item, What};
use crate::observation::{Connection, ConnectionId};

/// Stands for a rule that another build has.
static UNKNOWN: Rule = Rule {
    id: "unknown",
    name: "Unknown rule",
    description: "A rule that this tracer does not have.",
    techniques: &[],
    method: "",
};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredEvidence {
    Connection(u64, u32),
    Process(u32, u64, bool),
}

impl StoredEvidence {
    fn evidence(self) -> Evidence {
        match self {
            Self::Connection(first_seen_ns, serial) => Evidence::Connection(ConnectionId {
                first_seen_ns,
                serial,
            }),
            Self::Process(tgid, start_ns, rounded) => {
                Evidence::Process(ProcessKey { tgid, start_ns }, rounded)
            }
        }
    }
}

/// Detections, by when they were made.
pub(in crate::history::reader) fn detections(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT first_seen, serial, contact, process, port, opened, cause, peer_first_seen, peer_serial,
         time, rule, severity, explanation, evidence, evidence_total FROM detection
         WHERE time BETWEEN ?1 AND ?2 ORDER BY time, id",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let connection = match row.get::<_, Option<i64>>(2)? {
            Some(contact) => Some(connection(database, referred, row, contact)?),
            None => None,
        };
        let detection = detection(database, referred, row)?;
        Ok(Some(Item {
            time: referred.images.time(row.get(9)?),
            process: referred.process(database, row.get(3)?)?,
            what: What::Detected(Box::new((detection, connection))),
            over: None,
            beyond: None,
        }))
    })
}

fn detection(database: &Database, referred: &mut Referred, row: &Row<'_>) -> Result<Detection> {
    let id = referred.images.string(database, row.get(10)?)?;
    let known = std::str::from_utf8(&id).ok().and_then(rule);
    let evidence: String = row.get(13)?;
    let evidence: Vec<StoredEvidence> = serde_json::from_str(&evidence).unwrap_or_default();
    Ok(Detection {
        rule: known.unwrap_or(&UNKNOWN),
        severity: Severity::of_code(row.get(11)?).unwrap_or(Severity::Low),
        explanation: row.get(12)?,
        evidence: evidence.into_iter().map(StoredEvidence::evidence).collect(),
        evidence_total: row.get::<_, i64>(14)?.cast_unsigned(),
    })
}

fn connection(
    database: &Database,
    referred: &mut Referred,
    row: &Row<'_>,
    contact: i64,
) -> Result<Connection> {
    let (mut connection, _) = referred.connection(database, row)?;
    if referred.contact(database, contact)?.lineage.is_none() {
        // It is another process's.
        connection.owner = None;
    }
    let opened: Option<i64> = row.get(5)?;
    connection.opened_at = opened.map(|time| referred.images.time(time));
    match row.get(6)? {
        Some(NO_CAUSE) => connection.cause = None,
        cause => referred.own_cause(database, &mut connection, cause)?,
    }
    connection.peer = referred.peer(row.get(7)?, row.get(8)?);
    Ok(connection)
}
