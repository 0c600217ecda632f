//! Options on how the kernel is watched and what is served.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::parse_duration;
use crate::kernel::hooks::HookMode;

/// Size of the ring buffer, unless told otherwise, in bytes.
pub(super) const RING_BYTES: u32 = 32 << 20;

/// How the kernel is watched.
#[derive(Args, Debug)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Use only hooks of this mode, instead of the best that the kernel accepts
    #[arg(long, value_name = "MODE", value_parser = hook_mode())]
    pub hook_mode: Option<HookMode>,
    /// Also tell which server and which protocols a TLS client asks for, from the first bytes that are sent
    #[arg(long)]
    pub tls: bool,
    /// Go on when a moment cannot be seen, or a hook does not work
    #[arg(long)]
    pub degraded: bool,
    /// Size of the buffer between kernel and tracer, in bytes: a power of two
    #[arg(long, value_name = "BYTES", default_value_t = RING_BYTES, value_parser = parse_ring_size)]
    pub ring_size: u32,
    /// How often to compare what the hooks told with the kernel's own sockets
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub comparison: Duration,
    /// Print the kernel programs' own messages of this level and above
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    pub log: LogLevel,
}

/// From which level on the kernel programs' own messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How processes appear in the metrics.
#[derive(Args, Debug)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsArgs {
    /// Count connections of processes of this name by themselves, `*` for every name; the others
    /// are counted together, as `other`
    #[arg(long = "metrics-process", value_name = "NAME")]
    pub processes: Vec<String>,
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// Nowhere.
    Off,
    /// There.
    On(SocketAddr),
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let message =
            "not an address with a port, such as 127.0.0.1:10935 or [::1]:10935, nor `off`";
        text.parse().map(Self::On).map_err(|_| message.to_owned())
    }
}

fn hook_mode() -> impl TypedValueParser<Value = HookMode> {
    PossibleValuesParser::new(HookMode::ALL.map(HookMode::name)).try_map(|name| {
        let mode = HookMode::ALL.into_iter().find(|mode| mode.name() == name);
        mode.ok_or("no such mode")
    })
}

fn parse_ring_size(text: &str) -> Result<u32, String> {
    let size: u32 = text
        .parse()
        .map_err(|_| "not a number of bytes below 4 GiB".to_owned())?;
    if size.is_power_of_two() && size >= 4096 {
        Ok(size)
    } else {
        Err("not a power of two of at least 4096".to_owned())
    }
}
