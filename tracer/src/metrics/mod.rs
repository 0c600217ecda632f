//! Metrics for Prometheus.
//!
//! In: observations, through [`MetricsSink`], and what the run loop knows, through [`Metrics`]. Out:
//! a registry that is rendered when it is scraped. No label is made from a PID, an address or a port.

mod lookups;
mod names;
mod processes;
mod transfer;

use std::cell::RefCell;
use std::process;
use std::rc::Rc;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use self::lookups::{Answers, LookupMetrics};
use self::names::Definition;
use self::processes::{ByProcess, Labels};
use self::transfer::{Bytes, Transfer};
use crate::commands::{VERSION, target};
use crate::detect::RULES;
use crate::event::Totals;
use crate::file::outcome::{Counts, Outcome};
use crate::filter::Filter;
use crate::observation::{Connection, ConnectionId, Fact, Observation, Sink};
use crate::output::action::Action;
use crate::process::image::Image;
use crate::state::Counters;

/// Stages at which something can be lost; each has a counter from the beginning, to alert on.
const STAGES: [&str; 6] = ["ring", "hook", "map", "decode", "table", "sink"];

/// Upper bounds of connect durations in seconds: loopback to the last retry.
const CONNECT_BUCKETS: [f64; 11] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];
/// Upper bounds of connection durations in seconds: a request to a day.
const CONNECTION_BUCKETS: [f64; 10] = [
    0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0,
];

/// Why metrics cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot register metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// What the run loop tells the metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    active_egress: IntGauge,
    active_ingress: IntGauge,
    active_unknown: IntGauge,
    listeners: IntGauge,
    unattributed: IntCounter,
    connection_entries: IntGauge,
    process_entries: IntGauge,
    process_evictions: IntCounter,
    cgroup_evictions: IntCounter,
    comparison: Comparison,
    answers: Answers,
    hellos_malformed: IntCounter,
    examined: [IntCounter; Outcome::ALL.len()],
    shed: IntCounter,
    runs: IntCounterVec,
    carried: Carried,
}

/// What comparisons with the kernel's own sockets found.
#[derive(Clone)]
struct Comparison {
    runs: IntCounter,
    missed: IntCounter,
    stale: IntCounter,
    repaired: IntCounter,
}

/// What connections carry; told by both the sink and the run loop.
#[derive(Clone)]
struct Carried {
    transfer: Rc<RefCell<Transfer>>,
    transmit: IntCounter,
    receive: IntCounter,
}

/// Counts observations.
pub struct MetricsSink {
    filter: Filter,
    events: [IntCounter; Action::ALL.len()],
    lost: IntCounterVec,
    connections: ByProcess,
    connect_duration: Histogram,
    connection_duration: Histogram,
    processes_started: IntCounter,
    lookups: LookupMetrics,
    detections: IntCounterVec,
    carried: Carried,
    /// Sent, received.
    datagrams: [IntCounter; 2],
}

/// Makes the metrics. `processes` are names that are counted by themselves (`*` for all); `filter`
/// leaves out what is not to be counted, the tracer itself.
pub fn metrics(
    processes: &[String],
    filter: Filter,
) -> Result<(Metrics, MetricsSink), MetricsError> {
    let registry = Registry::new();
    let own = i32::try_from(process::id()).unwrap_or_default();
    registry.register(Box::new(ProcessCollector::new(own, "")))?;
    let builder = Builder { registry };
    let build_info = builder.gauges(&names::BUILD_INFO)?;
    build_info.with_label_values(&[VERSION, &target()]).set(1);
    let carried = builder.carried()?;
    let lost = builder.counters(&names::EVENTS_LOST)?;
    STAGES
        .iter()
        .for_each(|stage| drop(lost.with_label_values(&[stage])));
    let shed = lost.with_label_values(&["sink"]);
    let sink = builder.sink(processes, filter, lost, carried.clone())?;
    Ok((builder.metrics(shed, carried)?, sink))
}

/// Makes those metrics alone that follow from events, for what was recorded.
pub fn of_recorded(
    processes: &[String],
    filter: Filter,
) -> Result<(Registry, MetricsSink), MetricsError> {
    let builder = Builder {
        registry: Registry::new(),
    };
    let carried = builder.carried()?;
    let lost = builder.counters(&names::EVENTS_LOST)?;
    let sink = builder.sink(processes, filter, lost, carried)?;
    Ok((builder.registry, sink))
}

/// Registers metrics as it makes them.
struct Builder {
    registry: Registry,
}

impl Builder {
    fn sink(
        &self,
        processes: &[String],
        filter: Filter,
        lost: IntCounterVec,
        carried: Carried,
    ) -> Result<MetricsSink, MetricsError> {
        let events = self.counters(&names::EVENTS)?;
        let connections = self.counters(&names::CONNECTIONS)?;
        let folded = self.counter(&names::SERIES_FOLDED)?;
        let datagrams = self.counters(&names::DATAGRAMS)?;
        let detections = self.counters(&names::DETECTIONS)?;
        RULES
            .iter()
            .for_each(|rule| drop(detections.with_label_values(&[rule.id])));
        Ok(MetricsSink {
            filter,
            events: Action::ALL.map(|action| events.with_label_values(&[action.name()])),
            lost,
            connections: ByProcess::new(connections, folded, processes),
            connect_duration: self.histogram(&names::CONNECT_DURATION, &CONNECT_BUCKETS)?,
            connection_duration: self
                .histogram(&names::CONNECTION_DURATION, &CONNECTION_BUCKETS)?,
            processes_started: self.counter(&names::PROCESSES_STARTED)?,
            lookups: LookupMetrics::new(self)?,
            detections,
            carried,
            datagrams: ["transmit", "receive"].map(|way| datagrams.with_label_values(&[way])),
        })
    }

    fn metrics(self, shed: IntCounter, carried: Carried) -> Result<Metrics, MetricsError> {
        let active = self.gauges(&names::CONNECTIONS_ACTIVE)?;
        let examined = self.counters(&names::FILES_EXAMINED)?;
        Ok(Metrics {
            active_egress: active.with_label_values(&["egress"]),
            active_ingress: active.with_label_values(&["ingress"]),
            active_unknown: active.with_label_values(&["unknown"]),
            listeners: self.gauge(&names::LISTENERS_ACTIVE)?,
            unattributed: self.counter(&names::UNATTRIBUTED)?,
            connection_entries: self.gauge(&names::CONNECTION_TABLE_ENTRIES)?,
            process_entries: self.gauge(&names::PROCESS_TABLE_ENTRIES)?,
            process_evictions: self.counter(&names::PROCESS_TABLE_EVICTIONS)?,
            cgroup_evictions: self.counter(&names::CGROUP_TABLE_EVICTIONS)?,
            comparison: Comparison {
                runs: self.counter(&names::COMPARISON_RUNS)?,
                missed: self.counter(&names::COMPARISON_MISSED)?,
                stale: self.counter(&names::COMPARISON_STALE)?,
                repaired: self.counter(&names::COMPARISON_REPAIRED)?,
            },
            answers: Answers::new(&self)?,
            hellos_malformed: self.counter(&names::TLS_MALFORMED)?,
            examined: Outcome::ALL.map(|outcome| examined.with_label_values(&[outcome.name()])),
            shed,
            runs: self.counters(&names::PROGRAM_RUNS)?,
            carried,
            registry: self.registry,
        })
    }

    fn carried(&self) -> Result<Carried, MetricsError> {
        Ok(Carried {
            transfer: Rc::default(),
            transmit: self.counter(&names::TRANSMIT_BYTES)?,
            receive: self.counter(&names::RECEIVE_BYTES)?,
        })
    }

    fn counter(&self, definition: &Definition) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::with_opts(definition.opts())?)
    }

    fn counters(&self, definition: &Definition) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(definition.opts(), definition.labels)?)
    }

    fn gauge(&self, definition: &Definition) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::with_opts(definition.opts())?)
    }

    fn gauges(&self, definition: &Definition) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(definition.opts(), definition.labels)?)
    }

    fn histogram(
        &self,
        definition: &Definition,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts::from(definition.opts()).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, MetricsError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

impl Metrics {
    /// Where everything is registered, to be rendered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many connections, listeners and processes there are now.
    pub fn update(&self, counters: &Counters) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.active_egress
            .set(gauge(counters.connections.active_egress));
        self.active_ingress
            .set(gauge(counters.connections.active_ingress));
        self.active_unknown
            .set(gauge(counters.connections.active_unknown));
        self.listeners.set(gauge(counters.connections.listeners));
        self.connection_entries
            .set(gauge(counters.connection_entries as u64));
        self.process_entries
            .set(gauge(counters.process_entries as u64));
        raise(&self.unattributed, counters.connections.unattributed);
        raise(&self.process_evictions, counters.process_evictions);
        raise(&self.cgroup_evictions, counters.cgroup_evictions);
        self.answers.update(&counters.lookups);
        raise(&self.hellos_malformed, counters.hellos.malformed);
        let compared = counters.connections.compared;
        raise(&self.comparison.runs, compared.runs);
        raise(&self.comparison.missed, compared.missed);
        raise(&self.comparison.stale, compared.stale);
        raise(&self.comparison.repaired, compared.repaired);
    }

    /// How many events outputs have shed so far.
    pub fn shed(&self, total: u64) {
        raise(&self.shed, total);
    }

    /// How examinations of executed files ended so far.
    pub fn files_examined(&self, counts: &Counts) {
        for (counter, outcome) in self.examined.iter().zip(Outcome::ALL) {
            raise(counter, counts.of(outcome));
        }
    }

    /// How often a kernel program has run so far. The kernel's count stays 0 while it does not
    /// count; then there is no series, rather than one that says that nothing ran.
    pub fn program_runs(&self, hook: &str, total: u64) {
        if total > 0 {
            raise(&self.runs.with_label_values(&[hook]), total);
        }
    }

    /// What **all** open connections have carried so far; `None` where it could not be read.
    pub fn sample(&self, open: impl IntoIterator<Item = (ConnectionId, Option<Totals>)>) {
        let bytes = self.carried.transfer.borrow_mut().sample(open);
        self.carried.add(bytes);
    }
}

impl Carried {
    fn add(&self, bytes: Bytes) {
        self.transmit.inc_by(bytes.sent);
        self.receive.inc_by(bytes.received);
    }
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

impl MetricsSink {
    /// The filter, for what is only known later.
    pub fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    fn connection(
        &mut self,
        connection: &Connection,
        process: Option<&Image>,
        is_success: bool,
        observation: &Observation<'_>,
    ) {
        let is_ipv4 = connection.endpoints.is_ipv4();
        let labels = Labels {
            direction: connection.direction,
            is_success,
            is_ipv4,
        };
        self.connections
            .count(process.map(|image| image.name), labels, observation.time);
    }
}

impl Sink for MetricsSink {
    fn observe(&mut self, observation: &Observation<'_>) {
        let fact = &observation.fact;
        let action = Action::of(fact);
        let process = fact.process().map(AsRef::as_ref);
        if !self.filter.admits_event(action, process, fact.endpoints()) {
            return;
        }
        self.events[action as usize].inc();
        match observation.fact {
            Fact::ProcessForked(_) => self.processes_started.inc(),
            Fact::ConnectionOpened {
                connection,
                process,
                connect_duration_ns,
            } => {
                self.connection(connection, process.map(AsRef::as_ref), true, observation);
                if let Some(duration) = connect_duration_ns {
                    self.connect_duration.observe(seconds(duration));
                }
            }
            Fact::ConnectionAccepted {
                connection,
                process,
            } => {
                self.connection(connection, process.map(AsRef::as_ref), true, observation);
            }
            Fact::ConnectionFailed {
                connection,
                process,
                ..
            } => {
                self.connection(connection, process.map(AsRef::as_ref), false, observation);
            }
            Fact::ConnectionExisting {
                connection, totals, ..
            } => {
                if let Some(totals) = totals {
                    let mut transfer = self.carried.transfer.borrow_mut();
                    transfer.begin(connection.id, totals);
                }
            }
            Fact::ConnectionClosed {
                connection,
                totals,
                duration_ns,
                ..
            } => {
                let bytes = self
                    .carried
                    .transfer
                    .borrow_mut()
                    .close(connection.id, totals);
                self.carried.add(bytes);
                if let Some(duration) = duration_ns {
                    self.connection_duration.observe(seconds(duration));
                }
            }
            Fact::DatagramFlow { new, .. } => {
                let [transmitted, received] = &self.datagrams;
                transmitted.inc_by(new.sent_packets);
                received.inc_by(new.received_packets);
                self.carried.add(Bytes {
                    sent: new.sent_bytes,
                    received: new.received_bytes,
                });
            }
            Fact::Lookup {
                lookup,
                duration_ns,
                ..
            } => self.lookups.count(lookup, duration_ns),
            Fact::Detected { detection, .. } => {
                let counter = self.detections.with_label_values(&[detection.rule.id]);
                counter.inc();
            }
            Fact::Lost(loss) => self
                .lost
                .with_label_values(&[loss.stage])
                .inc_by(loss.count),
            Fact::ProcessExecuted(_)
            | Fact::ProcessExited { .. }
            | Fact::ListenOpened { .. }
            | Fact::ListenClosed { .. }
            | Fact::SocketOpened { .. }
            | Fact::ClientHello { .. } => {}
        }
    }

    fn flush(&mut self) {}
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
