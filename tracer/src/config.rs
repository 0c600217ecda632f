//! What the daemon is to do: arguments, resolved against one another and the surroundings.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::cli::{
    CaptureArgs, Color, DetectArgs, FileArgs, Group, HashLimit, HistoryArgs, KeepIn, MetricsArgs,
    MetricsListen, OutputArgs, OutputFormat, RunArgs, TraceArgs,
};
use crate::configuration::{Configuration, ConfigurationError};
use crate::detect::settings::Settings;
use crate::file::examiner;
use crate::filter::Filter;
use crate::history::store;
use crate::kernel::loader;
use crate::local::{self, Listen};
use crate::output::compact::{Compact, Detail};
use crate::output::json::Json;
use crate::output::sink::LineSink;
use crate::output::writer::{Chunks, Target};
use crate::output::{Context, Format};
use crate::process::secrets::Secrets;

/// What `run` and `trace` do.
#[derive(Debug)]
pub struct Config {
    /// How the kernel is watched.
    pub capture: loader::Options,
    /// Which secrets in arguments are masked.
    pub secrets: Secrets,
    /// What is written, and where.
    pub output: OutputConfig,
    /// What is read of executed files; `None` if nothing.
    pub files: Option<examiner::Options>,
    /// What is served; `None` if nothing.
    pub metrics: Option<MetricsConfig>,
    /// What is kept on disk; `None` if nothing.
    pub history: Option<store::Options>,
    /// What is looked for; `None` if nothing.
    pub detect: Option<DetectConfig>,
    /// Where other commands can ask; `None` if nowhere.
    pub socket: Option<SocketConfig>,
    /// What is shown, but for the tracer itself, which only knows itself once it runs.
    pub filter: Filter,
    /// Whether the tracer itself is shown.
    pub include_self: bool,
    /// How often to compare what the hooks told with the kernel's own sockets.
    pub comparison: Duration,
    /// After which time to end.
    pub timeout: Option<Duration>,
    /// A command to run and whose tree alone is shown; empty if there is none.
    pub command: Vec<OsString>,
}

/// What is written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// How events are written.
    pub format: LineFormat,
    /// Where they go.
    pub target: Target,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// JSON lines.
    Json,
    /// Lines for people, with or without colours.
    People(Detail, bool),
}

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where.
    pub listen: SocketAddr,
    /// Names of processes that are counted by themselves; `*` for all.
    pub processes: Vec<String>,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectConfig {
    /// The file that says so, to be read again; `None` is the one at the default place.
    pub file: Option<PathBuf>,
    /// What it says.
    pub settings: Settings,
}

/// Where other commands can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// The socket's file.
    pub path: PathBuf,
    /// Which group may ask, beside the user; by number.
    pub group: Option<u32>,
    /// Whether nothing is to begin without it.
    pub is_required: bool,
}

/// What the resolution depends on beside the arguments.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether the user wants no colours anywhere.
    pub no_color: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            no_color: is_set("NO_COLOR") || is_dumb,
        }
    }
}

impl DetectConfig {
    /// What the arguments and the configuration ask for; `None` if nothing is to be looked for, whatever that says.
    pub fn load(args: DetectArgs) -> Result<Option<Self>, ConfigurationError> {
        let settings = Configuration::load(args.config.as_deref())?.detect;
        Ok((!args.no_detect).then_some(Self {
            file: args.config,
            settings,
        }))
    }
}

impl Config {
    /// What `run` does.
    pub fn of_run(args: RunArgs, surroundings: Surroundings) -> Result<Self, ConfigurationError> {
        let detect = DetectConfig::load(args.detect)?;
        Ok(Self {
            capture: capture(&args.capture),
            secrets: args.mask.resolve(),
            output: OutputConfig::resolve(&args.output, Target::Log, surroundings),
            files: files(&args.files),
            metrics: metrics(args.metrics_listen, args.metrics),
            history: history(args.history),
            detect,
            socket: socket(args.socket, args.socket_group),
            include_self: args.filter.include_self,
            filter: args.filter.resolve(),
            comparison: args.capture.comparison,
            timeout: None,
            command: Vec::new(),
        })
    }

    /// What `trace` does.
    pub fn of_trace(args: TraceArgs, surroundings: Surroundings) -> Self {
        Self {
            capture: capture(&args.capture),
            secrets: args.mask.resolve(),
            output: OutputConfig::resolve(&args.output, Target::File, surroundings),
            files: files(&args.files),
            metrics: metrics(args.metrics_listen, args.metrics),
            history: None,
            detect: None,
            socket: None,
            include_self: args.filter.include_self,
            filter: args.filter.resolve(),
            comparison: args.capture.comparison,
            timeout: args.timeout,
            command: args.command,
        }
    }
}

/// What the loader is asked for.
pub fn capture(args: &CaptureArgs) -> loader::Options {
    loader::Options {
        mode: args.hook_mode,
        tls: args.tls,
        ring_bytes: args.ring_size,
        degraded: args.degraded,
        log_level: args.log as u8,
    }
}

fn files(args: &FileArgs) -> Option<examiner::Options> {
    match args.hash_limit {
        HashLimit::Off => None,
        HashLimit::UpTo(limit) => Some(examiner::Options {
            size_limit: limit.0,
            bytes_per_second: args.hash_rate.0,
        }),
    }
}

fn history(args: HistoryArgs) -> Option<store::Options> {
    match args.history {
        KeepIn::Off => None,
        KeepIn::Directory(directory) => Some(store::Options {
            directory,
            size_limit: args.history_size.0,
            age_limit: args.history_age,
            group: args.history_group.map(|Group(id)| id),
        }),
    }
}

fn socket(listen: Option<Listen>, group: Option<Group>) -> Option<SocketConfig> {
    let is_required = listen.is_some();
    let path = match listen {
        Some(Listen::Off) => return None,
        Some(Listen::At(path)) => path,
        None => local::DEFAULT_PATH.into(),
    };
    Some(SocketConfig {
        path,
        group: group.map(|Group(id)| id),
        is_required,
    })
}

fn metrics(listen: MetricsListen, args: MetricsArgs) -> Option<MetricsConfig> {
    match listen {
        MetricsListen::Off => None,
        MetricsListen::On(listen) => Some(MetricsConfig {
            listen,
            processes: args.processes,
        }),
    }
}

impl OutputConfig {
    /// What was asked for; `file` says what a file is that is written to instead of stdout.
    pub fn resolve(
        args: &OutputArgs,
        file: fn(PathBuf) -> Target,
        surroundings: Surroundings,
    ) -> Self {
        let target = args.output_file.clone();
        let target = target.map_or(Target::Stdout, file);
        let to_terminal = target == Target::Stdout && surroundings.stdout_is_terminal;
        let color = match args.color {
            Color::Auto => to_terminal && !surroundings.no_color,
            Color::Always => true,
            Color::Never => false,
        };
        let format = match args.format {
            OutputFormat::Auto if to_terminal => LineFormat::People(Detail::Compact, color),
            OutputFormat::Auto | OutputFormat::Json => LineFormat::Json,
            OutputFormat::Compact => LineFormat::People(Detail::Compact, color),
            OutputFormat::Wide => LineFormat::People(Detail::Wide, color),
        };
        Self { format, target }
    }

    /// The sink that writes what `filter` admits to `chunks`.
    pub fn sink(&self, context: Context, filter: Filter, chunks: Chunks) -> LineSink {
        LineSink::new(self.format.made(context), filter, chunks)
    }
}

impl LineFormat {
    /// The format, for events of that origin.
    pub fn made(self, context: Context) -> Box<dyn Format> {
        match self {
            Self::Json => Box::new(Json::new(context)),
            Self::People(detail, color) => {
                Box::new(Compact::new(context, detail, color, TimeZone::system()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::kernel::hooks::HookMode;

    const PIPE: Surroundings = Surroundings {
        stdout_is_terminal: false,
        no_color: false,
    };
    const TERMINAL: Surroundings = Surroundings {
        stdout_is_terminal: true,
        no_color: false,
    };

    fn config(arguments: &[&str], surroundings: Surroundings) -> Config {
        let arguments = ["tracer"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command {
            Command::Run(args) => Config::of_run(args, surroundings).unwrap(),
            Command::Trace(args) => Config::of_trace(args, surroundings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn run_serves_metrics_and_trace_does_not() {
        let listen = config(&["run"], PIPE)
            .metrics
            .map(|metrics| metrics.listen.to_string());
        assert_eq!(listen.as_deref(), Some("127.0.0.1:10935"));
        assert_eq!(
            config(&["run", "--metrics-listen", "off"], PIPE).metrics,
            None
        );
        assert_eq!(config(&["trace"], PIPE).metrics, None);
    }

    #[test]
    fn executed_files_are_read_up_to_a_limit_and_not_at_all_if_it_is_off() {
        let files = |arguments: &[&str]| config(arguments, PIPE).files;
        let options = files(&["run", "--hash-rate", "1MiB"]).unwrap();
        assert_eq!(options.size_limit, 256 << 20);
        assert_eq!(options.bytes_per_second, 1 << 20);
        assert_eq!(files(&["trace", "--hash-limit", "off"]), None);
    }

    #[test]
    fn output_is_compact_on_a_terminal_and_json_elsewhere() {
        let format =
            |arguments: &[&str], surroundings| config(arguments, surroundings).output.format;
        let compact = |color| LineFormat::People(Detail::Compact, color);
        assert_eq!(format(&["run"], PIPE), LineFormat::Json);
        assert_eq!(format(&["run"], TERMINAL), compact(true));
        assert_eq!(
            format(&["run", "--output-file", "x"], TERMINAL),
            LineFormat::Json
        );
        assert_eq!(format(&["run", "-o", "compact"], PIPE), compact(false));
        assert_eq!(
            format(&["run", "-o", "compact", "--color", "always"], PIPE),
            compact(true)
        );
    }

    #[test]
    fn run_adds_to_its_file_and_trace_begins_a_new_one() {
        let target = |command| {
            let arguments = [command, "--output-file", "x"];
            config(&arguments, PIPE).output.target
        };
        assert_eq!(target("run"), Target::Log("x".into()));
        assert_eq!(target("trace"), Target::File("x".into()));
    }

    #[test]
    fn what_is_given_to_run_twice_counts_as_given_last() {
        let arguments = ["run", "--output-file", "x", "--output-file", "y"];
        let target = config(&arguments, PIPE).output.target;
        assert_eq!(target, Target::Log("y".into()));
    }

    #[test]
    fn no_color_is_honoured_unless_colours_are_asked_for() {
        let surroundings = Surroundings {
            no_color: true,
            ..TERMINAL
        };
        let format = |arguments: &[&str]| config(arguments, surroundings).output.format;
        assert_eq!(format(&["run"]), LineFormat::People(Detail::Compact, false));
        let always = format(&["run", "--color", "always"]);
        assert_eq!(always, LineFormat::People(Detail::Compact, true));
    }

    #[test]
    fn arguments_behind_two_hyphens_are_the_command() {
        let config = config(
            &["trace", "-4", "--timeout", "1m30s", "--", "curl", "-4"],
            PIPE,
        );
        assert_eq!(config.command, ["curl", "-4"]);
        assert_eq!(config.timeout, Some(Duration::from_secs(90)));
        assert_eq!(config.filter.family, Some(crate::filter::Family::Ipv4));
    }

    #[test]
    fn capture_is_as_asked_for() {
        let arguments = [
            "run",
            "--hook-mode",
            "kprobe",
            "--ring-size",
            "4096",
            "--log",
            "debug",
        ];
        let options = config(&arguments, PIPE).capture;
        assert_eq!(options.mode, Some(HookMode::Kprobe));
        assert_eq!(
            (options.ring_bytes, options.log_level, options.degraded),
            (4096, 4, false)
        );
        assert_eq!(config(&["run"], PIPE).capture.log_level, 0);
    }
}
