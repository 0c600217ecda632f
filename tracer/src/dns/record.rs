//! A record of an answer, and the names of the numbers in messages.
//!
//! In: a record as the library decodes it. Out: what the outputs show of it, as printable ASCII.

use std::borrow::Cow;
use std::net::IpAddr;

use hickory_proto::rr::{DNSClass, RData, RecordType, rdata};

use super::text;

/// Of longer data the end is left out, with `…` in its place.
const DATA_MAX: usize = 512;

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is, as [`Question::name`](super::Question::name).
    pub name: Box<str>,
    /// Its type; [`type_name`] names it.
    pub kind: u16,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME: the name stands for another.
    Alias(Box<str>),
    /// Anything else.
    Text(Box<str>),
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Data::Address(address) => address.fmt(f),
            Data::Alias(text) | Data::Text(text) => f.write_str(text),
        }
    }
}

impl From<&hickory_proto::rr::Record> for Record {
    fn from(record: &hickory_proto::rr::Record) -> Self {
        Record {
            name: text::name(&record.name).into(),
            kind: record.record_type().into(),
            ttl: record.ttl,
            data: data(&record.data),
        }
    }
}

fn data(data: &RData) -> Data {
    match data {
        RData::A(rdata::A(address)) => Data::Address((*address).into()),
        RData::AAAA(rdata::AAAA(address)) => Data::Address((*address).into()),
        RData::CNAME(rdata::CNAME(name)) => Data::Alias(text::name(name).into()),
        other => Data::Text(bounded(other_text(other)).into()),
    }
}

fn other_text(data: &RData) -> String {
    match data {
        RData::NS(rdata::NS(name)) | RData::PTR(rdata::PTR(name)) => text::name(name),
        RData::MX(mx) => format!("{} {}", mx.preference, text::name(&mx.exchange)),
        RData::SRV(srv) => format!(
            "{} {} {} {}",
            srv.priority,
            srv.weight,
            srv.port,
            text::name(&srv.target)
        ),
        RData::TXT(txt) => {
            let strings = txt.txt_data.iter().map(|string| text::string(string));
            strings.collect::<Vec<_>>().join(" ")
        }
        RData::NULL(bytes) | RData::Unknown { rdata: bytes, .. } => text::opaque(&bytes.anything),
        RData::Update0(_) => text::opaque(&[]),
        other => ascii(&other.to_string()),
    }
}

/// The library's text of other types holds foreign strings as they are.
fn ascii(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        ' '..='~' => Cow::Owned(character.to_string()),
        _ => Cow::Owned(character.escape_unicode().to_string()),
    });
    escaped.collect()
}

/// Cuts what is ASCII.
fn bounded(mut text: String) -> String {
    if text.len() > DATA_MAX {
        text.truncate(DATA_MAX);
        text.push('…');
    }
    text
}

/// The mnemonic of a type; `TYPE` and the number if it has none.
pub fn type_name(number: u16) -> Cow<'static, str> {
    match RecordType::from(number) {
        RecordType::Unknown(number) => format!("TYPE{number}").into(),
        known => Cow::Borrowed(known.into()),
    }
}

/// The mnemonic of a class; `CLASS` and the number if it has none.
pub fn class_name(number: u16) -> Cow<'static, str> {
    match DNSClass::from(number) {
        DNSClass::IN => "IN".into(),
        DNSClass::CH => "CH".into(),
        DNSClass::HS => "HS".into(),
        DNSClass::NONE => "NONE".into(),
        DNSClass::ANY => "ANY".into(),
        _ => format!("CLASS{number}").into(),
    }
}

/// Mnemonics of response codes, as IANA registers them.
const CODES: [(u16, &str); 13] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
    (23, "BADCOOKIE"),
];

/// The mnemonic of a response code; `RCODE` and the number if it has none.
pub fn code_name(number: u16) -> Cow<'static, str> {
    match CODES.iter().find(|(code, _)| *code == number) {
        Some((_, name)) => Cow::Borrowed(name),
        None => format!("RCODE{number}").into(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{HINFO, MX, NULL, PTR, SRV, TXT};

    use super::*;

    fn shown(data: &RData) -> String {
        super::data(data).to_string()
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn data_is_shown_as_in_a_zone_file() {
        let txt = TXT::from_bytes(vec![b"a b", b"\xff\x1b"]);
        let unknown = RData::Unknown {
            code: RecordType::Unknown(65_280),
            rdata: NULL::with(vec![0, 255]),
        };
        assert_eq!(shown(&RData::A(rdata::A::new(192, 0, 2, 1))), "192.0.2.1");
        assert_eq!(
            shown(&RData::MX(MX::new(10, name("mx.example.")))),
            "10 mx.example"
        );
        assert_eq!(
            shown(&RData::SRV(SRV::new(1, 2, 443, name("a.example.")))),
            "1 2 443 a.example"
        );
        assert_eq!(
            shown(&RData::PTR(PTR(name("host.example.")))),
            "host.example"
        );
        assert_eq!(shown(&RData::TXT(txt)), r#""a b" "\255\027""#);
        assert_eq!(shown(&unknown), r"\# 2 00ff");
    }

    #[test]
    fn data_is_printable_and_bounded_whatever_it_is() {
        let hostile = HINFO::from_bytes(
            b"\x1b[2J\xc2\x9b".to_vec().into(),
            "\u{202e}".as_bytes().to_vec().into(),
        );
        let text = shown(&RData::HINFO(hostile));
        assert!(
            text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{text}"
        );
        let long = shown(&RData::NULL(NULL::with(vec![7; 4000])));
        assert_eq!(long.chars().count(), DATA_MAX + 1);
    }

    #[test]
    fn numbers_without_a_name_are_told_as_numbers() {
        assert_eq!(type_name(28), "AAAA");
        assert_eq!(type_name(65_280), "TYPE65280");
        assert_eq!(class_name(1), "IN");
        assert_eq!(class_name(9), "CLASS9");
        assert_eq!(code_name(3), "NXDOMAIN");
        assert_eq!(code_name(3841), "RCODE3841");
    }
}
