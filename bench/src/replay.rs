//! Replays a ring as the daemon's pipeline takes in the kernel's, and tells what that costs.
//!
//! In: how many records, and which output. Out: figures of the part behind the warm-up, in which
//! tables, buffers and series grow to their size.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use jiff::tz::TimeZone;
use tracer::clock::WallOffset;
use tracer::decode::decode;
use tracer::detect::Engine;
use tracer::detect::settings::Settings;
use tracer::detect::sink::Detecting;
use tracer::event::{BootTime, ProcessKey};
use tracer::filter::Filter;
use tracer::host::Host as HostFacts;
use tracer::identity::BootId;
use tracer::kernel::netns::Names;
use tracer::metrics::{Metrics, MetricsSink, metrics};
use tracer::observation::{Observation, Sink};
use tracer::output::compact::{Compact, Detail};
use tracer::output::json::Json;
use tracer::output::names::{ByFamily, HookNames};
use tracer::output::record::Record;
use tracer::output::users::Users;
use tracer::output::{Context, Format};
use tracer::state::{Limits, State};

use crate::population::inventory;
use crate::ring::{Records, Ring};
use crate::script::{HOST_NETNS, Host};
use crate::{allocator, population};

/// Records between two flushes: what gathers in ten milliseconds, or at a wake-up under load.
const BATCH: usize = 64;

const SEED: u64 = 4711;

/// What makes lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Nothing: metrics alone
    None,
    /// JSON lines
    Json,
    /// Lines for people
    Compact,
    /// Nothing, but detectors look at everything
    Detections,
}

/// What the part behind the warm-up cost.
pub(crate) struct Figures {
    pub(crate) records: usize,
    pub(crate) lines: u64,
    pub(crate) seconds: f64,
    pub(crate) allocations: u64,
}

/// Replays a ring of `records` records.
pub(crate) fn run(output: Output, records: usize) -> anyhow::Result<Figures> {
    let mut ring = Ring::default();
    Host::new(SEED).run(records, &mut ring);
    let mut replay = Replay::new(output)?;
    let mut rest = ring.records();
    replay.take_in(&mut rest, records / 4);
    let lines_before = replay.line_count();
    let allocations_before = allocator::allocations();
    let begin = Instant::now();
    measured(&mut replay, &mut rest);
    let figures = Figures {
        records: records - records / 4,
        lines: replay.line_count() - lines_before,
        seconds: begin.elapsed().as_secs_f64(),
        allocations: allocator::allocations() - allocations_before,
    };
    replay.check()?;
    Ok(figures)
}

/// The part of which instructions are counted, by this name.
#[inline(never)]
fn measured(replay: &mut Replay, records: &mut Records<'_>) {
    replay.take_in(records, usize::MAX);
}

/// The state and its sinks, as the daemon has them.
pub(crate) struct Replay {
    pub(crate) state: State,
    pub(crate) metrics: Metrics,
    sinks: Detecting<Sinks>,
    undecodable: u64,
}

/// Where observations go.
struct Sinks {
    lines: Option<Lines>,
    metrics: MetricsSink,
}

/// As the daemon's sink of lines, but without the thread that writes: it would run on another
/// processor, and wait differently each time.
struct Lines {
    format: Box<dyn Format>,
    filter: Filter,
    buffer: Vec<u8>,
    /// Lines so far.
    count: u64,
    nowhere: File,
}

impl Lines {
    fn observe(&mut self, observation: &Observation<'_>) {
        let record = Record::of(observation);
        if self.filter.admits(&record) {
            self.format.line(&record, self.count, &mut self.buffer);
            self.count += 1;
        }
    }

    fn flush(&mut self) {
        // Nobody reads it, and nothing is to be done about an error.
        let _ = self.nowhere.write_all(&self.buffer);
        self.buffer.clear();
    }
}

impl Sink for Sinks {
    fn observe(&mut self, observation: &Observation<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.observe(observation);
        }
        self.metrics.observe(observation);
    }

    fn flush(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.flush();
        }
        self.metrics.flush();
    }
}

impl Replay {
    /// With an output to nowhere.
    pub(crate) fn new(output: Output) -> anyhow::Result<Self> {
        let tracer = ProcessKey {
            tgid: 399,
            start_ns: 1,
        };
        let filter = Filter::hiding(tracer);
        let (metrics, sink) = metrics(&["curl".into(), "nginx".into()], filter)?;
        let nowhere = || File::create("/dev/null").context("opening /dev/null");
        let lines = |format| {
            anyhow::Ok(Lines {
                format,
                filter: Filter {
                    hidden: Some(tracer),
                    ..Filter::default()
                },
                buffer: Vec::new(),
                count: 0,
                nowhere: nowhere()?,
            })
        };
        let settings = Settings::default().check().map_err(anyhow::Error::msg)?;
        let engine = (output == Output::Detections).then(|| Engine::new(settings));
        let mut state = State::new(Limits {
            processes: 1 << 20,
            connections: 1 << 20,
            ..Limits::default()
        });
        state.cgroup(population::CGROUP, population::CGROUP_PATH);
        state.inventory(BootTime(population::INIT.start_ns), inventory());
        Ok(Self {
            state,
            metrics,
            sinks: Detecting::new(
                Sinks {
                    lines: format(output).map(lines).transpose()?,
                    metrics: sink,
                },
                engine,
                Filter::hiding(tracer),
            ),
            undecodable: 0,
        })
    }

    /// Takes in up to `count` records, batch by batch.
    pub(crate) fn take_in<'a>(
        &mut self,
        records: &mut impl Iterator<Item = &'a [u8]>,
        count: usize,
    ) {
        let mut left = count;
        while left > 0 {
            let taken = self.batch(records, left.min(BATCH));
            if taken == 0 {
                break;
            }
            left -= taken;
        }
    }

    fn batch<'a>(&mut self, records: &mut impl Iterator<Item = &'a [u8]>, limit: usize) -> usize {
        let mut count = 0;
        let mut latest = BootTime(0);
        for record in records.take(limit) {
            count += 1;
            match &decode(record) {
                Ok(event) => {
                    latest = event.time;
                    self.state.event(event, &mut self.sinks);
                }
                Err(_) => self.undecodable += 1,
            }
        }
        self.state.advance(latest, &mut self.sinks);
        self.sinks.flush();
        count
    }

    fn line_count(&mut self) -> u64 {
        self.sinks
            .inner()
            .lines
            .as_ref()
            .map_or(0, |lines| lines.count)
    }

    /// Fails if the ring was not understood, or anything was lost: then the figures mean nothing.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.undecodable == 0,
            "{} records could not be decoded",
            self.undecodable
        );
        let counters = self.state.counters().connections;
        ensure!(
            counters.lost_closes == 0 && counters.unattributed == 0,
            "{} closes lost, {} connections without an owner",
            counters.lost_closes,
            counters.unattributed
        );
        Ok(())
    }
}

fn format(output: Output) -> Option<Box<dyn Format>> {
    match output {
        Output::None | Output::Detections => None,
        Output::Json => Some(Box::new(Json::new(context()))),
        Output::Compact => Some(Box::new(Compact::new(
            context(),
            Detail::Compact,
            false,
            TimeZone::UTC,
        ))),
    }
}

fn context() -> Context {
    Context {
        host: HostFacts {
            name: "node-1".into(),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            boot_id: BootId([0x42; 16]),
        },
        offset: WallOffset::new(1_795_293_000_000_000_000),
        hooks: HookNames {
            connect: "fentry:tcp_connect".into(),
            accept: "fentry:security_sock_graft".into(),
            connect_error: ByFamily {
                ipv4: "fexit:tcp_v4_connect".into(),
                ipv6: "fexit:tcp_v6_connect".into(),
            },
            state: "tp_btf:inet_sock_set_state".into(),
            ..HookNames::default()
        },
        users: Users::fixed(&[(0, "root"), (33, "www-data"), (1000, "ada")]),
        netns: Names::fixed(HOST_NETNS, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_the_made_up_host_is_understood_and_attributed() {
        for (output, has_lines) in [
            (Output::None, false),
            (Output::Json, true),
            (Output::Compact, true),
            (Output::Detections, false),
        ] {
            let figures = run(output, 20_000).unwrap();
            assert_eq!(figures.records, 15_000);
            assert_eq!(figures.lines > 0, has_lines);
        }
    }
}
