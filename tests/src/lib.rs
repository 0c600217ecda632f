//! What the tests of the whole tracer share: running it, giving it something to see, and judging
//! what it says.
//!
//! In: a built `tracer` (see [`environment`]). Out: [`daemon::Tracer`], a running one whose every
//! line of output is checked; [`workload::Workload`], a process that does something on the network
//! and tells what it did; [`expectations`], which compare the two. Tests of single parts use
//! [`samples`].

pub mod account;
pub mod births;
pub mod bpf;
pub mod cgroups;
pub mod command;
pub mod containers;
pub mod daemon;
pub mod environment;
pub mod escapes;
pub mod event;
pub mod execs;
pub mod expectations;
pub mod folding;
pub mod hello;
pub mod http;
pub mod invariants;
pub mod journal;
pub mod lines;
pub mod loopback;
pub mod metrics;
pub mod procfs;
pub mod samples;
pub mod suite;
pub mod wait;
pub mod workload;
