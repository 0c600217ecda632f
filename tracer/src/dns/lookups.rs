//! Questions that wait for their answers.
//!
//! In: what was sent to port 53 and came from there, in ring order, with the process in whose name; the
//! passing of time. Out: a [`Fact::Lookup`] for each question. An answer counts only if it comes
//! to the socket that asked, from the address that was asked, and repeats transaction and question.

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::message::{self, MessageError};
use super::names::{Lesson, Names};
use super::streams::{StreamId, Streams};
use super::{Answer, Ending, Flags, Lookup, Question};
use crate::arena::{Arena, Handle};
use crate::event::{BootTime, DnsPayload, Endpoints, ProcessKey, SocketId, Transport};
use crate::observation::{Fact, Loss, LossUnit, Observation, Sink};
use crate::process::image::Image;

/// How many questions may wait.
const PENDING_MAX: usize = 16_384;
/// How many of them under one transaction of one socket, which are one or somebody's mischief.
const ALIKE_MAX: usize = 16;
/// How long a question waits after it was last sent: resolvers mostly ask again after 5 s, and that is to
/// be the same look-up.
const ANSWER_NS: u64 = 5_500_000_000;
/// Who asks again after that begins another look-up.
const LONGEST_NS: u64 = 30_000_000_000;

const IN: u16 = 1;
const NOERROR: u16 = 0;

/// What is counted of look-ups, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounters {
    /// Messages that could not be read to their end.
    pub malformed: u64,
    /// Answers to no question that waited: late, repeated or forged.
    pub unexpected: u64,
    /// Questions that had to make room for others.
    pub evictions: u64,
    /// Names of addresses that had to make room for others.
    pub names_evicted: u64,
}

/// Where an answer has to come, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Exchange {
    socket: SocketId,
    transport: Transport,
    local_port: u16,
    server: SocketAddr,
    id: u16,
}

impl Exchange {
    fn of(payload: &DnsPayload<'_>, id: u16) -> Self {
        Exchange {
            socket: payload.socket,
            transport: payload.transport,
            local_port: payload.endpoints.local.port(),
            server: payload.endpoints.remote,
            id,
        }
    }
}

/// A payload, with whoever would have sent it.
struct Seen<'a> {
    time: BootTime,
    payload: &'a DnsPayload<'a>,
    asker: Option<&'a Arc<Image>>,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Pending {
    exchange: Exchange,
    endpoints: Endpoints,
    question: Question,
    flags: Flags,
    asker: Option<Arc<Image>>,
    asked_at: BootTime,
    last_asked_at: BootTime,
    attempts: u32,
    /// The answer may have been lost.
    is_doubtful: bool,
}

impl Pending {
    fn new(seen: &Seen<'_>, exchange: Exchange, question: Question, flags: Flags) -> Self {
        Pending {
            exchange,
            endpoints: seen.payload.endpoints,
            question,
            flags,
            asker: seen.asker.cloned(),
            asked_at: seen.time,
            last_asked_at: seen.time,
            attempts: 1,
            is_doubtful: false,
        }
    }

    fn asker_key(&self) -> Option<ProcessKey> {
        self.asker.as_ref().map(|asker| asker.key)
    }

    fn due(&self) -> BootTime {
        BootTime(self.last_asked_at.0.saturating_add(ANSWER_NS))
    }

    /// Over which the answer would come.
    fn stream(&self) -> StreamId {
        StreamId::to(self.exchange.socket, &self.endpoints)
    }
}

/// Every question that waits, and the names that the answers gave to addresses.
#[derive(Debug)]
pub(crate) struct Lookups {
    /// In the order in which they were last asked.
    pending: Arena<Pending, 1>,
    exchanges: HashMap<Exchange, Vec<Handle>, foldhash::fast::RandomState>,
    streams: Streams,
    names: Names,
    counters: LookupCounters,
    reported_evictions: u64,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Lookups {
            pending: Arena::new(),
            exchanges: HashMap::default(),
            streams: Streams::new(),
            names: Names::new(),
            counters: LookupCounters::default(),
            reported_evictions: 0,
        }
    }

    /// The names of addresses.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The same, to be told who is a resolver.
    pub(crate) fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// What is counted.
    pub(crate) fn counters(&self) -> LookupCounters {
        LookupCounters {
            names_evicted: self.names.evictions(),
            ..self.counters
        }
    }

    /// Something was sent, by `asker` if that is known, or received.
    pub(crate) fn payload(
        &mut self,
        time: BootTime,
        payload: &DnsPayload<'_>,
        asker: Option<&Arc<Image>>,
        sink: &mut dyn Sink,
    ) {
        let seen = Seen {
            time,
            payload,
            asker,
        };
        match payload.transport {
            Transport::Udp => self.message(&seen, payload.bytes, !payload.truncated, sink),
            Transport::Tcp => {
                let mut streams = std::mem::replace(&mut self.streams, Streams::new());
                streams.push(time, payload, |bytes, is_whole| {
                    self.message(&seen, bytes, is_whole, sink);
                });
                self.streams = streams;
            }
        }
    }

    /// A connection to a name server is closed.
    pub(crate) fn close(&mut self, socket: SocketId, endpoints: &Endpoints) {
        self.streams.close(socket, endpoints);
    }

    fn message(&mut self, seen: &Seen<'_>, bytes: &[u8], is_whole: bool, sink: &mut dyn Sink) {
        let message = match message::read(bytes, is_whole) {
            Ok(message) => message,
            Err(MessageError::NoLookup) => return,
            Err(_) => {
                self.counters.malformed += u64::from(is_whole);
                return;
            }
        };
        let exchange = Exchange::of(seen.payload, message.id);
        match (message.answer, message.question, seen.payload.received) {
            (Some(answer), question, true) => {
                self.answer(seen.time, &exchange, question.as_ref(), answer, sink);
            }
            (None, Some(question), false) => {
                self.ask(Pending::new(seen, exchange, question, message.flags), sink);
            }
            // Who asks from port 53, or answers to it, is a server.
            _ => {}
        }
    }

    fn ask(&mut self, new: Pending, sink: &mut dyn Sink) {
        let now = new.asked_at;
        if let Some(handle) = self.find(&new.exchange, Some(&new.question)) {
            let known = &mut self.pending[handle];
            let is_same_asker = known.asker_key() == new.asker_key();
            if is_same_asker && now.since(known.asked_at) <= LONGEST_NS {
                known.attempts = known.attempts.saturating_add(1);
                known.last_asked_at = now;
                self.pending.move_to(handle, 0);
                return;
            }
            let ending = if is_same_asker {
                Ending::Unanswered
            } else {
                Ending::Unknown
            };
            self.end(handle, now, ending, sink);
        }
        self.make_room(&new.exchange);
        let exchange = new.exchange;
        let handle = self.pending.push(0, new);
        self.exchanges.entry(exchange).or_default().push(handle);
    }

    /// For one more question in an exchange.
    fn make_room(&mut self, exchange: &Exchange) {
        let alike = self.exchanges.get(exchange).map_or(&[][..], Vec::as_slice);
        let oldest = if alike.len() >= ALIKE_MAX {
            alike.first().copied()
        } else if self.pending.len() >= PENDING_MAX {
            self.pending.first(0).map(|(handle, _)| handle)
        } else {
            None
        };
        if oldest.and_then(|oldest| self.take(oldest)).is_some() {
            self.counters.evictions += 1;
        }
    }

    fn answer(
        &mut self,
        time: BootTime,
        exchange: &Exchange,
        question: Option<&Question>,
        answer: Answer,
        sink: &mut dyn Sink,
    ) {
        self.counters.malformed += u64::from(answer.malformed);
        // Only who could not read the question answers without it.
        let is_answer = question.is_some() || answer.code != NOERROR;
        let Some(handle) = self.find(exchange, question).filter(|_| is_answer) else {
            self.counters.unexpected += 1;
            return;
        };
        self.learn(handle, time, &answer);
        self.end(handle, time, Ending::Answered(answer), sink);
    }

    /// Remembers which addresses the name has that was asked for.
    fn learn(&mut self, handle: Handle, time: BootTime, answer: &Answer) {
        let pending = &self.pending[handle];
        let Some(ttl) = ttl(&pending.question, answer) else {
            return;
        };
        let lesson = Lesson {
            name: &pending.question.name,
            learner: pending.asker.as_deref(),
            time,
            ttl,
        };
        for address in answer.addresses(&pending.question.name) {
            self.names.learn(address, &lesson);
        }
    }

    /// The question that waits in an exchange; without a question the only one.
    fn find(&self, exchange: &Exchange, question: Option<&Question>) -> Option<Handle> {
        let alike = self.exchanges.get(exchange)?;
        match question {
            Some(question) => {
                let is_it = |handle: &Handle| self.pending[*handle].question.is_same(question);
                alike.iter().copied().find(is_it)
            }
            None => alike.first().copied().filter(|_| alike.len() == 1),
        }
    }

    /// Tells how a look-up ended.
    fn end(&mut self, handle: Handle, time: BootTime, ending: Ending, sink: &mut dyn Sink) {
        let Some(pending) = self.take(handle) else {
            return;
        };
        let asker = pending.asker.as_ref();
        let lookup = Lookup {
            endpoints: pending.endpoints,
            transport: pending.exchange.transport,
            id: pending.exchange.id,
            question: pending.question,
            asked: pending.flags,
            attempts: pending.attempts,
            by_resolver: asker.is_some_and(|asker| self.names.is_resolver(asker.key)),
            ending,
        };
        let fact = Fact::Lookup {
            lookup: &lookup,
            process: asker,
            duration_ns: time.since(pending.asked_at),
        };
        sink.observe(&Observation { time, fact });
    }

    fn take(&mut self, handle: Handle) -> Option<Pending> {
        let pending = self.pending.remove(handle)?;
        if let Some(alike) = self.exchanges.get_mut(&pending.exchange) {
            alike.retain(|&other| other != handle);
            if alike.is_empty() {
                self.exchanges.remove(&pending.exchange);
            }
        }
        Some(pending)
    }

    /// Records of messages were lost: whoever waits may have been answered.
    pub(crate) fn doubt(&mut self) {
        self.pending
            .iter_mut()
            .for_each(|pending| pending.is_doubtful = true);
    }

    /// Whether [`advance`](Self::advance) has anything to do.
    #[inline]
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        self.pending.len() > 0 && self.due().is_some_and(|due| now >= due)
    }

    /// When time alone will lead to a report.
    pub(crate) fn due(&self) -> Option<BootTime> {
        self.pending.first(0).map(|(_, pending)| pending.due())
    }

    /// Lets time pass: whoever has waited long enough has no answer.
    pub(crate) fn advance(&mut self, now: BootTime, sink: &mut dyn Sink) {
        while let Some((handle, pending)) = self.pending.first(0) {
            let due = pending.due();
            if now < due {
                break;
            }
            let is_stream_lost = pending.exchange.transport == Transport::Tcp
                && self.streams.is_lost(&pending.stream());
            let ending = if pending.is_doubtful || is_stream_lost {
                Ending::Unknown
            } else {
                Ending::Unanswered
            };
            self.end(handle, due, ending, sink);
        }
    }

    /// Nothing will follow: tells of those who still wait.
    pub(crate) fn drain(&mut self, now: BootTime, sink: &mut dyn Sink) {
        while let Some((handle, _)) = self.pending.first(0) {
            self.end(handle, now, Ending::Unknown, sink);
        }
    }

    /// What was lost since the last call.
    pub(crate) fn take_loss(&mut self) -> Loss {
        let evictions = self.counters.evictions;
        let before = std::mem::replace(&mut self.reported_evictions, evictions);
        Loss {
            stage: "table",
            kind: "dns_lookup",
            unit: LossUnit::Event,
            count: evictions - before,
        }
    }
}

/// For how long the addresses of a name may be kept, in seconds; `None` if they are not to be believed.
/// Who gets a part of an answer asks again for the whole.
fn ttl(question: &Question, answer: &Answer) -> Option<u32> {
    let is_believed = question.class == IN && answer.code == NOERROR && !answer.flags.truncated;
    let chain = answer.chain(&question.name).into_iter();
    chain.map(|record| record.ttl).min().filter(|_| is_believed)
}

#[cfg(test)]
mod tests;
