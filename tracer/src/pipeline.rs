//! The one task that owns the state: from the ring through the tables to the sinks.
//!
//! In: records of the kernel programs, and the passing of time. Out: observations, to every sink, in
//! batches. It sleeps until the kernel wakes it, lets a few milliseconds of records gather, and then
//! empties the ring; nothing polls while nothing happens.

use std::{io, time::Duration};

use aya::maps::{MapData, MapError, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    clock,
    decode::decode,
    event::BootTime,
    kernel::{canary::Canary, flows::Flows, losses::Losses},
    observation::{Loss, LossUnit, Sink},
    state::{Counters, Snapshot, State},
};

/// How long records gather after a wake-up. A lone event is this late; at load it makes the wake-ups
/// few, each of which costs as much as some sixty records.
const GATHER: Duration = Duration::from_millis(10);

/// How many sockets that a comparison found are told in a turn.
const SETTLED: usize = 256;

/// Records between two looks at signals and the network.
const BATCH: usize = 4096;

/// Sleeps until a time, if there is one.
async fn until(due: Option<BootTime>) {
    let Some(due) = due else {
        return std::future::pending().await;
    };
    tokio::time::sleep(Duration::from_nanos(due.since(clock::boot_time()))).await;
}

/// What the kernel programs write, and where.
pub struct Kernel {
    /// Records.
    pub ring: RingBuf<MapData>,
    /// What did not get into the ring.
    pub losses: Losses,
    /// What is added up rather than told.
    pub flows: Flows,
    /// When the last hook had been attached.
    pub complete_since: BootTime,
}

/// The ring and what its records lead to.
pub struct Pipeline<S> {
    ring: AsyncFd<RingBuf<MapData>>,
    losses: Losses,
    flows: Flows,
    state: State,
    sinks: S,
    canary: Option<Canary>,
    undecodable: u64,
    /// When the last hook had been attached. What earlier hooks saw of connections before is half a
    /// story, which the missing half would make wrong.
    complete_since: BootTime,
}

impl<S: Sink> Pipeline<S> {
    /// Waits on the ring; needs a tokio runtime.
    pub fn new(kernel: Kernel, state: State, sinks: S) -> io::Result<Self> {
        // SAFETY: the ring owns its descriptor and never changes it, and the `AsyncFd` owns the ring.
        let ring = unsafe { AsyncFd::register_with_interest(kernel.ring, Interest::READABLE) }?;
        Ok(Self {
            ring,
            losses: kernel.losses,
            flows: kernel.flows,
            state,
            sinks,
            canary: None,
            undecodable: 0,
            complete_since: kernel.complete_since,
        })
    }

    /// Shows every event to `canary` from now on.
    pub fn watch_for(&mut self, canary: Canary) {
        self.canary = Some(canary);
    }

    /// The canary, until it is taken back.
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// Shows it no more events.
    pub fn take_canary(&mut self) -> Option<Canary> {
        self.canary.take()
    }

    /// Waits until there are records, or what is held has waited long enough, and takes them in.
    /// Cancelling it loses nothing.
    pub async fn turn(&mut self) -> io::Result<()> {
        let due = self.due();
        tokio::select! {
            ready = self.ring.readable() => {
                ready?.clear_ready();
                tokio::time::sleep(GATHER).await;
            }
            () = until(due) => {}
        }
        while self.take(BATCH) == BATCH {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Takes in everything that is in the ring now.
    pub fn take_all(&mut self) {
        while self.take(BATCH) == BATCH {}
    }

    /// Takes in up to `limit` records and tells how many there were.
    fn take(&mut self, limit: usize) -> usize {
        // Whatever was reserved before this moment is in the ring by now, or will be when this loop
        // gets there: records are taken in the order of reservation.
        let begin = clock::boot_time();
        let mut count = 0;
        let ring = self.ring.get_mut();
        while count < limit
            && let Some(record) = ring.next()
        {
            count += 1;
            // By reference: an event is large.
            match &decode(&record) {
                Ok(event) => {
                    if let Some(canary) = &mut self.canary {
                        canary.observe(event);
                    }
                    if event.time >= self.complete_since || event.kind.is_about_process() {
                        self.state.event(event, &mut self.sinks);
                    }
                }
                Err(_) => self.undecodable += 1,
            }
        }
        // First, so that flows end before what ended later.
        self.answer();
        if count < limit {
            self.state.advance(begin, &mut self.sinks);
            if self.sinks.has_room() {
                self.state.settle(begin, SETTLED, &mut self.sinks);
            }
        }
        self.answer();
        self.sinks.flush();
        count
    }

    /// Reads the totals of flows that the state wants.
    fn answer(&mut self) {
        loop {
            let questions = self.state.take_questions();
            if questions.is_empty() {
                return;
            }
            let now = clock::boot_time();
            for question in questions {
                let totals = self.flows.answer(question);
                self.state.answer(question, totals, now, &mut self.sinks);
            }
        }
    }

    /// Reports what somebody behind the state lost.
    pub fn lost(&mut self, loss: Loss) {
        self.state.lost(loss, clock::boot_time(), &mut self.sinks);
    }

    /// Lets time pass although nothing may have happened, and reports what was lost meanwhile.
    pub fn tick(&mut self) -> Result<Counters, MapError> {
        self.take_all();
        let now = clock::boot_time();
        for loss in self.losses.since_last()? {
            self.state.lost(loss, now, &mut self.sinks);
        }
        let uncounted = self.flows.uncounted()?;
        self.state.lost(uncounted, now, &mut self.sinks);
        let count = std::mem::take(&mut self.undecodable);
        if count > 0 {
            let loss = Loss {
                stage: "decode",
                kind: "record",
                unit: LossUnit::Record,
                count,
            };
            self.state.lost(loss, now, &mut self.sinks);
        }
        self.sinks.flush();
        Ok(self.state.counters())
    }

    /// Compares the state with the kernel's own sockets. What that finds is told from turn to turn, as the
    /// sinks have room for it.
    pub fn compare(&mut self, snapshot: Snapshot) {
        self.state.compare(snapshot);
        self.take_all();
    }

    /// Tells at once what a comparison found.
    pub fn settle(&mut self) {
        self.take_all();
        self.state
            .settle(clock::boot_time(), usize::MAX, &mut self.sinks);
    }

    /// When to take a turn although no record comes.
    fn due(&self) -> Option<BootTime> {
        let soon = || BootTime(clock::boot_time().0 + GATHER.as_nanos() as u64);
        let next = self.state.is_comparing().then(soon);
        [self.state.due(), next].into_iter().flatten().min()
    }

    /// The kernel side's own counters.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Who runs, and who is connected to whom.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where observations go.
    pub fn sinks(&mut self) -> &mut S {
        &mut self.sinks
    }

    /// Takes in what there is, reports what was held back, and gives the sinks back. What happens from
    /// now on is not told.
    pub fn finish(mut self) -> Result<S, MapError> {
        self.tick()?;
        self.state.end_flows(&mut self.sinks);
        self.answer();
        self.state.drain(&mut self.sinks);
        self.sinks.flush();
        Ok(self.sinks)
    }
}
