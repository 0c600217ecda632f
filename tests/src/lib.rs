//! What the tests of the whole tracer share: running it, giving it something to see, and judging
//! what it says.
//!
//! In: a built `tracer` (see [`environment`]). Out: [`tracer::Tracer`], a running one whose every
//! line of output is checked; [`workload::Workload`], a process that does something on the network
//! and tells what it did; [`expectations`], which compare the two.

pub mod bpf;
pub mod command;
pub mod environment;
pub mod event;
pub mod expectations;
pub mod http;
pub mod invariants;
pub mod lines;
pub mod loopback;
pub mod metrics;
pub mod procfs;
pub mod suite;
pub mod tracer;
pub mod wait;
pub mod workload;
