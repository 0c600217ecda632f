//! Options on the history: what is kept, and what is asked of it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{FilterArgs, Group, Size, parse_duration};
use crate::history::reader::Kind;
use crate::history::store::DEFAULT_DIRECTORY;
use crate::history::window::Moment;

/// What is kept.
#[derive(Args, Debug)]
#[command(next_help_heading = "History")]
pub struct HistoryArgs {
    /// In which directory to keep what happened, for `tracer query` and others, or `off`
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY, overrides_with = "history")]
    pub history: KeepIn,
    /// How large it may become; then the oldest goes
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub history_size: Size,
    /// How long to keep it
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    pub history_age: Duration,
    /// Which group may read it, by name or number; otherwise the user alone
    #[arg(long, value_name = "GROUP")]
    pub history_group: Option<Group>,
}

/// Where the history is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepIn {
    /// Nowhere.
    Off,
    /// In this directory.
    Directory(PathBuf),
}

impl FromStr for KeepIn {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "off" => Self::Off,
            path => Self::Directory(path.into()),
        })
    }
}

/// Of which time something is asked, and where.
#[derive(Args, Debug)]
#[command(next_help_heading = "History")]
pub struct SpanArgs {
    /// From when on: so long ago (10m, 1d), a time of day (20:30), a date, or both
    /// (2026-11-21T20:30, with Z in UTC)
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Until when [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// In which directory the history is, or one file of it
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    pub history: PathBuf,
}

/// Of which time something is asked, and how it is told.
#[derive(Args, Debug)]
#[command(next_help_heading = "History")]
pub struct PastArgs {
    /// Of which time.
    #[command(flatten)]
    pub span: SpanArgs,
    /// How it is told
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    pub output: PastFormat,
}

/// How the past is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PastFormat {
    /// table on a terminal, json elsewhere
    Auto,
    /// In columns, for people
    Table,
    /// The same with more columns
    Wide,
    /// A JSON object a line, see `tracer schema`
    Json,
    /// Comma-separated values, all columns, times in UTC
    Csv,
}

/// Arguments of `query`.
#[derive(Args, Debug)]
pub struct QueryArgs {
    /// What to list
    #[arg(value_name = "WHAT", default_value = "connections")]
    pub subject: Subject,
    /// Of which time, and how.
    #[command(flatten)]
    pub past: PastArgs,
    /// Only processes that run what had never been seen to run before, by path, size and time of change
    #[arg(long)]
    pub first_seen: bool,
    /// Go on with what happens from now on
    #[arg(long, conflicts_with_all = ["until", "sql", "first_seen"])]
    pub follow: bool,
    /// Ask in SQL, of the views connections, processes, listeners, flows, lookups, raw_sockets, detections,
    /// losses and contacts
    #[arg(long, value_name = "SELECT", conflicts_with_all = ["subject", "first_seen"])]
    pub sql: Option<String>,
    /// What to show.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What `query` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Connections that were there in that time, those that failed included
    Connections,
    /// Processes that became another program
    Procs,
    /// Listening sockets that were there
    Listeners,
    /// Flows of datagrams
    Flows,
    /// Names that were asked for
    Lookups,
    /// Raw and packet sockets that were opened
    RawSockets,
    /// Rules that matched
    Detections,
    /// What was lost
    Losses,
}

impl Subject {
    /// Its kind of items.
    pub fn kind(self) -> Kind {
        match self {
            Self::Connections => Kind::Connections,
            Self::Procs => Kind::Processes,
            Self::Listeners => Kind::Listeners,
            Self::Flows => Kind::Flows,
            Self::Lookups => Kind::Lookups,
            Self::RawSockets => Kind::RawSockets,
            Self::Detections => Kind::Detections,
            Self::Losses => Kind::Losses,
        }
    }
}

/// Arguments of `talkers`.
#[derive(Args, Debug)]
pub struct TalkersArgs {
    /// Of which time, and how.
    #[command(flatten)]
    pub past: PastArgs,
    /// Only processes with at least so many connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_conns: u64,
    /// What to count. A port is the acceptor's.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `who`.
#[derive(Args, Debug)]
pub struct WhoArgs {
    /// An address, of this host or another one, and perhaps a port: 192.0.2.7, 192.0.2.7:445, [2001:db8::1]:445
    #[arg(value_name = "IP[:PORT]")]
    pub end: WantedEnd,
    /// Of which time, and how.
    #[command(flatten)]
    pub past: PastArgs,
    /// Show the last N only [default: 1000 in a table, all otherwise]
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// What to show.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// An end of connections as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedEnd {
    /// Its address.
    pub ip: IpAddr,
    /// Its port, if only one counts.
    pub port: Option<u16>,
}

impl FromStr for WantedEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return Ok(Self { ip, port: None });
        }
        let end: SocketAddr = text.parse().map_err(|_| {
            "neither an address such as 192.0.2.7 or 2001:db8::1, nor one with a port such as \
             192.0.2.7:445 or [2001:db8::1]:445"
        })?;
        Ok(Self {
            ip: end.ip().to_canonical(),
            port: Some(end.port()),
        })
    }
}
