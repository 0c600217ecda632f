//! Where the history leaves the state task: observations in, batches to the thread that writes out.
//!
//! A batch is handed on when it is large, or half a second after the one before: so the thread wakes twice a
//! second at most, and whoever ends this process loses less than a second. What the thread does not get round to is
//! dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::item::Item;
use super::store::Options;
use super::writer::Writer;
use crate::clock;
use crate::filter::Filter;
use crate::observation::{Loss, LossUnit, Observation, Sink};
use crate::output::Context;
use crate::output::action::Action;

/// Items that may wait to be written; each is some 300 bytes.
const QUEUE: usize = 65_536;
/// A batch of so many is handed on at once.
const BATCH: usize = 4096;
/// How long items wait otherwise.
const GATHER: Duration = Duration::from_millis(500);

/// Keeps what `filter` admits.
pub struct HistorySink {
    filter: Filter,
    batch: Vec<Item>,
    handed_on: Instant,
    batches: Sender<Vec<Item>>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    told: u64,
    ended: Receiver<()>,
}

impl HistorySink {
    /// Starts the thread. The directory is made when there is something to write.
    pub fn start(options: Options, context: &mut Context, filter: Filter) -> io::Result<Self> {
        let lost = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(options, context, clock::boot_time(), Arc::clone(&lost));
        let (batches, received) = channel();
        let counted = Arc::clone(&waiting);
        let (ends, ended) = channel();
        thread::Builder::new()
            .name("history".into())
            .spawn(move || {
                write(writer, &received, &counted);
                drop(ends);
            })?;
        Ok(Self {
            filter,
            batch: Vec::new(),
            handed_on: Instant::now(),
            batches,
            waiting,
            lost,
            told: 0,
            ended,
        })
    }

    /// The filter, for what is only known later.
    pub fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// What has been lost since it was last asked.
    pub fn take_loss(&mut self) -> Option<Loss> {
        let lost = self.lost.load(Ordering::Relaxed);
        let count = lost - std::mem::replace(&mut self.told, lost);
        (count > 0).then_some(Loss {
            stage: "history",
            kind: "row",
            unit: LossUnit::Event,
            count,
        })
    }

    /// Hands on the rest, and waits until it is written, at most until `limit` has passed.
    pub fn close(mut self, limit: Duration) {
        self.hand_on();
        drop(self.batches);
        // It sends nothing, but hangs up when it has ended.
        let _ = self.ended.recv_timeout(limit);
    }

    fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.handed_on = Instant::now();
        self.waiting.fetch_add(batch.len(), Ordering::Relaxed);
        let count = batch.len() as u64;
        if self.batches.send(batch).is_err() {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Sink for HistorySink {
    fn observe(&mut self, observation: &Observation<'_>) {
        let fact = &observation.fact;
        let process = fact.process().map(AsRef::as_ref);
        if !self
            .filter
            .admits_event(Action::of(fact), process, fact.endpoints())
        {
            return;
        }
        let Some(item) = Item::of(observation) else {
            return;
        };
        if self.waiting.load(Ordering::Relaxed) + self.batch.len() >= QUEUE {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.batch.push(item);
        if self.batch.len() >= BATCH {
            self.hand_on();
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() && self.handed_on.elapsed() >= GATHER {
            self.hand_on();
        }
    }
}

/// The thread.
fn write(mut writer: Writer, batches: &Receiver<Vec<Item>>, waiting: &AtomicUsize) {
    for batch in batches {
        let count = batch.len();
        writer.batch(batch);
        waiting.fetch_sub(count, Ordering::Relaxed);
    }
    writer.finish();
}
