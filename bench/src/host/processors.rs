//! On which processors threads run, and which there are.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors by their numbers.
pub(crate) type Processors = Vec<usize>;

/// Those that this process may use: two at least, for the tracer and for what it watches.
pub(crate) fn all() -> Result<Processors> {
    let set = sched_getaffinity(None).context("reading the affinity")?;
    let all: Processors = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect();
    ensure!(all.len() > 1, "one processor: nothing can be kept apart");
    Ok(all)
}

/// Keeps this thread, and the threads and processes that it starts from now on, to some processors.
pub(crate) fn keep_to(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&processor| set.set(processor));
    sched_setaffinity(None, &set).context("setting the affinity")
}
