//! Look-ups and TLS handshakes, out of the lines of a recording.
//!
//! In: the members `dns` and `tls`. Out: a look-up with its answer, and what a client asks for. Of an answered
//! question the header is not told, but that of the answer.

use super::connections::endpoints;
use super::document::{Answer as AnswerMember, Document, Text};
use super::error::LineError;
use super::words;
use crate::dns::record::{Data, Record};
use crate::dns::{Answer, Ending, Flags, Lookup, Question};
use crate::event::{Endpoints, Transport};
use crate::observation::Direction;
use crate::output::action::Action;
use crate::tls::ClientHello;

type Result<T> = std::result::Result<T, LineError>;

/// What was asked of whom, and what came of it.
pub(super) fn lookup(document: &Document<'_>) -> Result<Lookup> {
    let dns = document.dns.as_ref().ok_or(LineError::Missing("dns"))?;
    let remarks = document.tracer.dns.as_ref();
    let remarks = remarks.ok_or(LineError::Missing("tracer.dns"))?;
    let flags = flags(&dns.header_flags);
    let ending = match (&dns.response_code, document.event.outcome.as_deref()) {
        (Some(code), _) => {
            let records: Result<_> = dns.answers.iter().map(record).collect();
            Ending::Answered(Answer {
                code: words::response_code(code)?,
                flags,
                records: records?,
                omitted: remarks.answers_omitted,
                malformed: remarks.malformed,
                incomplete: remarks.incomplete,
            })
        }
        (None, Some("failure")) => Ending::Unanswered,
        (None, Some("unknown")) => Ending::Unknown,
        (None, _) => return Err(LineError::Missing("dns.response_code")),
    };
    Ok(Lookup {
        endpoints: endpoints(document, Action::DnsLookup, Direction::Egress)?,
        transport: transport(document)?,
        id: words::number("dns.id", &dns.id)?,
        question: Question {
            name: words::printable("dns.question.name", &dns.question.name)?.into(),
            kind: words::record_type("dns.question.type", &dns.question.kind)?,
            class: words::class(&dns.question.class)?,
        },
        asked: match ending {
            Ending::Answered(_) => Flags::default(),
            Ending::Unanswered | Ending::Unknown => flags,
        },
        attempts: remarks.attempts,
        by_resolver: document.tracer.has_flag("resolver"),
        ending,
    })
}

fn transport(document: &Document<'_>) -> Result<Transport> {
    let network = document.network.as_ref();
    match network.and_then(|network| network.transport.as_deref()) {
        Some("tcp") => Ok(Transport::Tcp),
        Some("udp") => Ok(Transport::Udp),
        _ => Err(LineError::wrong("network.transport", "tcp or udp")),
    }
}

fn flags(words: &[Text<'_>]) -> Flags {
    let has = |flag: &str| words.iter().any(|word| &**word == flag);
    Flags {
        authoritative: has("AA"),
        truncated: has("TC"),
        recursion_desired: has("RD"),
        recursion_available: has("RA"),
        authentic_data: has("AD"),
        checking_disabled: has("CD"),
    }
}

fn record(answer: &AnswerMember<'_>) -> Result<Record> {
    let kind = words::record_type("dns.answers.type", &answer.kind)?;
    let data = words::printable("dns.answers.data", &answer.data)?;
    let data = match (&*answer.kind, data.parse()) {
        ("A" | "AAAA", Ok(address)) => Data::Address(address),
        ("CNAME", _) => Data::Alias(data.into()),
        _ => Data::Text(data.into()),
    };
    Ok(Record {
        name: words::printable("dns.answers.name", &answer.name)?.into(),
        kind,
        ttl: answer.ttl,
        data,
    })
}

/// What a client asks for, between those ends.
pub(super) fn hello(document: &Document<'_>, endpoints: Endpoints) -> Result<ClientHello> {
    let offer = document.tracer.tls.as_ref();
    let offer = offer.ok_or(LineError::Missing("tracer.tls"))?;
    let client = document.tls.as_ref().map(|tls| &tls.client);
    let name = client.and_then(|client| client.server_name.as_deref());
    let name = name.map(|name| words::printable("tls.client.server_name", name));
    let protocols = offer.alpn.iter();
    let protocols: Result<_> = protocols
        .map(|name| words::printable("tracer.tls.alpn", name).map(Into::into))
        .collect();
    Ok(ClientHello {
        endpoints,
        server_name: name.transpose()?.map(Into::into),
        protocols: protocols?,
        omitted: offer.alpn_omitted,
        encrypted_client_hello: offer.encrypted_client_hello,
        truncated: offer.truncated,
    })
}
