//! A message of DNS, as far as it can be read.
//!
//! In: bytes that anyone may have sent. Out: a [`Message`], or an error that costs no more than a
//! counter. Header and question must be right; of an answer whose records are not, what stands before
//! the fault is kept, since whoever asked has been answered.

use hickory_proto::op::{Header, MessageType, OpCode, Query};
use hickory_proto::rr::{self, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::record::Record;
use super::{Answer, Flags, Question, text};

/// How many records of an answer are kept.
pub const RECORDS_MAX: usize = 64;

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The transaction.
    pub(crate) id: u16,
    /// What is asked. A server that understood nothing may answer without it.
    pub(crate) question: Option<Question>,
    /// The header.
    pub(crate) flags: Flags,
    /// What the answer says, if it is one.
    pub(crate) answer: Option<Answer>,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// They cannot be read.
    #[error("cannot read a message of DNS: {0}")]
    Malformed(#[from] DecodeError),
    /// It is an update, a notification or the like.
    #[error("the message of DNS is no look-up")]
    NoLookup,
    /// It does not ask one question.
    #[error("the message of DNS has {0} questions")]
    Questions(u16),
}

/// Reads a message. `is_whole` says that `bytes` do not lack their end.
pub(crate) fn read(bytes: &[u8], is_whole: bool) -> Result<Message, MessageError> {
    let decoder = &mut BinDecoder::new(bytes);
    let header = Header::read(decoder)?;
    if header.op_code != OpCode::Query {
        return Err(MessageError::NoLookup);
    }
    let is_answer = header.message_type == MessageType::Response;
    let question = match (header.counts.queries, is_answer) {
        (1, _) => Some(question(&Query::read(decoder)?)),
        (0, true) => None,
        (count, _) => return Err(MessageError::Questions(count)),
    };
    let answer = is_answer.then(|| read_answer(&header, decoder, is_whole));
    Ok(Message {
        id: header.id,
        question,
        flags: flags(&header),
        answer,
    })
}

fn question(query: &Query) -> Question {
    Question {
        name: text::name(query.name()).into(),
        kind: query.query_type().into(),
        class: query.query_class().into(),
    }
}

fn flags(header: &Header) -> Flags {
    Flags {
        authoritative: header.authoritative,
        truncated: header.truncation,
        recursion_desired: header.recursion_desired,
        recursion_available: header.recursion_available,
        authentic_data: header.authentic_data,
        checking_disabled: header.checking_disabled,
    }
}

fn read_answer(header: &Header, decoder: &mut BinDecoder<'_>, is_whole: bool) -> Answer {
    let mut answer = Answer {
        code: header.response_code.into(),
        flags: flags(header),
        ..Answer::default()
    };
    let is_read = read_records(header, decoder, &mut answer).is_ok();
    answer.malformed = !is_read && is_whole;
    answer.incomplete = !is_read && !is_whole;
    answer
}

/// Takes what it can read before the first fault.
fn read_records(
    header: &Header,
    decoder: &mut BinDecoder<'_>,
    answer: &mut Answer,
) -> Result<(), DecodeError> {
    for _ in 0..header.counts.answers {
        let record = rr::Record::read(decoder)?;
        if answer.records.len() < RECORDS_MAX {
            answer.records.push(Record::from(&record));
        } else {
            answer.omitted += 1;
        }
    }
    for _ in 0..header.counts.authorities {
        rr::Record::read(decoder)?;
    }
    for _ in 0..header.counts.additionals {
        let record = rr::Record::read(decoder)?;
        if record.record_type() == RecordType::OPT {
            // The TTL's first byte has the upper bits of the response code (RFC 6891, section 6.1.3).
            let upper = (record.ttl >> 24) as u16;
            answer.code = upper << 4 | answer.code & 0xf;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
