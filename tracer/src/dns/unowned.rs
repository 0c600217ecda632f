//! Payloads of sockets whose owner is not known yet.
//!
//! In tracepoint mode a datagram is seen before whoever sends it, who is told before his system call returns.
//! In: payloads without a task. Out: the same, when the owner is told or has had the time to be.

use std::collections::VecDeque;

use crate::event::{BootTime, DnsPayload, Endpoints, SocketId, Transport};

/// How long an owner may take to be told.
const WAIT_NS: u64 = 50_000_000;

/// Payloads that can wait at a time; who comes when there are more is told without an owner.
const WAITING_MAX: usize = 1_024;

/// A payload that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// When it was seen.
    pub(crate) time: BootTime,
    pub(crate) socket: SocketId,
    endpoints: Endpoints,
    transport: Transport,
    received: bool,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Waiting {
    /// What was seen.
    pub(crate) fn payload(&self) -> DnsPayload<'_> {
        DnsPayload {
            socket: self.socket,
            task: None,
            endpoints: self.endpoints,
            transport: self.transport,
            received: self.received,
            bytes: &self.bytes,
            truncated: self.truncated,
            sequence: None, // Of datagrams.
        }
    }
}

/// All that wait, in the order in which they were seen.
#[derive(Debug, Default)]
pub(crate) struct Unowned(VecDeque<Waiting>);

impl Unowned {
    /// Has a payload wait; `false` if it need not, or there is no room. An answer belongs to its question, and
    /// waits only behind that.
    pub(crate) fn hold(&mut self, time: BootTime, payload: &DnsPayload<'_>) -> bool {
        let is_behind = || self.0.iter().any(|it| it.socket == payload.socket);
        if self.0.len() >= WAITING_MAX || payload.received && !is_behind() {
            return false;
        }
        self.0.push_back(Waiting {
            time,
            socket: payload.socket,
            endpoints: payload.endpoints,
            transport: payload.transport,
            received: payload.received,
            bytes: payload.bytes.to_vec(),
            truncated: payload.truncated,
        });
        true
    }

    /// The owner of a socket is known: what waited for that.
    pub(crate) fn take(&mut self, socket: SocketId) -> Vec<Waiting> {
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|waiting| waiting.socket == socket);
        self.0 = left;
        Vec::from(taken)
    }

    /// One that has waited long enough.
    pub(crate) fn take_due(&mut self, now: BootTime) -> Option<Waiting> {
        self.0
            .pop_front_if(|waiting| now.since(waiting.time) >= WAIT_NS)
    }

    /// When one will have waited long enough.
    pub(crate) fn due(&self) -> Option<BootTime> {
        let first = self.0.front()?;
        Some(BootTime(first.time.0 + WAIT_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::endpoints::sample as endpoints;

    fn question(socket: u64) -> DnsPayload<'static> {
        DnsPayload {
            socket: SocketId(socket),
            task: None,
            endpoints: endpoints(socket),
            transport: Transport::Udp,
            received: false,
            bytes: b"question",
            truncated: false,
            sequence: None,
        }
    }

    fn hold(unowned: &mut Unowned, time: u64, socket: u64) -> bool {
        unowned.hold(BootTime(time), &question(socket))
    }

    #[test]
    fn payloads_of_a_socket_are_taken_in_order_and_others_wait() {
        let mut unowned = Unowned::default();
        for (time, socket) in [(1, 7), (2, 8), (3, 7)] {
            assert!(hold(&mut unowned, time, socket));
        }
        let times: Vec<_> = unowned
            .take(SocketId(7))
            .iter()
            .map(|it| it.time.0)
            .collect();
        assert_eq!(times, [1, 3]);
        assert_eq!(unowned.due(), Some(BootTime(2 + WAIT_NS)));
        assert!(unowned.take_due(BootTime(1 + WAIT_NS)).is_none());
        let due = unowned.take_due(BootTime(2 + WAIT_NS)).unwrap();
        assert_eq!(
            (due.socket, due.payload().bytes),
            (SocketId(8), &b"question"[..])
        );
        assert_eq!(unowned.due(), None);
    }

    #[test]
    fn an_answer_waits_only_behind_its_question() {
        let mut unowned = Unowned::default();
        let answer = |socket| DnsPayload {
            received: true,
            ..question(socket)
        };
        assert!(!unowned.hold(BootTime(1), &answer(7)));
        assert!(unowned.hold(BootTime(2), &question(7)));
        assert!(unowned.hold(BootTime(3), &answer(7)));
        assert!(!unowned.hold(BootTime(4), &answer(8)));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut unowned = Unowned::default();
        let held = (0..2 * WAITING_MAX as u64).filter(|&time| hold(&mut unowned, time, 1));
        assert_eq!(held.count(), WAITING_MAX);
    }
}
