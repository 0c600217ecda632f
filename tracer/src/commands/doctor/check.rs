//! A session, started and ended for the sake of what its canary shows.
//!
//! In: options. Out: how long it took, what was seen and what was lost.

use std::time::Duration;

use crate::connection::table::ConnectionCounters;
use crate::kernel::hooks::Moment;
use crate::kernel::loader::Options;
use crate::observation::{Fact, Loss, Observation, Sink};
use crate::session::{Blind, Session, StartError};
use crate::state::{Limits, State};

/// What came of the session.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Why there was none.
    pub(super) error: Option<String>,
    /// From the first look at the kernel to the last hook attached.
    pub(super) attach_took: Duration,
    /// From the beginning to the canary seen.
    pub(super) start_took: Duration,
    /// What the canary was to show.
    pub(super) checked: Vec<Moment>,
    /// What of it nothing showed.
    pub(super) blind: Vec<Blind>,
    /// What the comparison with the kernel's own sockets found, or why there is none.
    pub(super) sockets: Result<ConnectionCounters, String>,
    /// How many events there were meanwhile.
    pub(super) observations: u64,
    /// What was lost meanwhile.
    pub(super) losses: Vec<Loss>,
}

/// Counts what would have been written.
#[derive(Default)]
struct Counter {
    observations: u64,
    losses: Vec<Loss>,
}

impl Sink for Counter {
    fn observe(&mut self, observation: &Observation<'_>) {
        match observation.fact {
            Fact::Lost(loss) => self.losses.push(loss),
            _ => self.observations += 1,
        }
    }

    fn flush(&mut self) {}
}

impl Check {
    /// Starts a session, missing moments or not, and ends it.
    pub(super) fn run(options: &Options) -> Self {
        Self::try_run(options).unwrap_or_else(|error| Self {
            sockets: Err(error.clone()),
            error: Some(error),
            attach_took: Duration::ZERO,
            start_took: Duration::ZERO,
            checked: Vec::new(),
            blind: Vec::new(),
            observations: 0,
            losses: Vec::new(),
        })
    }

    fn try_run(options: &Options) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        // Its descriptors are registered with this runtime.
        let _guard = runtime.enter();
        let options = Options {
            degraded: true,
            ..*options
        };
        let start = || {
            Session::start(&options, State::new(Limits::default()), |_| {
                Counter::default()
            })
        };
        let mut session = start().map_err(|error: StartError| error.to_string())?;
        session.pipeline.settle();
        let compared = session.compare().map_err(|error| error.to_string());
        session.pipeline.settle();
        let mut check = Self {
            error: None,
            attach_took: session.attach_took,
            start_took: session.start_took,
            checked: session.checked,
            blind: session.blind,
            sockets: compared.map(|()| session.pipeline.state().counters().connections),
            observations: 0,
            losses: Vec::new(),
        };
        // Before the programs go, and their counters with them.
        let mut pipeline = session.pipeline;
        let read = pipeline.tick();
        drop(session.programs);
        let counter = read.and_then(|_| pipeline.finish());
        let counter =
            counter.map_err(|error| format!("cannot read what the kernel side lost: {error}"))?;
        check.observations = counter.observations;
        check.losses = counter.losses;
        Ok(check)
    }
}
