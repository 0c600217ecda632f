//! A look-up: the members `network`, `source`, `destination` and `dns`, by the names of the ECS.

use super::object::{Object, key, write_list, write_word};
use super::{Json, write_end};
use crate::dns::record::{Record as DnsRecord, class_name, code_name, type_name};
use crate::dns::{Answer, Lookup};
use crate::observation::Direction;
use crate::output::names;
use crate::output::record::Record;

impl Json {
    /// What was asked of whom, and what the answer was.
    pub(super) fn lookup(&mut self, lookup: &Lookup, record: &Record<'_>, line: &mut Object<'_>) {
        let ends = &record.ends();
        let is_ipv4 = record.is_ipv4();
        line.object(key!("network"), |network| {
            network.word(key!("transport"), names::transport(lookup.transport));
            network.word(key!("type"), if is_ipv4 { "ipv4" } else { "ipv6" });
            network.word(key!("direction"), names::direction(Direction::Egress));
            network.word(key!("protocol"), "dns");
            if let Some(id) = self.community_id(lookup.transport.into(), ends) {
                network.word(key!("community_id"), id);
            }
        });
        write_end(key!("source"), &ends.source, line);
        write_end(key!("destination"), &ends.destination, line);
        line.object(key!("dns"), |dns| write_dns(lookup, dns));
    }
}

fn write_dns(lookup: &Lookup, dns: &mut Object<'_>) {
    let answer = lookup.answer();
    dns.word(
        key!("type"),
        if answer.is_some() { "answer" } else { "query" },
    );
    dns.word(key!("id"), itoa::Buffer::new().format(lookup.id));
    let flags = names::header_flags(lookup.flags());
    dns.words(key!("header_flags"), &flags);
    dns.object(key!("question"), |question| {
        question.text(key!("name"), &lookup.question.name);
        question.word(key!("type"), type_name(lookup.question.kind).as_bytes());
        question.word(key!("class"), class_name(lookup.question.class).as_bytes());
    });
    if let Some(answer) = answer {
        dns.word(key!("response_code"), code_name(answer.code).as_bytes());
        write_answers(lookup, answer, dns);
    }
}

fn write_answers(lookup: &Lookup, answer: &Answer, dns: &mut Object<'_>) {
    if !answer.records.is_empty() {
        write_list(&answer.records, dns.key(key!("answers")), |record, out| {
            let mut object = Object::begin(out);
            write_record(record, &mut object);
            object.end();
        });
    }
    let mut addresses: Vec<_> = lookup.addresses().collect();
    addresses.sort_unstable();
    addresses.dedup();
    if !addresses.is_empty() {
        write_list(addresses, dns.key(key!("resolved_ip")), |address, out| {
            write_word(address.to_string(), out);
        });
    }
}

fn write_record(record: &DnsRecord, object: &mut Object<'_>) {
    object.text(key!("name"), &record.name);
    object.word(key!("type"), type_name(record.kind).as_bytes());
    object.number(key!("ttl"), record.ttl);
    object.text(key!("data"), &record.data.to_string());
}

/// What has to be known about these members: how often was asked, and what of the answer is not told.
pub(super) fn write_remarks(lookup: &Lookup, tracer: &mut Object<'_>) {
    tracer.object(key!("dns"), |dns| {
        dns.number(key!("attempts"), lookup.attempts);
        let Some(answer) = lookup.answer() else {
            return;
        };
        if answer.omitted > 0 {
            dns.number(key!("answers_omitted"), answer.omitted);
        }
        if answer.malformed {
            dns.boolean(key!("malformed"), true);
        }
        if answer.incomplete {
            dns.boolean(key!("incomplete"), true);
        }
    });
}
