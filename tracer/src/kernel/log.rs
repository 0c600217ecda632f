//! The kernel programs' own messages, for debugging them: nothing unless `--log` asks for it.
//!
//! In: Aya's log records. Out: lines on stderr. When off, the verifier has removed the statements.

use std::io::{self, Write as _};

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Prints records to stderr.
struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (level, target) = (record.level(), record.target());
        // Where stderr is closed, nobody reads these.
        let _ = writeln!(io::stderr(), "{level} {target}: {}", record.args());
    }

    fn flush(&self) {}
}

/// Passes the programs' messages on, in a task of its own, until the runtime ends.
pub fn pass_on(ebpf: &mut Ebpf) -> Result<(), String> {
    let logger = EbpfLogger::init_with_logger(ebpf, &ToStderr as &'static dyn log::Log)
        .map_err(|error| error.to_string())?;
    // SAFETY: the logger owns its descriptor and never changes it, and the `AsyncFd` owns the logger.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
