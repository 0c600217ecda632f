//! Detections among the observations that they rest on.
//!
//! In: observations. Out: the same, to another sink, each followed by the detections that it led to.

use super::Engine;
use crate::event::BootTime;
use crate::filter::Filter;
use crate::observation::{Fact, Observation, Sink};
use crate::output::action::Action;

/// Shows observations to the detectors on their way to a sink.
pub struct Detecting<S> {
    sink: S,
    engine: Option<Engine>,
    /// What detectors do not see: the tracer itself.
    filter: Filter,
}

impl<S: Sink> Detecting<S> {
    /// What `filter` admits is shown to `engine`, if there is one.
    pub fn new(sink: S, engine: Option<Engine>, filter: Filter) -> Self {
        Self {
            sink,
            engine,
            filter,
        }
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
            tell(engine, &mut self.sink);
        }
    }
}

fn tell(engine: &mut Engine, sink: &mut impl Sink) {
    while let Some(finding) = engine.take() {
        sink.observe(&Observation {
            time: finding.time,
            fact: Fact::Detected {
                detection: &finding.detection,
                connection: finding.connection.as_ref(),
                process: finding.process.as_ref(),
            },
        });
    }
}

impl<S: Sink> Sink for Detecting<S> {
    fn observe(&mut self, observation: &Observation<'_>) {
        self.sink.observe(observation);
        let Some(engine) = &mut self.engine else {
            return;
        };
        let fact = &observation.fact;
        let action = Action::of(fact);
        if !engine.wants(action) {
            return;
        }
        let process = fact.process().map(AsRef::as_ref);
        if self.filter.admits_event(action, process, fact.endpoints()) {
            engine.observe(action, observation);
            tell(engine, &mut self.sink);
        }
    }

    fn flush(&mut self) {
        self.sink.flush();
    }

    fn has_room(&self) -> bool {
        self.sink.has_room()
    }
}
