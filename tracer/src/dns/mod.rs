//! Look-ups of names: which process asked whom for what, and what the answer was.
//!
//! In: what was sent to port 53 and came from there, with the process in whose name. Out: a
//! [`Lookup`] for each question, once it is answered or will not be; and for later connections the
//! name by which their destination was asked for. Like the tables, this does no I/O and reads no clock.

pub mod lookups;
pub mod message;
pub mod names;
pub mod record;
mod streams;
mod text;
pub(crate) mod unowned;

use std::net::IpAddr;
use std::sync::Arc;

use self::record::{Data, Record};
use crate::event::{Endpoints, Errno, Transport};

/// `ETIMEDOUT`: what a process is told that waits for an answer in vain.
const ETIMEDOUT: Errno = Errno(110);
/// Longest chain of aliases that is followed.
const ALIASES_MAX: usize = 16;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In presentation format (RFC 4343), without the last dot; `.` for the root. Printable ASCII, in the
    /// case in which it was asked.
    pub name: Arc<str>,
    /// QTYPE; [`record::type_name`] names it.
    pub kind: u16,
    /// QCLASS; [`record::class_name`] names it.
    pub class: u16,
}

impl Question {
    /// Whether it is the same question: in names, case means nothing.
    pub fn is_same(&self, other: &Question) -> bool {
        self.kind == other.kind
            && self.class == other.class
            && self.name.eq_ignore_ascii_case(&other.name)
    }
}

/// What a message says beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// AA: the server is responsible for the name.
    pub authoritative: bool,
    /// TC: the message was cut; whoever wants the rest asks again over TCP.
    pub truncated: bool,
    /// RD.
    pub recursion_desired: bool,
    /// RA.
    pub recursion_available: bool,
    /// AD: the server has checked signatures.
    pub authentic_data: bool,
    /// CD: the server is not to check them.
    pub checking_disabled: bool,
}

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// RCODE, with the upper bits of EDNS; [`record::code_name`] names it.
    pub code: u16,
    /// Its header.
    pub flags: Flags,
    /// The answer section, at most [`message::RECORDS_MAX`] of it.
    pub records: Vec<Record>,
    /// How many more there were.
    pub omitted: u32,
    /// What followed `records` could not be read.
    pub malformed: bool,
    /// The message is longer than what was seen of it.
    pub incomplete: bool,
}

impl Answer {
    /// The records that lead from a name to its addresses: aliases, then the addresses.
    pub fn chain(&self, name: &str) -> Vec<&Record> {
        let mut chain = Vec::new();
        let mut name = name;
        while let Some((record, target)) = self.alias(name)
            && chain.len() < ALIASES_MAX
        {
            chain.push(record);
            name = target;
        }
        let is_address = |record: &&Record| matches!(record.data, Data::Address(_));
        let own = self.records_of(name).filter(is_address);
        chain.extend(own);
        chain
    }

    /// The addresses of a name, IPv4-mapped ones as IPv4. What an answer says about other names nobody
    /// believes.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let chain = self.chain(name).into_iter();
        chain.filter_map(|record| match record.data {
            Data::Address(address) => Some(address.to_canonical()),
            Data::Alias(_) | Data::Text(_) => None,
        })
    }

    fn alias(&self, name: &str) -> Option<(&Record, &str)> {
        self.records_of(name).find_map(|record| match &record.data {
            Data::Alias(target) => Some((record, &**target)),
            Data::Address(_) | Data::Text(_) => None,
        })
    }

    fn records_of(&self, name: &str) -> impl Iterator<Item = &Record> {
        let records = self.records.iter();
        records.filter(move |record| record.name.eq_ignore_ascii_case(name))
    }
}

/// How a look-up ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answered(Answer),
    /// Without one.
    Unanswered,
    /// Not known: an answer may have come and been lost, or tracing ended before it came.
    Unknown,
}

/// A question of one process to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The asking socket, and the server.
    pub endpoints: Endpoints,
    /// By datagrams or over a stream.
    pub transport: Transport,
    /// The transaction.
    pub id: u16,
    /// What was asked.
    pub question: Question,
    /// The header of the question.
    pub asked: Flags,
    /// How often it was sent.
    pub attempts: u32,
    /// Who asked answers others.
    pub by_resolver: bool,
    /// What came of it.
    pub ending: Ending,
}

impl Lookup {
    /// What the server said, if it did.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.ending {
            Ending::Answered(answer) => Some(answer),
            Ending::Unanswered | Ending::Unknown => None,
        }
    }

    /// Why there is no answer.
    pub fn errno(&self) -> Option<Errno> {
        (self.ending == Ending::Unanswered).then_some(ETIMEDOUT)
    }

    /// The addresses that the name has by the answer.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let answers = self.answer().into_iter();
        answers.flat_map(|answer| answer.addresses(&self.question.name))
    }

    /// The header of the answer, or of the question if there is none.
    pub fn flags(&self) -> Flags {
        self.answer().map_or(self.asked, |answer| answer.flags)
    }
}
