//! Messages out of streams: over TCP each has its length before it, in two bytes.
//!
//! In: what was sent or received at once, by stream. Out: each message, once its end has come.
//! Between messages nothing is kept. What is kept is bounded: so many streams, of a message as many bytes
//! as of a datagram; its rest is skipped.

use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::arena::{Arena, Handle};
use crate::event::{BootTime, DnsPayload, Endpoints, SocketId};

/// Streams in the middle of a message.
const STREAMS_MAX: usize = 1024;
/// As much of a message is kept.
const KEPT_MAX: usize = 4096;
/// A stream in the middle of a message of which nothing was heard for so long is forgotten.
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
    progress: Progress,
}

/// Streams that are not between two messages.
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
        let mut progress = self.take(id);
        let mut bytes = payload.bytes;
        while !bytes.is_empty() && !matches!(progress, Some(Progress::Lost)) {
            (progress, bytes) = advance(progress, bytes, &mut deliver);
        }
        if payload.truncated {
            if let Some(Progress::Message { kept, .. }) = &progress {
                deliver(kept, false);
            }
            progress = Some(Progress::Lost);
        }
        if let Some(progress) = progress {
            self.keep(Stream {
                id,
                heard: time,
                progress,
            });
        }
    }

    /// Whether messages of a stream may have come unseen.
    pub(super) fn is_lost(&self, id: &StreamId) -> bool {
        let stream = self.places.get(id).map(|&handle| &self.streams[handle]);
        stream.is_some_and(|stream| matches!(stream.progress, Progress::Lost))
    }

    fn take(&mut self, id: StreamId) -> Option<Progress> {
        let handle = self.places.remove(&id)?;
        Some(self.streams.remove(handle)?.progress)
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
    progress: Option<Progress>,
    bytes: &'a [u8],
    deliver: &mut impl FnMut(&[u8], bool),
) -> (Option<Progress>, &'a [u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return (progress, bytes);
    };
    match progress {
        None => (Some(Progress::Length(first)), rest),
        Some(Progress::Length(high)) => {
            let length = usize::from(u16::from_be_bytes([high, first]));
            if let Some((message, rest)) = rest.split_at_checked(length) {
                deliver(message, true);
                return (None, rest);
            }
            let kept = Vec::new();
            let message = Progress::Message {
                missing: length,
                kept,
            };
            (Some(message), rest)
        }
        Some(Progress::Message { missing, kept }) => complete(missing, kept, bytes, deliver),
        Some(Progress::Lost) => (Some(Progress::Lost), &[]),
    }
}

/// The same in the middle of a message of which so many bytes are missing.
fn complete<'a>(
    missing: usize,
    mut kept: Vec<u8>,
    bytes: &'a [u8],
    deliver: &mut impl FnMut(&[u8], bool),
) -> (Option<Progress>, &'a [u8]) {
    let (part, rest) = bytes.split_at(missing.min(bytes.len()));
    let room = KEPT_MAX - kept.len();
    let is_whole = part.len() <= room;
    kept.extend_from_slice(&part[..part.len().min(room)]);
    let missing = missing - part.len();
    if missing > 0 {
        return (Some(Progress::Message { missing, kept }), rest);
    }
    deliver(&kept, is_whole);
    (None, rest)
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
