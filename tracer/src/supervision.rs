//! The service manager that started the daemon, if one did (sd_notify(3)).
//!
//! In: that the daemon is ready, that its loop still turns, that it ends. Out: messages to the socket in
//! `NOTIFY_SOCKET`; without one, nothing.

use std::io::{self, Write as _};
use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::Instant;

/// What is told, and when the last sign of life was given.
#[derive(Debug)]
pub struct Supervision {
    /// How often to give a sign of life; `None` if nobody waits for one.
    interval: Option<Duration>,
    last: Instant,
}

impl Supervision {
    /// Says that the hooks are attached and checked, and that others can ask.
    pub fn begin() -> Self {
        tell(NotifyState::Ready);
        Self {
            // A sign that is a little late must not be the end.
            interval: watchdog_enabled().map(|limit| limit / 2),
            last: Instant::now(),
        }
    }

    /// The loop has turned once more.
    pub fn alive(&mut self) {
        if self.interval.is_some_and(|it| self.last.elapsed() >= it) {
            self.last = Instant::now();
            tell(NotifyState::Watchdog);
        }
    }
}

/// The daemon ends in order.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = notify(&[state]) {
        // Where stderr is closed, nobody is there to be told.
        let _ = writeln!(
            io::stderr(),
            "tracer: note: cannot reach the service manager: {error}"
        );
    }
}
