//! What waits until its executed file has been examined.
//!
//! In: something that a process did, and the passing of time. Out: the same, once it is known where its program comes from, or
//! nobody will say so in time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::BootTime;
use crate::process::image::Image;

/// How long to wait, in nanoseconds: a detection comes within five seconds of its cause.
const PATIENCE_NS: u64 = 4_000_000_000;
/// How many wait at most.
const WAITING_MAX: usize = 4096;

struct Waiting<T> {
    since: BootTime,
    process: Arc<Image>,
    what: T,
}

pub(super) struct Unexamined<T> {
    waiting: VecDeque<Waiting<T>>,
    evictions: u64,
}

impl<T> Default for Unexamined<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            evictions: 0,
        }
    }
}

impl<T> Unexamined<T> {
    pub(super) fn push(&mut self, since: BootTime, process: &Arc<Image>, what: T) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.evictions += 1;
        }
        self.waiting.push_back(Waiting {
            since,
            process: Arc::clone(process),
            what,
        });
    }

    /// Those that need not wait any longer.
    pub(super) fn ready(&mut self, now: BootTime) -> Vec<(BootTime, Arc<Image>, T)> {
        let mut ready = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            let is_known = waiting.process.program.facts().is_some();
            if is_known || now.since(waiting.since) >= PATIENCE_NS {
                ready.push((waiting.since, waiting.process, waiting.what));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        ready
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }
}
