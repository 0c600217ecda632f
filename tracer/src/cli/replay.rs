//! Arguments of `replay`: what is read again, and where it goes.

use std::path::PathBuf;

use clap::Args;

use super::{DetectArgs, FilterArgs, MetricsArgs, OutputArgs};

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// JSON lines, as `run` and `export` write them, `-` for stdin; or the directory or a file of a history
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// What is written, and where: with --history or --metrics nothing, unless asked for.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep it as a history in this directory, which has none yet. Without -o or --output-file, events are
    /// not written then
    #[arg(long, value_name = "DIR", help_heading = "History")]
    pub history: Option<PathBuf>,
    /// Write what metrics would have counted to this file, `-` for stdout. Without -o or --output-file,
    /// events are not written then
    #[arg(
        long = "metrics",
        value_name = "FILE",
        id = "metrics_file",
        help_heading = "Metrics"
    )]
    pub metrics_file: Option<PathBuf>,
    /// How it is counted.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// What to look for, beside the detections that were recorded.
    #[command(flatten)]
    pub detect: DetectArgs,
    /// What is read of it; by kinds only what is written, kept and counted.
    #[command(flatten)]
    pub filter: FilterArgs,
}
