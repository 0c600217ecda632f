//! Waiting for a condition, with a deadline: the only way in which a test lets time pass.

use std::time::{Duration, Instant};

/// How long a condition may take. An emulated machine needs seconds for what a real one does at once.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Between two looks at a condition that nothing announces.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `probe` has a value.
///
/// # Panics
/// If it has none by the deadline; the message names `what`.
#[track_caller]
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, probe).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Waits at most `limit` for `probe` to have a value.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}
