//! Look-ups of names.
//!
//! In: a span. Out: items, with the records of their answers.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use rusqlite::{Connection as Database, Result};
use serde::Deserialize;

use super::{Referred, Span, Visit, each};
use crate::dns::record::{Data, Record};
use crate::dns::{Answer, Ending, Lookup, Question};
use crate::event::{Endpoints, Transport};
use crate::history::code::{self, flags};
use crate::history::item::{Item, What};

#[derive(Deserialize)]
struct StoredRecord {
    name: Box<str>,
    #[serde(rename = "type")]
    kind: u16,
    ttl: u32,
    data: Box<str>,
}

impl StoredRecord {
    fn record(self) -> Record {
        let data = match (self.kind, self.data.parse()) {
            (1 | 28, Ok(address)) => Data::Address(address),
            (5, _) => Data::Alias(self.data),
            _ => Data::Text(self.data),
        };
        Record {
            name: self.name,
            kind: self.kind,
            ttl: self.ttl,
            data,
        }
    }
}

/// Look-ups, by when they were over.
pub(in crate::history::reader) fn lookups(
    database: &Database,
    referred: &mut Referred,
    span: Span,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    let mut select = database.prepare_cached(
        "SELECT time, process, local, server, netns, transport, transaction_id, name, type, class, attempts,
         by_resolver, duration, ending, code, flags, answers FROM lookup
         WHERE time BETWEEN ?1 AND ?2 ORDER BY time, id",
    )?;
    each(select.query([span.since, span.until])?, visit, |row| {
        let address = |column| -> Result<SocketAddr> {
            let text: String = row.get(column)?;
            text.parse().map_err(|_| rusqlite::Error::InvalidQuery)
        };
        let name = referred.images.string(database, row.get(7)?)?;
        let bits: i64 = row.get(15)?;
        let answers: Option<String> = row.get(16)?;
        let ending = match (row.get(13)?, answers) {
            (0, Some(answers)) => Ending::Answered(answer(row.get(14)?, bits, &answers)),
            (1, _) => Ending::Unanswered,
            _ => Ending::Unknown,
        };
        let local = address(2)?;
        let lookup = Lookup {
            endpoints: Endpoints {
                netns: row.get(4)?,
                local,
                remote: address(3)?,
                ipv6_socket: local.is_ipv6(),
            },
            transport: if row.get(5)? {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            id: row.get(6)?,
            question: Question {
                name: String::from_utf8_lossy(&name).into(),
                kind: row.get(8)?,
                class: row.get(9)?,
            },
            asked: code::header(bits),
            attempts: row.get(10)?,
            by_resolver: row.get(11)?,
            ending,
        };
        let duration = row.get::<_, i64>(12)?.cast_unsigned();
        Ok(Some(Item {
            time: referred.images.time(row.get(0)?),
            process: referred.process(database, row.get(1)?)?,
            what: What::Lookup(Box::new(lookup), duration),
            over: None,
            beyond: None,
        }))
    })
}

fn answer(code: u16, bits: i64, records: &str) -> Answer {
    let records: Vec<StoredRecord> = serde_json::from_str(records).unwrap_or_default();
    let [malformed, incomplete] = flags(bits >> 12);
    Answer {
        code,
        flags: code::header(bits >> 6),
        records: records.into_iter().map(StoredRecord::record).collect(),
        omitted: u32::try_from(bits >> 14).unwrap_or_default(),
        malformed,
        incomplete,
    }
}
