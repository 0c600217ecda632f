//! A sink that makes lines of events.
//!
//! In: observations. Out: chunks of lines to a [`Writer`](super::writer::Writer). Events that a
//! slow reader leaves no room for are counted, and told as soon as there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Format;
use super::record::Record;
use super::writer::Chunks;
use crate::event::BootTime;
use crate::filter::Filter;
use crate::observation::{Fact, Loss, LossUnit, Observation, Sink};

/// A chunk is handed on when it has this many bytes, even in the middle of a batch.
const CHUNK_BYTES: usize = 64 << 10;

/// Room for some hundred lines.
const AMPLE_BYTES: usize = 2 << 20;

/// Makes lines of the events that a filter admits.
pub struct LineSink {
    format: Box<dyn Format>,
    filter: Filter,
    chunks: Chunks,
    buffer: Vec<u8>,
    /// Events in `buffer`.
    events: u64,
    /// Events so far, those that were shed included.
    sequence: u64,
    /// Events shed and not yet told.
    shed: u64,
    shed_total: Arc<AtomicU64>,
    last_time: BootTime,
    /// Whether lines wait for the start to succeed.
    held: bool,
}

impl LineSink {
    /// A sink for events that `filter` admits.
    pub fn new(format: Box<dyn Format>, filter: Filter, chunks: Chunks) -> Self {
        Self {
            format,
            filter,
            chunks,
            buffer: Vec::with_capacity(CHUNK_BYTES),
            events: 0,
            sequence: 0,
            shed: 0,
            shed_total: Arc::default(),
            last_time: BootTime::default(),
            held: false,
        }
    }

    /// The filter, for what is only known later (whose tree to show).
    pub fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// How many events were shed so far, for the metrics.
    pub fn shed_total(&self) -> Arc<AtomicU64> {
        self.shed_total.clone()
    }

    /// Keeps the lines back until [`Self::release`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Hands the lines on from now on.
    pub fn release(&mut self) {
        self.held = false;
        self.flush();
    }

    /// Hands on the last lines and what was shed. The writer then finishes.
    pub fn close(mut self) {
        self.flush();
        if self.shed > 0 {
            self.tell_shed();
            self.chunks.send(&mut self.buffer);
        }
    }

    fn push(&mut self, record: &Record<'_>) {
        self.format.line(record, self.sequence, &mut self.buffer);
        self.sequence += 1;
        self.events += 1;
    }

    fn tell_shed(&mut self) {
        let count = std::mem::take(&mut self.shed);
        let loss = Loss {
            stage: "sink",
            kind: "output",
            unit: LossUnit::Event,
            count,
        };
        let observation = Observation {
            time: self.last_time,
            fact: Fact::Lost(loss),
        };
        self.push(&Record::of(&observation));
    }
}

impl Sink for LineSink {
    fn has_room(&self) -> bool {
        !self.held && self.chunks.has_room(self.buffer.len() + AMPLE_BYTES)
    }

    fn observe(&mut self, observation: &Observation<'_>) {
        let record = Record::of(observation);
        if !self.filter.admits(&record) {
            return;
        }
        self.last_time = record.time;
        self.push(&record);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.held {
            return;
        }
        if !self.chunks.has_room(self.buffer.len()) {
            self.shed += self.events;
            self.shed_total.fetch_add(self.events, Ordering::Relaxed);
            self.buffer.clear();
            self.events = 0;
            return;
        }
        // With room for a chunk to spare, or each event that fits would be followed by a loss.
        if self.shed > 0 && self.chunks.has_room(self.buffer.len() + CHUNK_BYTES) {
            self.tell_shed();
        }
        if !self.buffer.is_empty() {
            self.chunks.send(&mut self.buffer);
            self.events = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use super::*;
    use crate::output::action::{Action, ActionSet};
    use crate::output::writer::{QUEUE_BYTES, Writer};

    /// A line of a mebibyte for every event but our own, so that a queue is full soon.
    struct Long;

    impl Format for Long {
        fn line(&mut self, record: &Record<'_>, sequence: u64, out: &mut Vec<u8>) {
            let Some(loss) = record.loss else {
                return;
            };
            let _ = write!(out, "{sequence} {} {}", loss.stage, loss.count);
            let length = if loss.stage == "sink" { 0 } else { 1 << 20 };
            out.resize(out.len() + length, b' ');
            out.push(b'\n');
        }
    }

    fn lost(count: u64) -> Observation<'static> {
        let loss = Loss {
            stage: "ring",
            kind: "exec",
            unit: LossUnit::Record,
            count,
        };
        Observation {
            time: BootTime(count),
            fact: Fact::Lost(loss),
        }
    }

    #[test]
    fn what_a_slow_reader_leaves_no_room_for_is_counted_told_and_leaves_a_gap() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let (chunks, writer) = Writer::for_test(File::from(OwnedFd::from(pipe)));
        let filter = Filter {
            actions: ActionSet::NONE.with(Action::EventsLost),
            ..Filter::default()
        };
        let mut sink = LineSink::new(Box::new(Long), filter, chunks);
        let room = (QUEUE_BYTES >> 20) as u64;
        let events = room + 12;
        for count in 0..events {
            sink.observe(&lost(count));
            sink.flush();
        }
        let shed = sink.shed_total().load(Ordering::Relaxed);
        assert!(
            (11..=13).contains(&shed),
            "{shed} of {events} MiB did not fit into {room}"
        );
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        sink.close();
        writer.finish(Duration::from_secs(10)).unwrap();
        let text = reading.join().unwrap().unwrap();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        let kept = lines.iter().filter(|line| line.contains(" ring ")).count() as u64;
        let told = lines
            .iter()
            .filter_map(|line| line.split_once(" sink ")?.1.parse::<u64>().ok());
        assert_eq!(kept + shed, events);
        assert_eq!(told.sum::<u64>(), shed);
        let numbers = lines
            .iter()
            .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
        let gaps = numbers
            .clone()
            .zip(numbers.skip(1))
            .map(|(one, next)| next - one - 1);
        assert_eq!(gaps.sum::<u64>(), shed);
    }
}
