//! Look-ups in the language of scenarios, and in transcripts.
//!
//! A question has the options `tcp`, and with it `cut`: its end was not seen. An answer has `tcp`, `cut`,
//! `rcode=`, `ttl=` (60 unless told), `tc`. Each DATA is an address, or a name for which the name before it
//! is an alias. Over TCP each message comes in one part, behind its length.

use std::net::IpAddr;

use tracer::dns::names::{Domain, KnownFrom};
use tracer::dns::record::{code_name, type_name};
use tracer::dns::{Ending, Lookup};
use tracer::event::{DnsPayload, EventKind, SocketId, Task, Transport};

use crate::scenario::{Words, ends};

/// Record types of scenarios.
const TYPES: [(&str, u16); 3] = [("A", 1), ("AAAA", 28), ("CNAME", 5)];

const IN: [u8; 2] = [0, 1];
const RECURSION_DESIRED: u16 = 0x0100;
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;

/// A question is sent.
pub(crate) fn ask(
    socket: SocketId,
    task: Option<Task>,
    words: &mut Words<'_>,
) -> Result<EventKind<'static>, String> {
    let payload = DnsPayload {
        task,
        received: false,
        ..payload(socket, words)?
    };
    let id = words.number()?;
    let question = question(words)?.1;
    finish(
        payload,
        &message(id, RECURSION_DESIRED, &question, &[]),
        words,
    )
}

/// An answer is received.
pub(crate) fn answer(
    socket: SocketId,
    words: &mut Words<'_>,
) -> Result<EventKind<'static>, String> {
    let payload = payload(socket, words)?;
    let id = words.number()?;
    let (mut owner, question) = question(words)?;
    let ttl = words.option_number("ttl")?.unwrap_or(60);
    let mut records = Vec::new();
    while let Ok(data) = words.next() {
        let (kind, data, next) = match data.parse() {
            Ok(IpAddr::V4(ip)) => ("A", ip.octets().to_vec(), owner.clone()),
            Ok(IpAddr::V6(ip)) => ("AAAA", ip.octets().to_vec(), owner.clone()),
            Err(_) => ("CNAME", name(data), data.to_owned()),
        };
        records.push(record(&owner, kind, ttl, &data)?);
        owner = next;
    }
    let code: u16 = words.option_number("rcode")?.unwrap_or(0);
    let truncated = if words.flag("tc") { TRUNCATED } else { 0 };
    let message = message(id, RESPONSE | truncated | code, &question, &records);
    finish(payload, &message, words)
}

/// Anything is received.
pub(crate) fn bytes(socket: SocketId, words: &mut Words<'_>) -> Result<EventKind<'static>, String> {
    let payload = payload(socket, words)?;
    let digits = words.next()?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16);
    let bytes: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
    let bytes = bytes.map_err(|_| format!("{digits} is not hexadecimal"))?;
    finish(payload, &bytes, words)
}

/// Received, without bytes.
fn payload(socket: SocketId, words: &mut Words<'_>) -> Result<DnsPayload<'static>, String> {
    let (endpoints, _) = ends(words)?;
    let transport = if words.flag("tcp") {
        Transport::Tcp
    } else {
        Transport::Udp
    };
    Ok(DnsPayload {
        socket,
        task: None,
        endpoints,
        transport,
        received: true,
        bytes: b"",
        truncated: words.flag("cut"),
        sequence: None,
    })
}

/// Puts a message into a payload.
fn finish(
    payload: DnsPayload<'static>,
    message: &[u8],
    words: &Words<'_>,
) -> Result<EventKind<'static>, String> {
    let length = u16::try_from(message.len()).map_err(|_| "the message is too long")?;
    let mut bytes = Vec::new();
    if payload.transport == Transport::Tcp {
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(message);
    if words.flag("cut") {
        bytes.pop();
    }
    Ok(EventKind::Dns(DnsPayload {
        bytes: bytes.leak(),
        ..payload
    }))
}

fn message(id: u16, flags: u16, question: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let counts = [1, records.len() as u16, 0, 0];
    let header = [id, flags].into_iter().chain(counts);
    let mut message: Vec<u8> = header.flat_map(u16::to_be_bytes).collect();
    message.extend(question);
    message.extend(records.concat());
    message
}

/// The name, and the question as it is sent.
fn question(words: &mut Words<'_>) -> Result<(String, Vec<u8>), String> {
    let (owner, kind) = (words.next()?, kind(words.next()?)?);
    Ok((owner.to_owned(), [&name(owner)[..], &kind, &IN].concat()))
}

fn record(owner: &str, kind: &str, ttl: u32, data: &[u8]) -> Result<Vec<u8>, String> {
    let kind = self::kind(kind)?;
    let length = (data.len() as u16).to_be_bytes();
    let owner = name(owner);
    Ok([&owner[..], &kind, &IN, &ttl.to_be_bytes(), &length, data].concat())
}

fn kind(text: &str) -> Result<[u8; 2], String> {
    let known = TYPES.iter().find(|(name, _)| *name == text);
    let (_, number) = known.ok_or(format!("{text} is no type of records"))?;
    Ok(number.to_be_bytes())
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    let mut name: Vec<u8> = labels.flat_map(label).collect();
    name.push(0);
    name
}

/// `looked up example.org A of 10.0.0.53:53: NOERROR 192.0.2.1 ttl 60`.
pub(crate) fn lookup(lookup: &Lookup) -> String {
    let (name, kind) = (&lookup.question.name, type_name(lookup.question.kind));
    let transport = match lookup.transport {
        Transport::Tcp => " over tcp",
        Transport::Udp => "",
    };
    let attempts = match lookup.attempts {
        1 => String::new(),
        attempts => format!(" {attempts} times"),
    };
    let resolver = if lookup.by_resolver {
        " for others"
    } else {
        ""
    };
    let server = lookup.endpoints.remote;
    format!(
        "looked up {name} {kind} of {server}{transport}{attempts}{resolver}: {}",
        ending(lookup)
    )
}

fn ending(lookup: &Lookup) -> String {
    match &lookup.ending {
        Ending::Answered(answer) => {
            let truncated = if answer.flags.truncated {
                " truncated"
            } else {
                ""
            };
            let malformed = if answer.malformed { " malformed" } else { "" };
            let records = answer.records.iter();
            let records = records.map(|record| format!(" {} ttl {}", record.data, record.ttl));
            let code = code_name(answer.code);
            format!(
                "{code}{truncated}{malformed}{}",
                records.collect::<String>()
            )
        }
        Ending::Unanswered => "unanswered".into(),
        Ending::Unknown => "unknown".into(),
    }
}

/// ` named example.org (process)`.
pub(crate) fn domain(domain: &Domain) -> String {
    let known_from = match domain.known_from {
        KnownFrom::Process => "process",
        KnownFrom::Container => "container",
        KnownFrom::Host => "host",
        KnownFrom::ClientHello => "client hello",
    };
    format!(" named {} ({known_from})", domain.name)
}
