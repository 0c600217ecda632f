//! The command line as typed.
//!
//! In: arguments. Out: a [`Command`] whose values are each well formed; [`config`](crate::config)
//! resolves what depends on one another or on the surroundings.

mod capture;
mod detect;
mod export;
mod file;
mod filter;
mod group;
mod history;
mod mask;
mod output;
mod replay;
mod ss;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::capture::{CaptureArgs, LogLevel, MetricsArgs, MetricsListen};
pub use self::detect::{ConfigCommand, DetectArgs, DetectCommand};
pub use self::export::{ExportArgs, ExportFormat, ReportArgs, ReportSubject};
pub use self::file::{FileArgs, HashLimit, Size};
pub use self::filter::FilterArgs;
pub use self::group::Group;
pub use self::history::{
    HistoryArgs, KeepIn, PastArgs, PastFormat, QueryArgs, SpanArgs, Subject, TalkersArgs,
    WantedEnd, WhoArgs,
};
pub use self::mask::MaskArgs;
pub use self::output::{Color, OutputArgs, OutputFormat};
pub use self::replay::ReplayArgs;
pub use self::ss::SsArgs;
pub use self::tree::{NamedProcess, TreeArgs};
use crate::failure::Failure;
use crate::local::Listen;

/// Shows which process, started by whom, is behind each network connection on this host
#[derive(Debug, Parser)]
#[command(name = "tracer", version, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "\
Exit status: 0 done, 1 run-time failure, 2 usage, 3 unsupported kernel or missing privilege.
Events go to stdout, everything else to stderr.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as a daemon: every event on the host to an output, and metrics
    Run(RunArgs),
    /// Show what happens now, on the host or in the tree of a command
    Trace(TraceArgs),
    /// List the sockets that there are now, whose they are and by whose doing
    Ss(SsArgs),
    /// Draw the ancestors and descendants of a process, each with its connections
    Tree(TreeArgs),
    /// List what happened: connections, processes, listeners, look-ups
    Query(QueryArgs),
    /// List the processes that had connections, and how many
    Talkers(TalkersArgs),
    /// List who talked to an address, when, and by whose doing
    Who(WhoArgs),
    /// Write what happened for others to read: as JSON lines, CSV, Zeek's conn.log or Parquet
    Export(ExportArgs),
    /// Write a report on a process, an address or a time, to hand on: HTML, the events, and their hashes
    Report(ReportArgs),
    /// Read recorded events again: through filters, to an output, a history of their own, metrics
    Replay(ReplayArgs),
    /// Tell what this kernel offers, which hook serves each moment, and what is lost
    Doctor(DoctorArgs),
    /// List the rules by which detections are made, or explain one
    #[command(subcommand)]
    Detect(DetectCommand),
    /// Check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of the events
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Write the pages here, as tracer.1, tracer-run.1 and so on
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Tell what an entity id or a connection id says
    DecodeId(DecodeIdArgs),
    /// Print the version
    Version,
}

/// Arguments of `run`. Of what is given twice the last counts, so that a service's file can be added to.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct RunArgs {
    /// What to write, and where.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How to see it.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// What to read of executed files.
    #[command(flatten)]
    pub files: FileArgs,
    /// What to serve.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Where to serve metrics and health, or `off`
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:10935",
        help_heading = "Metrics"
    )]
    pub metrics_listen: MetricsListen,
    /// Where to answer other commands, such as `tracer ss`, or `off` [default: /run/tracer/tracer.sock]
    #[arg(long, value_name = "PATH", help_heading = "Other commands")]
    pub socket: Option<Listen>,
    /// Which group may ask, by name or number; otherwise the user alone
    #[arg(long, value_name = "GROUP", help_heading = "Other commands")]
    pub socket_group: Option<Group>,
    /// What to keep.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// What to look for.
    #[command(flatten)]
    pub detect: DetectArgs,
    /// What not to show of it.
    #[command(flatten)]
    pub mask: MaskArgs,
    /// What to show.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// End after this time, e.g. 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// What to write, and where.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How to see it.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// What to read of executed files.
    #[command(flatten)]
    pub files: FileArgs,
    /// What to serve.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Where to serve metrics and health, or `off`
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "off",
        help_heading = "Metrics"
    )]
    pub metrics_listen: MetricsListen,
    /// What not to show of it.
    #[command(flatten)]
    pub mask: MaskArgs,
    /// What to show.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// A command to run: only what it and its descendants do is shown
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// For people or for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
    /// How to see it.
    #[command(flatten)]
    pub capture: CaptureArgs,
}

/// Arguments of `decode-id`.
#[derive(Args, Debug)]
pub struct DecodeIdArgs {
    /// The id, as it stands in `entity_id` or `connection_id`
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub id: String,
    /// For people or for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
}

/// How `doctor` and `decode-id` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
}

impl Cli {
    /// The clap definition, from which completions and the manual are made.
    pub fn definition() -> clap::Command {
        Self::command()
    }

    /// Parses the arguments of this process. What only asks for help is printed by the caller.
    pub fn parse_arguments() -> Result<Self, Parsed> {
        Self::try_parse().map_err(Parsed::from)
    }
}

/// Why there is no command.
#[derive(Debug)]
pub enum Parsed {
    /// Help or the version was asked for; this is its text.
    Help(clap::Error),
    /// The arguments make no sense.
    Failure(Failure),
}

impl From<clap::Error> for Parsed {
    /// Of clap's message the first paragraph says what is wrong; one line has to do.
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Help(error),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Self::Failure(Failure::usage("no command given: see `tracer --help`"))
            }
            _ => {
                let text = error.render().to_string();
                let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
                let message = message.strip_prefix("error: ").unwrap_or(message);
                let tip = rest
                    .split("\n\n")
                    .find_map(|part| part.trim().strip_prefix("tip: "));
                let tip = tip.map(|tip| format!("{tip}; ")).unwrap_or_default();
                Self::Failure(Failure::usage(format_args!(
                    "{message}: {tip}see `tracer --help`"
                )))
            }
        }
    }
}

/// A shell that completions are for.
pub fn shell(name: &str) -> Option<Shell> {
    Shell::from_str(name, false).ok()
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text
        .parse()
        .map_err(|_| "not a time such as 30s, 5m, 1h30m or 7d".to_owned())?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years have no certain length: give days".to_owned())?;
    Duration::try_from(duration).map_err(|_| "a time cannot be negative".to_owned())
}
