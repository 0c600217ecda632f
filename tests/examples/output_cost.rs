//! Prints events to nowhere, to measure what a line costs.
//!
//! `valgrind --tool=callgrind target/release/examples/output_cost FORMAT N [ipv6]` for two values of N: the
//! difference of the instructions, divided by that of N, is the cost of a line.

use std::hint::black_box;

use tests::samples::{Samples, context};
use tracer::output::Format;
use tracer::output::json::Json;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let format = arguments.next().unwrap_or_else(|| "json".into());
    let count: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let mut sink: Box<dyn Format> = match format.as_str() {
        "json" => Box::new(Json::new(context())),
        other => panic!("no format {other}"),
    };
    let samples = Samples::default();
    let observations = samples.observations();
    // What a connection gives, over and over, over IPv4 as its initiator and over IPv6 as its acceptor.
    let events = if arguments.next().as_deref() == Some("ipv6") {
        [7, 11]
    } else {
        [6, 10]
    };
    let connection = events.map(|index| &observations[index]);
    let mut out = Vec::new();
    let mut bytes = 0;
    for sequence in 0..count {
        sink.line(connection[sequence as usize % 2], sequence, &mut out);
        if out.len() > 32_768 {
            bytes += black_box(&out).len();
            out.clear();
        }
    }
    println!(
        "{count} lines, {} bytes each",
        (bytes + out.len()) as u64 / count.max(1)
    );
}
