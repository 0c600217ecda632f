//! Messages that are built by the library, and what is read of them; then bytes that are none.

use hickory_proto::op::{Edns, Message as Built, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record as BuiltRecord};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn built(kind: MessageType, asked: &str) -> Built {
    let mut message = Built::new(7, kind, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(asked), RecordType::A));
    message
}

/// An alias and two addresses, compressed.
fn answered() -> Built {
    let mut message = built(MessageType::Response, "www.Example.org.");
    let target = name("edge.example.net.");
    let alias = RData::CNAME(CNAME(target.clone()));
    message.add_answer(BuiltRecord::from_rdata(
        name("www.example.org."),
        300,
        alias,
    ));
    let address = RData::A(A::new(192, 0, 2, 1));
    message.add_answer(BuiltRecord::from_rdata(target.clone(), 20, address));
    let address = RData::AAAA("::ffff:192.0.2.2".parse::<AAAA>().unwrap());
    message.add_answer(BuiltRecord::from_rdata(target, 60, address));
    message
}

fn bytes(message: &Built) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn read_answer(bytes: &[u8]) -> Answer {
    read(bytes, true).unwrap().answer.expect("an answer")
}

#[test]
fn a_question_is_read_as_it_was_asked() {
    let message = read(&bytes(&built(MessageType::Query, "WWW.example.org.")), true).unwrap();
    let question = message.question.unwrap();
    assert_eq!((message.id, &*question.name), (7, "WWW.example.org"));
    assert_eq!((question.kind, question.class), (1, 1));
    assert!(message.flags.recursion_desired && message.answer.is_none());
}

#[test]
fn aliases_are_followed_from_the_name_that_was_asked_to_its_addresses() {
    let answer = read_answer(&bytes(&answered()));
    let shown: Vec<String> = answer
        .records
        .iter()
        .map(|it| it.data.to_string())
        .collect();
    assert_eq!(shown, ["edge.example.net", "192.0.2.1", "::ffff:192.0.2.2"]);
    let chain = answer.chain("WWW.example.ORG");
    assert_eq!(
        chain.iter().map(|it| it.ttl).collect::<Vec<_>>(),
        [300, 20, 60]
    );
    let addresses = answer.addresses("www.example.org");
    let mapped = addresses.map(|it| it.to_string()).collect::<Vec<_>>();
    assert_eq!(mapped, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(answer.addresses("other.example.org").count(), 0);
}

#[test]
fn aliases_that_lead_to_themselves_lead_nowhere() {
    let mut message = built(MessageType::Response, "a.example.");
    for (from, to) in [("a.example.", "b.example."), ("b.example.", "a.example.")] {
        let alias = RData::CNAME(CNAME(name(to)));
        message.add_answer(BuiltRecord::from_rdata(name(from), 1, alias));
    }
    assert_eq!(
        read_answer(&bytes(&message)).addresses("a.example").count(),
        0
    );
}

#[test]
fn the_response_code_has_its_upper_bits_from_edns() {
    let mut message = built(MessageType::Response, "example.org.");
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read_answer(&bytes(&message)).code, 3);
    message.set_edns(Edns::new());
    message.metadata.response_code = ResponseCode::from(1, 0);
    assert_eq!(read_answer(&bytes(&message)).code, 16);
}

#[test]
fn what_stands_before_a_fault_is_kept() {
    let whole = bytes(&answered());
    let cut = &whole[..whole.len() - 3];
    let answer = read(cut, true).unwrap().answer.unwrap();
    assert_eq!((answer.records.len(), answer.malformed), (2, true));
    let answer = read(cut, false).unwrap().answer.unwrap();
    assert_eq!((answer.malformed, answer.incomplete), (false, true));
}

#[test]
fn records_are_bounded() {
    let mut message = built(MessageType::Response, "example.org.");
    for last in 0..=RECORDS_MAX {
        let address = RData::A(A::new(192, 0, 2, last as u8));
        message.add_answer(BuiltRecord::from_rdata(name("example.org."), 1, address));
    }
    let answer = read_answer(&bytes(&message));
    assert_eq!((answer.records.len(), answer.omitted), (RECORDS_MAX, 1));
}

#[test]
fn what_is_no_look_up_is_none() {
    let mut update = built(MessageType::Query, "example.org.");
    update.metadata.op_code = OpCode::Update;
    assert!(matches!(
        read(&bytes(&update), true),
        Err(MessageError::NoLookup)
    ));
    let mut two = built(MessageType::Query, "example.org.");
    two.add_query(Query::query(name("example.net."), RecordType::A));
    assert!(matches!(
        read(&bytes(&two), true),
        Err(MessageError::Questions(2))
    ));
    assert!(matches!(
        read(b"short", true),
        Err(MessageError::Malformed(_))
    ));
}

#[test]
fn a_pointer_that_points_at_itself_is_malformed() {
    let header = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
        let message = [&header[..], &pointer, &[0, 1, 0, 1]].concat();
        assert!(matches!(
            read(&message, true),
            Err(MessageError::Malformed(_))
        ));
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_print_raw(
        random in proptest::collection::vec(any::<u8>(), 0..600),
        is_whole: bool,
    ) {
        let _ = read(&random, is_whole);
        // Behind a good header, so that it gets further.
        let header = [0, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 1, 0, 1];
        if let Ok(message) = read(&[&header[..], &random].concat(), is_whole) {
            prop_assert!(is_printable(&message.question.unwrap().name));
        }
    }

    #[test]
    fn no_change_of_an_answer_makes_it_panic(place in 0..120usize, byte: u8) {
        let mut bytes = bytes(&answered());
        let place = place % bytes.len();
        bytes[place] = byte;
        if let Ok(Message { answer: Some(answer), .. }) = read(&bytes, true) {
            for record in &answer.records {
                prop_assert!(is_printable(&record.name));
            }
        }
    }
}
