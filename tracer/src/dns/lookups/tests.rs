//! Questions and answers put in one after the other, and the look-ups that come of them.

use hickory_proto::op::{Message as Built, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record as BuiltRecord, RecordType};

use super::*;

const MS: u64 = 1_000_000;

fn at(ms: u64) -> BootTime {
    BootTime(ms * MS)
}

fn built(kind: MessageType, id: u16, name: &str) -> Built {
    let mut message = Built::new(id, kind, OpCode::Query);
    let name = Name::from_ascii(name).unwrap();
    message.add_query(Query::query(name, RecordType::A));
    message
}

fn question(id: u16, name: &str) -> Vec<u8> {
    built(MessageType::Query, id, name).to_vec().unwrap()
}

fn answer_of(id: u16, name: &str, change: impl FnOnce(&mut Built)) -> Vec<u8> {
    let mut message = built(MessageType::Response, id, name);
    let address = RData::A(A::new(192, 0, 2, 1));
    let name = Name::from_ascii(name).unwrap();
    message.add_answer(BuiltRecord::from_rdata(name, 60, address));
    change(&mut message);
    message.to_vec().unwrap()
}

fn answer(id: u16, name: &str) -> Vec<u8> {
    answer_of(id, name, |_| {})
}

/// What happens at one socket, and what is said about it.
struct Story {
    lookups: Lookups,
    asker: Option<Arc<Image>>,
    payload: DnsPayload<'static>,
    told: Told,
}

#[derive(Default)]
struct Told(Vec<String>);

impl Sink for Told {
    fn observe(&mut self, observation: &Observation<'_>) {
        let Fact::Lookup {
            lookup,
            process,
            duration_ns,
        } = &observation.fact
        else {
            return;
        };
        let ending = match &lookup.ending {
            Ending::Answered(answer) => super::super::record::code_name(answer.code).into_owned(),
            Ending::Unanswered => "unanswered".into(),
            Ending::Unknown => "unknown".into(),
        };
        let asker = process.map_or(0, |image| image.key.tgid);
        self.0.push(format!(
            "{} {asker} {ending} x{} after {} at {}",
            lookup.question.name,
            lookup.attempts,
            duration_ns / MS,
            observation.time.0 / MS
        ));
    }

    fn flush(&mut self) {}
}

impl Story {
    fn over(transport: Transport) -> Self {
        Story {
            lookups: Lookups::new(),
            asker: Some(Arc::new(Image::sample(20, b"curl"))),
            payload: DnsPayload {
                socket: SocketId(1),
                task: None,
                endpoints: Endpoints {
                    netns: 1,
                    local: ([10, 0, 0, 1], 40_000).into(),
                    remote: ([10, 0, 0, 53], 53).into(),
                    ipv6_socket: false,
                },
                transport,
                received: false,
                bytes: b"",
                truncated: false,
                sequence: None,
            },
            told: Told::default(),
        }
    }

    fn sent(&mut self, ms: u64, bytes: &[u8]) {
        self.push(ms, bytes, false);
    }

    fn received(&mut self, ms: u64, bytes: &[u8]) {
        self.push(ms, bytes, true);
    }

    fn push(&mut self, ms: u64, bytes: &[u8], received: bool) {
        let payload = DnsPayload {
            received,
            bytes,
            ..self.payload
        };
        let asker = self.asker.as_ref();
        self.lookups.advance(at(ms), &mut self.told);
        self.lookups
            .payload(at(ms), &payload, asker, &mut self.told);
    }

    fn advance(&mut self, ms: u64) {
        self.lookups.advance(at(ms), &mut self.told);
    }

    /// What was said since the last call.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told.0)
    }
}

#[test]
fn an_answer_ends_the_look_up_of_its_question() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "Example.org."));
    story.received(12, &answer(7, "example.ORG."));
    assert_eq!(story.told(), ["Example.org 20 NOERROR x1 after 12 at 12"]);
    story.received(13, &answer(7, "example.org."));
    assert_eq!(story.lookups.counters().unexpected, 1);
    assert!(story.told().is_empty());
    let domain = story
        .lookups
        .names()
        .of(story.asker.as_deref(), [192, 0, 2, 1].into(), at(20));
    assert_eq!(domain.unwrap().name.as_ref(), "Example.org");
}

#[test]
fn an_answer_from_elsewhere_or_to_another_question_does_not_count() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "example.org."));
    let mine = story.payload.endpoints;
    story.received(1, &answer(8, "example.org."));
    story.received(1, &answer(7, "example.net."));
    story.payload.endpoints.remote.set_port(5353);
    story.received(1, &answer(7, "example.org."));
    story.payload.endpoints = mine;
    story.payload.socket = SocketId(2);
    story.received(1, &answer(7, "example.org."));
    assert_eq!(story.lookups.counters().unexpected, 4);
    story.advance(5_500);
    assert_eq!(
        story.told(),
        ["example.org 20 unanswered x1 after 5500 at 5500"]
    );
    assert!(
        story
            .lookups
            .names()
            .of(None, [192, 0, 2, 1].into(), at(2))
            .is_none()
    );
}

#[test]
fn a_question_that_is_sent_again_is_the_same_look_up() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "example.org."));
    story.sent(5_010, &question(7, "example.org."));
    story.advance(5_600);
    assert!(story.told().is_empty());
    story.received(6_000, &answer(7, "example.org."));
    assert_eq!(
        story.told(),
        ["example.org 20 NOERROR x2 after 6000 at 6000"]
    );
}

#[test]
fn who_asks_for_ever_is_told_of_now_and_then() {
    let mut story = Story::over(Transport::Udp);
    for second in 0..=34 {
        story.sent(second * 1_000, &question(7, "example.org."));
    }
    assert_eq!(
        story.told(),
        ["example.org 20 unanswered x31 after 31000 at 31000"]
    );
}

#[test]
fn two_questions_on_one_socket_are_two_look_ups() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "a.example."));
    story.sent(0, &question(8, "b.example."));
    story.sent(0, &question(8, "c.example."));
    story.received(1, &answer(8, "b.example."));
    story.received(2, &answer(7, "a.example."));
    story.received(3, &answer(8, "c.example."));
    let names = story.told().into_iter().map(|line| line[..1].to_owned());
    assert_eq!(names.collect::<String>(), "bac");
}

#[test]
fn the_same_question_of_another_process_is_another_look_up() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "example.org."));
    story.asker = Some(Arc::new(Image::sample(30, b"wget")));
    story.sent(1, &question(7, "example.org."));
    story.received(2, &answer(7, "example.org."));
    let expected = [
        "example.org 20 unknown x1 after 1 at 1",
        "example.org 30 NOERROR x1 after 1 at 2",
    ];
    assert_eq!(story.told(), expected);
}

#[test]
fn a_refusal_may_come_without_the_question() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "example.org."));
    let bare = |code| {
        let mut message = Built::new(7, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.to_vec().unwrap()
    };
    story.received(1, &bare(ResponseCode::NoError));
    assert!(story.told().is_empty());
    story.received(2, &bare(ResponseCode::FormErr));
    assert_eq!(story.told(), ["example.org 20 FORMERR x1 after 2 at 2"]);
}

#[test]
fn a_truncated_or_failed_answer_names_no_address() {
    for change in [
        (|it: &mut Built| it.metadata.truncation = true) as fn(&mut Built),
        |it| it.metadata.response_code = ResponseCode::ServFail,
    ] {
        let mut story = Story::over(Transport::Udp);
        story.sent(0, &question(7, "example.org."));
        story.received(1, &answer_of(7, "example.org.", change));
        assert_eq!(story.told().len(), 1);
        let named = story.lookups.names().of(None, [192, 0, 2, 1].into(), at(2));
        assert_eq!(named, None);
    }
}

#[test]
fn a_stream_is_read_in_the_parts_in_which_it_comes() {
    let mut story = Story::over(Transport::Tcp);
    let framed = |message: Vec<u8>| {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&length[..], &message].concat()
    };
    story.sent(0, &framed(question(7, "example.org.")));
    let answer = framed(answer(7, "example.org."));
    story.received(1, &answer[..2]);
    story.received(2, &answer[2..20]);
    story.received(3, &answer[20..]);
    assert_eq!(story.told(), ["example.org 20 NOERROR x1 after 3 at 3"]);
}

#[test]
fn an_answer_that_may_have_been_lost_is_not_told_as_missing() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, &question(7, "a.example."));
    story.lookups.doubt();
    story.sent(1, &question(8, "b.example."));
    story.advance(6_000);
    let expected = [
        "a.example 20 unknown x1 after 5500 at 5500",
        "b.example 20 unanswered x1 after 5500 at 5501",
    ];
    assert_eq!(story.told(), expected);
    story.sent(7_000, &question(9, "c.example."));
    story.lookups.drain(at(7_001), &mut story.told);
    assert_eq!(story.told(), ["c.example 20 unknown x1 after 1 at 7001"]);
    let mut story = Story::over(Transport::Tcp);
    story.sent(0, &[&[0, 29][..], &question(7, "example.org.")].concat());
    story.payload.truncated = true;
    story.received(1, &[0]);
    story.advance(6_000);
    assert_eq!(
        story.told(),
        ["example.org 20 unknown x1 after 5500 at 5500"]
    );
}

#[test]
fn what_waits_is_bounded_and_the_evicted_counted() {
    let mut story = Story::over(Transport::Udp);
    for number in 0..PENDING_MAX + 10 {
        story.payload.socket = SocketId(number as u64);
        story.sent(1, &question(7, "example.org."));
    }
    assert_eq!(story.lookups.pending.len(), PENDING_MAX);
    assert_eq!(story.lookups.exchanges.len(), PENDING_MAX);
    assert_eq!(story.lookups.take_loss().count, 10);
    assert_eq!(story.lookups.take_loss().count, 0);
    let mut story = Story::over(Transport::Udp);
    for number in 0..ALIKE_MAX + 1 {
        story.sent(1, &question(7, &format!("n{number}.example.")));
    }
    assert_eq!(story.lookups.pending.len(), ALIKE_MAX);
    assert_eq!(story.lookups.take_loss().count, 1);
}

#[test]
fn what_cannot_be_read_is_counted_and_nothing_else() {
    let mut story = Story::over(Transport::Udp);
    story.sent(0, b"\0\x07\x01");
    story.received(0, &question(7, "example.org."));
    story.sent(0, &answer(7, "example.org."));
    assert_eq!(story.lookups.counters().malformed, 1);
    assert!(story.told().is_empty() && story.lookups.due().is_none());
}
