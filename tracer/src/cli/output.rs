//! Options on what is written, and where.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is written, and where.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// How events are written
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        default_value = "auto"
    )]
    pub format: OutputFormat,
    /// Write events to this file instead of stdout; `run` adds to it, and opens it anew on SIGHUP
    #[arg(long, value_name = "PATH")]
    pub output_file: Option<PathBuf>,
    /// Whether to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// compact on a terminal, json elsewhere
    Auto,
    /// A line an event, for people
    Compact,
    /// The same with all that is known
    Wide,
    /// A JSON object a line, see `tracer schema`
    Json,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// In any case
    Always,
    /// In no case
    Never,
}
