//! What is counted of look-ups.
//!
//! In: look-ups, and the counters of the state. Out: counters by response code, and how long answers take.
//! Codes that hardly anyone sends share a series.

use prometheus::{Histogram, IntCounter};

use super::{Builder, MetricsError, names, raise, seconds};
use crate::dns::lookups::LookupCounters;
use crate::dns::record::code_name;
use crate::dns::{Ending, Lookup};

/// Codes with series of their own: 0 is NOERROR, 5 is REFUSED.
const CODES: u16 = 6;

/// Upper bounds of the time to an answer, in seconds: from a cache on this host to the last retry.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Counts look-ups as they end.
pub(super) struct LookupMetrics {
    codes: [IntCounter; CODES as usize],
    other: IntCounter,
    none: IntCounter,
    unknown: IntCounter,
    duration: Histogram,
}

impl LookupMetrics {
    pub(super) fn new(builder: &Builder) -> Result<Self, MetricsError> {
        let lookups = builder.counters(&names::DNS_LOOKUPS)?;
        let of = |code: &str| lookups.with_label_values(&[code]);
        Ok(Self {
            codes: std::array::from_fn(|code| of(&code_name(code as u16))),
            other: of("other"),
            none: of("none"),
            unknown: of("unknown"),
            duration: builder.histogram(&names::DNS_LOOKUP_DURATION, &BUCKETS)?,
        })
    }

    pub(super) fn count(&self, lookup: &Lookup, duration_ns: u64) {
        let counter = match &lookup.ending {
            Ending::Answered(answer) => {
                self.duration.observe(seconds(duration_ns));
                let counter = self.codes.get(usize::from(answer.code));
                counter.unwrap_or(&self.other)
            }
            Ending::Unanswered => &self.none,
            Ending::Unknown => &self.unknown,
        };
        counter.inc();
    }
}

/// Counts what became no look-up.
#[derive(Clone)]
pub(super) struct Answers {
    malformed: IntCounter,
    unexpected: IntCounter,
    names_evicted: IntCounter,
}

impl Answers {
    pub(super) fn new(builder: &Builder) -> Result<Self, MetricsError> {
        Ok(Self {
            malformed: builder.counter(&names::DNS_MALFORMED)?,
            unexpected: builder.counter(&names::DNS_UNEXPECTED_ANSWERS)?,
            names_evicted: builder.counter(&names::DNS_NAMES_EVICTED)?,
        })
    }

    pub(super) fn update(&self, counters: &LookupCounters) {
        raise(&self.malformed, counters.malformed);
        raise(&self.unexpected, counters.unexpected);
        raise(&self.names_evicted, counters.names_evicted);
    }
}
