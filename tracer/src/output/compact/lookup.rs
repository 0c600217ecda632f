//! What a server said, for people.
//!
//! In: a look-up. Out: its addresses or its error, and with `wide` all records. Whatever comes from a message
//! is printable ASCII by now.

use super::paint::{Painter, Style};
use super::write_all;
use crate::dns::record::{code_name, type_name};
use crate::dns::{Answer, Ending, Lookup};
use crate::output::names;

/// How many addresses a line shows.
const SHOWN: usize = 2;

/// Why there is no answer is told as for connections.
pub(super) fn write_answer(lookup: &Lookup, painter: &Painter, out: &mut Vec<u8>) {
    match &lookup.ending {
        Ending::Answered(answer) if answer.code == 0 => {
            out.extend_from_slice(answer_text(lookup, answer).as_bytes());
            if answer.flags.truncated {
                out.extend_from_slice(b" (truncated)");
            }
        }
        Ending::Answered(answer) => {
            painter.paint(Style::Bad, code_name(answer.code).as_bytes(), out);
        }
        Ending::Unanswered => return,
        Ending::Unknown => out.extend_from_slice(b"answer unknown"),
    }
    out.extend_from_slice(b"  ");
}

/// The first addresses; without any, how many records of another kind there are.
fn answer_text(lookup: &Lookup, answer: &Answer) -> String {
    let addresses: Vec<String> = lookup.addresses().map(|it| it.to_string()).collect();
    let shown = addresses.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let shown = shown.join(", ");
    match (
        addresses.len(),
        answer.records.len() + answer.omitted as usize,
    ) {
        (0, 0) => "no record".into(),
        (0, 1) => "1 record".into(),
        (0, count) => format!("{count} records"),
        (count, _) if count > SHOWN => format!("{shown} and {} more", count - SHOWN),
        _ => shown,
    }
}

/// The rest, each with its name.
pub(super) fn write_details(lookup: &Lookup, out: &mut Vec<u8>) {
    let (id, transport) = (lookup.id, names::transport(lookup.transport));
    write_all(out, format_args!("id={id} {transport} "));
    write_all(out, format_args!("attempts={} ", lookup.attempts));
    for flag in names::header_flags(lookup.flags()) {
        write_all(out, format_args!("{flag} "));
    }
    if lookup.by_resolver {
        out.extend_from_slice(b"(resolver) ");
    }
    for record in lookup
        .answer()
        .into_iter()
        .flat_map(|answer| &answer.records)
    {
        let (name, kind, ttl) = (&record.name, type_name(record.kind), record.ttl);
        write_all(
            out,
            format_args!("answer=\"{name} {ttl} {kind} {}\" ", record.data),
        );
    }
}
