//! Detections among the observations that they rest on.
//!
//! In: observations. Out: the same, to another sink, each followed by the detections that it led to.

use std::sync::Arc;

use super::Engine;
use crate::event::BootTime;
use crate::filter::Filter;
use crate::observation::{Fact, Observation, Sink};
use crate::output::About;
use crate::output::action::Action;

/// How often detectors are told that time passes, in nanoseconds.
const STEP_NS: u64 = 1_000_000_000;

/// Shows observations to the detectors on their way to a sink.
pub struct Detecting<S> {
    sink: S,
    engine: Option<Engine>,
    /// What detectors do not see: the tracer itself.
    filter: Filter,
    /// When they were told the time.
    advanced: BootTime,
    told: u64,
}

impl<S: Sink> Detecting<S> {
    /// What `filter` admits is shown to `engine`, if there is one.
    pub fn new(sink: S, engine: Option<Engine>, filter: Filter) -> Self {
        Self {
            sink,
            engine,
            filter,
            advanced: BootTime(0),
            told: 0,
        }
    }

    /// How many detections were told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Where observations and detections go.
    pub fn inner(&mut self) -> &mut S {
        &mut self.sink
    }

    /// The detectors, if there are any.
    pub fn engine(&mut self) -> Option<&mut Engine> {
        self.engine.as_mut()
    }

    /// The filter, for what is only known later.
    pub fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// Gives the sink back.
    pub fn into_inner(self) -> S {
        self.sink
    }

    /// Time passes although nothing may have happened.
    pub fn advance(&mut self, now: BootTime) {
        if let Some(engine) = &mut self.engine {
            engine.advance(now);
            self.advanced = now;
            self.told += tell(engine, &mut self.sink);
        }
    }
}

/// Tells what was found, and how much that is.
fn tell(engine: &mut Engine, sink: &mut impl Sink) -> u64 {
    let mut told = 0;
    while let Some(finding) = engine.take() {
        told += 1;
        sink.observe(&Observation {
            time: finding.time,
            fact: Fact::Detected {
                detection: &finding.detection,
                connection: finding.connection.as_ref(),
                process: finding.process.as_ref(),
            },
        });
    }
    told
}

impl<S: Sink> Sink for Detecting<S> {
    fn begin(&mut self, about: &Arc<About>) {
        self.sink.begin(about);
        self.advanced = BootTime(0);
        if let Some(engine) = &mut self.engine {
            engine.forget();
        }
    }

    fn observe(&mut self, observation: &Observation<'_>) {
        if observation.time.since(self.advanced) >= STEP_NS {
            self.advance(observation.time);
        }
        let Some(engine) = &mut self.engine else {
            return self.sink.observe(observation);
        };
        if let Fact::Detected {
            detection, process, ..
        } = observation.fact
        {
            // Recorded. What it rests on may have led to it again; not all of that is recorded.
            if !engine.has_told(detection.rule, process.map(AsRef::as_ref), observation.time) {
                self.told += 1;
                self.sink.observe(observation);
            }
            return;
        }
        self.sink.observe(observation);
        let fact = &observation.fact;
        let action = Action::of(fact);
        if !engine.wants(action) {
            return;
        }
        let process = fact.process().map(AsRef::as_ref);
        if self.filter.admits_event(action, process, fact.endpoints()) {
            engine.observe(action, observation);
            self.told += tell(engine, &mut self.sink);
        }
    }

    fn flush(&mut self) {
        self.sink.flush();
    }

    fn has_room(&self) -> bool {
        self.sink.has_room()
    }
}
