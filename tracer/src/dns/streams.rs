//! Messages out of streams: over TCP each has its length before it, in two bytes.
//!
//! In: what was sent or received at once, by stream. Out: each message, once its end has come.
//! Between messages nothing is kept but the number of the next byte, where it is known: what was seen before is
//! left out, and behind a gap nothing is believed. What is kept is bounded: so many streams, of a message as many
//! bytes as of a datagram; its rest is skipped.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use crate::arena::{Arena, Handle};
use crate::event::{BootTime, DnsPayload, Endpoints, SocketId};

/// Streams of which something is kept.
const STREAMS_MAX: usize = 1024;
/// As much of a message is kept.
const KEPT_MAX: usize = 4096;
/// A stream of which nothing was heard for so long is forgotten.
const IDLE_NS: u64 = 60_000_000_000;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamId {
    socket: SocketId,
    local: SocketAddr,
    remote: SocketAddr,
    received: bool,
}

impl StreamId {
    /// The stream that a payload is part of.
    pub(super) fn of(payload: &DnsPayload<'_>) -> Self {
        StreamId {
            socket: payload.socket,
            local: payload.endpoints.local,
            remote: payload.endpoints.remote,
            received: payload.received,
        }
    }

    /// The stream of what a socket receives.
    pub(super) fn to(socket: SocketId, endpoints: &Endpoints) -> Self {
        StreamId {
            socket,
            local: endpoints.local,
            remote: endpoints.remote,
            received: true,
        }
    }
}

#[derive(Debug)]
enum Progress {
    /// The next message has not begun.
    Between,
    /// The first byte of a length has come.
    Length(u8),
    /// A message is coming.
    Message { missing: usize, kept: Vec<u8> },
    /// Something is missing, so that nobody knows where the next message begins.
    Lost,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    heard: BootTime,
    /// TCP's number of the next byte, where it is known.
    next: Option<u32>,
    progress: Progress,
}

impl Stream {
    fn new(id: StreamId) -> Self {
        Stream {
            id,
            heard: BootTime(0),
            next: None,
            progress: Progress::Between,
        }
    }

    /// What is new of what was sent or received at once; behind a gap, the stream is lost.
    fn take_new<'a>(&mut self, payload: &DnsPayload<'a>) -> &'a [u8] {
        let Some(sequence) = payload.sequence.map(NonZeroU32::get) else {
            self.next = None;
            return payload.bytes;
        };
        let known = self.next.unwrap_or(sequence).wrapping_sub(sequence);
        if known > i32::MAX as u32 {
            self.progress = Progress::Lost;
            return &[];
        }
        let length = payload.bytes.len();
        let known = length.min(known as usize);
        if known < length || self.next.is_none() {
            self.next = Some(sequence.wrapping_add(length as u32));
        }
        &payload.bytes[known..]
    }

    fn is_worth_keeping(&self) -> bool {
        self.next.is_some() || !matches!(self.progress, Progress::Between)
    }
}

/// Streams of which something has come.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Arena<Stream, 1>,
    places: HashMap<StreamId, Handle, foldhash::fast::RandomState>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams {
            streams: Arena::new(),
            places: HashMap::default(),
        }
    }

    /// Takes what was sent or received at once. `deliver` gets each message, and whether that is whole.
    pub(super) fn push(
        &mut self,
        time: BootTime,
        payload: &DnsPayload<'_>,
        mut deliver: impl FnMut(&[u8], bool),
    ) {
        self.forget_idle(time);
        let id = StreamId::of(payload);
        let mut stream = self.take(&id).unwrap_or_else(|| Stream::new(id));
        let mut bytes = stream.take_new(payload);
        let mut progress = stream.progress;
        while !bytes.is_empty() && !matches!(progress, Progress::Lost) {
            (progress, bytes) = advance(progress, bytes, &mut deliver);
        }
        if payload.truncated {
            if let Progress::Message { kept, .. } = &progress {
                deliver(kept, false);
            }
            progress = Progress::Lost;
        }
        stream.heard = time;
        stream.progress = progress;
        if stream.is_worth_keeping() {
            self.keep(stream);
        }
    }

    /// A connection is closed: the next one between the same ends has other numbers. What was lost stays so for
    /// those who still wait for an answer.
    pub(super) fn close(&mut self, socket: SocketId, endpoints: &Endpoints) {
        for received in [false, true] {
            let id = StreamId {
                received,
                ..StreamId::to(socket, endpoints)
            };
            if !self.is_lost(&id) {
                self.take(&id);
            }
        }
    }

    /// Whether messages of a stream may have come unseen.
    pub(super) fn is_lost(&self, id: &StreamId) -> bool {
        let stream = self.places.get(id).map(|&handle| &self.streams[handle]);
        stream.is_some_and(|stream| matches!(stream.progress, Progress::Lost))
    }

    fn take(&mut self, id: &StreamId) -> Option<Stream> {
        let handle = self.places.remove(id)?;
        self.streams.remove(handle)
    }

    fn keep(&mut self, stream: Stream) {
        if self.streams.len() >= STREAMS_MAX {
            self.forget_first();
        }
        let id = stream.id;
        let handle = self.streams.push(0, stream);
        self.places.insert(id, handle);
    }

    fn forget_idle(&mut self, now: BootTime) {
        while let Some((_, stream)) = self.streams.first(0)
            && now.since(stream.heard) > IDLE_NS
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((handle, stream)) = self.streams.first(0) {
            self.places.remove(&stream.id);
            self.streams.remove(handle);
        }
    }
}

/// Goes on with a stream by one step, and returns where that leads and the bytes that are left.
fn advance<'a>(
    progress: Progress,
    bytes: &'a [u8],
    deliver: &mut impl FnMut(&[u8], bool),
) -> (Progress, &'a [u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return (progress, bytes);
    };
    match progress {
        Progress::Between => (Progress::Length(first), rest),
        Progress::Length(high) => {
            let length = usize::from(u16::from_be_bytes([high, first]));
            if let Some((message, rest)) = rest.split_at_checked(length) {
                deliver(message, true);
                return (Progress::Between, rest);
            }
            let kept = Vec::new();
            let message = Progress::Message {
                missing: length,
                kept,
            };
            (message, rest)
        }
        Progress::Message { missing, kept } => complete(missing, kept, bytes, deliver),
        Progress::Lost => (Progress::Lost, &[]),
    }
}

/// The same in the middle of a message of which so many bytes are missing.
fn complete<'a>(
    missing: usize,
    mut kept: Vec<u8>,
    bytes: &'a [u8],
    deliver: &mut impl FnMut(&[u8], bool),
) -> (Progress, &'a [u8]) {
    let (part, rest) = bytes.split_at(missing.min(bytes.len()));
    let room = KEPT_MAX - kept.len();
    let is_whole = part.len() <= room;
    kept.extend_from_slice(&part[..part.len().min(room)]);
    let missing = missing - part.len();
    if missing > 0 {
        return (Progress::Message { missing, kept }, rest);
    }
    deliver(&kept, is_whole);
    (Progress::Between, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Transport;

    fn payload(bytes: &[u8], truncated: bool) -> DnsPayload<'_> {
        DnsPayload {
            socket: SocketId(1),
            task: None,
            endpoints: Endpoints {
                netns: 1,
                local: ([10, 0, 0, 1], 40_000).into(),
                remote: ([10, 0, 0, 53], 53).into(),
                ipv6_socket: false,
            },
            transport: Transport::Tcp,
            received: true,
            bytes,
            truncated,
            sequence: None,
        }
    }

    /// Pushes each part and returns the messages that came out.
    fn messages(streams: &mut Streams, parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for part in parts {
            streams.push(BootTime(1), &payload(part, false), |message, is_whole| {
                assert!(is_whole);
                messages.push(message.to_vec());
            });
        }
        messages
    }

    #[test]
    fn messages_come_out_however_the_stream_is_cut() {
        let stream = [&[0, 3][..], b"abc", &[0, 0], &[0, 2], b"de"].concat();
        let expected = [&b"abc"[..], b"", b"de"];
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let mut streams = Streams::new();
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(messages(&mut streams, &parts), expected, "{first} {second}");
                assert_eq!(streams.streams.len(), 0, "nothing is kept between messages");
            }
        }
    }

    /// The messages of parts with their numbers, and whether the stream is lost then.
    fn numbered(parts: &[(u32, &[u8])]) -> (Vec<Vec<u8>>, bool) {
        let mut streams = Streams::new();
        let mut messages = Vec::new();
        for &(sequence, part) in parts {
            let part = DnsPayload {
                sequence: NonZeroU32::new(sequence),
                ..payload(part, false)
            };
            streams.push(BootTime(1), &part, |message, _| {
                messages.push(message.to_vec());
            });
        }
        (
            messages,
            streams.is_lost(&StreamId::of(&payload(b"", false))),
        )
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        let whole = &[0, 2, b'a', b'b', 0, 1, b'c'][..];
        let expected = (vec![b"ab".to_vec(), b"c".to_vec()], false);
        let near_the_end = u32::MAX - 2;
        for start in [1, near_the_end] {
            let at = |offset: u32| start.wrapping_add(offset);
            let first = (start, &whole[..3]);
            let parts = [first, first, (at(1), &whole[1..4]), (start, whole), first];
            assert_eq!(numbered(&parts), expected, "{start}");
        }
    }

    #[test]
    fn behind_a_gap_nothing_is_believed() {
        let parts = [(5, &[0, 1, b'a'][..]), (9, &[0, 1, b'b']), (8, &[0])];
        assert_eq!(numbered(&parts), (vec![b"a".to_vec()], true));
    }

    #[test]
    fn a_new_connection_between_the_same_ends_is_another_stream() {
        let mut streams = Streams::new();
        let mut part = payload(&[0, 1, b'a'], false);
        part.sequence = NonZeroU32::new(1_000);
        streams.push(BootTime(1), &part, |_, _| {});
        streams.close(part.socket, &part.endpoints);
        part.sequence = NonZeroU32::new(7);
        let mut messages = 0;
        streams.push(BootTime(2), &part, |_, _| messages += 1);
        assert_eq!(messages, 1);
    }

    #[test]
    fn of_a_long_message_the_beginning_is_kept_and_the_next_one_is_found() {
        let mut streams = Streams::new();
        let long = [&[0x40, 0][..], &[7; 0x3000]].concat();
        let mut lengths = Vec::new();
        for part in [&long[..], &[7; 0x1000], &[0, 1, 9]] {
            streams.push(BootTime(1), &payload(part, false), |message, is_whole| {
                lengths.push((message.len(), is_whole));
            });
        }
        assert_eq!(lengths, [(KEPT_MAX, false), (1, true)]);
    }

    #[test]
    fn what_lacks_its_end_is_delivered_and_nothing_after_it() {
        let mut streams = Streams::new();
        let mut said = Vec::new();
        streams.push(
            BootTime(1),
            &payload(&[0, 9, 1, 2], true),
            |message, is_whole| {
                said.push((message.to_vec(), is_whole));
            },
        );
        assert_eq!(said, [(vec![1, 2], false)]);
        assert!(streams.is_lost(&StreamId::of(&payload(b"", false))));
        assert!(messages(&mut streams, &[&[0, 1, 9]]).is_empty());
    }

    #[test]
    fn streams_are_bounded_in_number_and_time() {
        let mut streams = Streams::new();
        for port in 0..2 * STREAMS_MAX as u16 {
            let mut half = payload(&[0], false);
            half.endpoints.local.set_port(port);
            streams.push(BootTime(1), &half, |_, _| {});
        }
        assert_eq!(streams.streams.len(), STREAMS_MAX);
        streams.push(BootTime(2 + IDLE_NS), &payload(&[0], false), |_, _| {});
        assert_eq!((streams.streams.len(), streams.places.len()), (1, 1));
    }
}
