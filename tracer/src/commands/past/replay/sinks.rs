//! Where replayed events go.
//!
//! In: observations, with where they were recorded. Out: lines, a history, metrics, as far as each was asked for. A
//! sink that has failed has no room any more; why it failed is told when it is closed.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use prometheus::{Registry, TextEncoder};

use super::super::destination::Destination;
use crate::cli::{OutputFormat, ReplayArgs};
use crate::config::{LineFormat, OutputConfig, Surroundings};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::history::import::{Import, ImportError};
use crate::metrics::{self, MetricsSink};
use crate::observation::{Observation, Sink};
use crate::output::record::Record;
use crate::output::writer::Target;
use crate::output::{About, Format};

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Exists(_) => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

/// Where replayed events go.
pub(super) struct Sinks {
    lines: Option<Lines>,
    history: Option<Import>,
    metrics: Option<Metrics>,
}

/// Lines of events.
struct Lines {
    out: BufWriter<Destination>,
    to_stdout: bool,
    formats: LineFormat,
    format: Option<Box<dyn Format>>,
    filter: Filter,
    line: Vec<u8>,
    sequence: u64,
    failed: Option<io::Error>,
}

/// What is counted.
struct Metrics {
    registry: Registry,
    sink: MetricsSink,
    destination: Destination,
}

impl Sinks {
    /// What was asked for. `shown` says which kinds of events are written, `kept` which are kept and counted.
    pub(super) fn open(
        args: &ReplayArgs,
        surroundings: Surroundings,
        shown: Filter,
        kept: &Filter,
    ) -> Result<Self, Failure> {
        let goes_elsewhere = args.history.is_some() || args.metrics_file.is_some();
        let is_asked_for =
            args.output.format != OutputFormat::Auto || args.output.output_file.is_some();
        let lines = if goes_elsewhere && !is_asked_for {
            None
        } else {
            let config = OutputConfig::resolve(&args.output, Target::File, surroundings);
            Some(Lines::open(&config, shown)?)
        };
        let history = args.history.as_deref();
        let history = history.map(|directory| Import::new(directory, kept.clone()));
        let metrics = args.metrics_file.as_deref();
        Ok(Self {
            lines,
            history: history.transpose()?,
            metrics: metrics
                .map(|path| Metrics::open(path, &args.metrics.processes, kept.clone()))
                .transpose()?,
        })
    }

    /// Whether lines are shown where progress would be mixed with them, if stdout is a terminal.
    pub(super) fn write_to_stdout(&self) -> bool {
        let lines = self.lines.as_ref();
        lines.is_some_and(|lines| lines.to_stdout)
    }

    /// Writes the rest. What failed first is told.
    pub(super) fn close(self) -> Result<(), Failure> {
        let lines = self.lines.map_or(Ok(()), Lines::close);
        let history = self.history.map_or(Ok(()), Import::close);
        let metrics = self.metrics.map_or(Ok(()), Metrics::close);
        lines.and(history.map_err(Failure::from)).and(metrics)
    }
}

impl Sink for Sinks {
    fn begin(&mut self, about: &Arc<About>) {
        if let Some(lines) = &mut self.lines {
            lines.format = Some(lines.formats.made(about.context()));
        }
        if let Some(history) = &mut self.history {
            history.begin(about);
        }
    }

    fn observe(&mut self, observation: &Observation<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.observe(observation);
        }
        if let Some(history) = &mut self.history {
            history.observe(observation);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.sink.observe(observation);
        }
    }

    fn flush(&mut self) {
        if let Some(lines) = &mut self.lines {
            let flushed = lines.out.flush();
            lines.judge(flushed);
        }
        if let Some(history) = &mut self.history {
            history.flush();
        }
    }

    fn has_room(&self) -> bool {
        let lines = self.lines.as_ref();
        let history = self.history.as_ref();
        lines.is_none_or(|lines| lines.failed.is_none()) && history.is_none_or(Import::has_room)
    }
}

impl Lines {
    fn open(config: &OutputConfig, filter: Filter) -> Result<Self, Failure> {
        let destination = match &config.target {
            Target::Stdout => Destination::stdout()?,
            Target::File(path) | Target::Log(path) => Destination::file(path)?,
        };
        Ok(Self {
            out: BufWriter::with_capacity(64 << 10, destination),
            to_stdout: config.target == Target::Stdout,
            formats: config.format,
            format: None,
            filter,
            line: Vec::new(),
            sequence: 0,
            failed: None,
        })
    }

    fn observe(&mut self, observation: &Observation<'_>) {
        let record = Record::of(observation);
        let Some(format) = &mut self.format else {
            return;
        };
        if self.failed.is_some() || !self.filter.admits(&record) {
            return;
        }
        self.line.clear();
        format.line(&record, self.sequence, &mut self.line);
        self.sequence += 1;
        let written = self.out.write_all(&self.line);
        self.judge(written);
    }

    fn judge(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn close(mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        self.judge(flushed);
        let (destination, _) = self.out.into_parts();
        match &self.failed {
            Some(error) => destination.failure(error),
            None => destination.commit(),
        }
    }
}

impl Metrics {
    fn open(path: &Path, processes: &[String], filter: Filter) -> Result<Self, Failure> {
        let (registry, sink) = metrics::of_recorded(processes, filter).map_err(Failure::failed)?;
        let is_stdout = path.as_os_str() == "-";
        Ok(Self {
            registry,
            sink,
            destination: if is_stdout {
                Destination::stdout()?
            } else {
                Destination::file(path)?
            },
        })
    }

    fn close(mut self) -> Result<(), Failure> {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        let text = text.map_err(Failure::failed)?;
        match self.destination.write_all(text.as_bytes()) {
            Ok(()) => self.destination.commit(),
            Err(error) => self.destination.failure(&error),
        }
    }
}
