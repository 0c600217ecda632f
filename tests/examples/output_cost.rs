//! Prints events to nowhere, to measure what an output costs.
//!
//! `valgrind --tool=callgrind target/release/examples/output_cost OUTPUT EVENTS N` for two values of
//! N: the difference of the instructions, divided by that of N, is the cost of an event. OUTPUT is
//! `json`, `compact`, `wide` or `metrics`; EVENTS is `ipv4`, `ipv6`, `flows` (each connection is a
//! new one) or `exec` (each process is a new one).

use std::hint::black_box;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tests::samples::{Samples, context, curl, egress};
use tracer::event::ProcessKey;
use tracer::filter::Filter;
use tracer::metrics::metrics;
use tracer::observation::{Connection, Fact, Observation, Sink};
use tracer::output::Format;
use tracer::output::compact::{Compact, Detail};
use tracer::output::json::Json;
use tracer::output::record::Record;
use tracer::process::image::Image;

/// Events between two flushes.
const BATCH: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [output, events, count] = arguments.as_slice() else {
        panic!("usage: output_cost OUTPUT EVENTS N");
    };
    let count: usize = count.parse().expect("N is a number");
    let mut sink = sink(output);
    let samples = Samples::default();
    let observations = samples.observations();
    match events.as_str() {
        "ipv4" => repeat(&mut *sink, [&observations[6], &observations[10]], count),
        "ipv6" => repeat(&mut *sink, [&observations[7], &observations[11]], count),
        "flows" => flows(&mut *sink, count),
        "exec" => executions(&mut *sink, count),
        other => panic!("no events {other}"),
    }
}

fn sink(output: &str) -> Box<dyn Sink> {
    let tracer = ProcessKey {
        tgid: 99,
        start_ns: 1,
    };
    let filter = Filter::hiding(tracer);
    let compact = |detail| Box::new(Compact::new(context(), detail, true, TimeZone::UTC));
    let format: Box<dyn Format> = match output {
        "json" => Box::new(Json::new(context())),
        "compact" => compact(Detail::Compact),
        "wide" => compact(Detail::Wide),
        "metrics" => return Box::new(metrics(&["curl".into()], filter).expect("metrics").1),
        other => panic!("no output {other}"),
    };
    Box::new(Discard {
        format,
        filter,
        sequence: 0,
        buffer: Vec::new(),
    })
}

/// A sink of lines without the thread that writes them, which would wait differently each time.
struct Discard {
    format: Box<dyn Format>,
    filter: Filter,
    sequence: u64,
    buffer: Vec<u8>,
}

impl Sink for Discard {
    fn observe(&mut self, observation: &Observation<'_>) {
        let record = Record::of(observation);
        if self.filter.admits(&record) {
            self.format.line(&record, self.sequence, &mut self.buffer);
            self.sequence += 1;
        }
    }

    fn flush(&mut self) {
        black_box(&self.buffer);
        self.buffer.clear();
    }
}

fn repeat(sink: &mut dyn Sink, events: [&Observation<'_>; 2], count: usize) {
    for index in 0..count {
        sink.observe(events[index % events.len()]);
        flush(sink, index);
    }
}

/// Opened and closed, each time from another port.
fn flows(sink: &mut dyn Sink, count: usize) {
    let process = curl();
    let mut connection = egress();
    for index in 0..count {
        if index % 2 == 0 {
            let port = 32_768 + (index / 2 % 28_232) as u16;
            connection.endpoints.local.set_port(port);
        }
        sink.observe(&opened(&connection, &process, index));
        flush(sink, index);
    }
}

fn opened<'a>(
    connection: &'a Connection,
    process: &'a Arc<Image>,
    index: usize,
) -> Observation<'a> {
    let process = Some(process);
    let fact = Fact::ConnectionOpened {
        connection,
        process,
        connect_duration_ns: Some(54_321),
    };
    Observation {
        time: tracer::event::BootTime(index as u64 * 100_000),
        fact,
    }
}

fn executions(sink: &mut dyn Sink, count: usize) {
    let image = curl();
    for index in 0..count {
        let image = Arc::new(Image::clone(&image));
        let time = tracer::event::BootTime(index as u64 * 100_000);
        sink.observe(&Observation {
            time,
            fact: Fact::ProcessExecuted(&image),
        });
        flush(sink, index);
    }
}

fn flush(sink: &mut dyn Sink, index: usize) {
    if index % BATCH == BATCH - 1 {
        sink.flush();
    }
}
