//! What a process has had of the processor, by the scheduler's own count.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The processor time of a process's threads. It is exact for a thread that does not run just now.
pub(crate) fn time_of(process: u32) -> Result<Duration> {
    let tasks = format!("/proc/{process}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let on_processor = text.split_whitespace().next().unwrap_or_default();
        let on_processor: u64 = on_processor.parse().with_context(|| text.clone())?;
        total += on_processor;
    }
    Ok(Duration::from_nanos(total))
}
