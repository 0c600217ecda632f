//! Arguments of `export` and `report`: which part of the history, and where it goes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::{FilterArgs, NamedProcess, SpanArgs, Subject, WantedEnd};

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// In which format
    #[arg(long, value_name = "FORMAT")]
    pub format: ExportFormat,
    /// What to export [default: connections; in ndjson everything, in zeek connections and flows]
    #[arg(value_name = "WHAT")]
    pub subject: Option<Subject>,
    /// Into which file, which then has all of it or is not there; otherwise to stdout
    #[arg(short = 'f', long, value_name = "PATH")]
    pub output_file: Option<PathBuf>,
    /// Of which time; everything, unless told otherwise.
    #[command(flatten)]
    pub span: SpanArgs,
    /// What to export of it.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What others read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A JSON object a line, see `tracer schema`: in order of time, then what was still there
    Ndjson,
    /// Comma-separated values, times in UTC
    Csv,
    /// Zeek's conn.log
    Zeek,
    /// Apache Parquet, compressed by Snappy
    Parquet,
}

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Whom it is about: a PID or an `entity_id`, which means also its descendants, or an address and
    /// perhaps a port; otherwise everything
    #[arg(value_name = "PID|ENTITY_ID|IP[:PORT]", allow_hyphen_values = true)]
    pub subject: Option<ReportSubject>,
    /// Where it goes: into a directory as report.html, events.ndjson and SHA256SUMS, or to FILE.html, with
    /// the others beside it by the same name
    #[arg(long, value_name = "DIR|FILE.html")]
    pub out: PathBuf,
    /// Of which time; of the last day, unless told otherwise.
    #[command(flatten)]
    pub span: SpanArgs,
}

/// Whom a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportSubject {
    /// A process, or all that had its PID.
    Process(NamedProcess),
    /// An end of connections.
    End(WantedEnd),
}

impl FromStr for ReportSubject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An entity id is Base64: it has neither dots nor colons.
        if text.contains(['.', ':']) {
            return text.parse().map(Self::End);
        }
        text.parse()
            .map(Self::Process)
            .map_err(|error| format!("{error}; and not an address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::population::Wanted;

    #[test]
    fn a_subject_is_a_process_or_an_address() {
        let subject: ReportSubject = "4312".parse().unwrap();
        let ReportSubject::Process(process) = subject else {
            panic!("{subject:?}");
        };
        assert_eq!(process.wanted, Wanted::Pid(4312));
        for (text, port) in [("192.0.2.7", None), ("[2001:db8::1]:445", Some(445))] {
            let subject: ReportSubject = text.parse().unwrap();
            assert!(
                matches!(subject, ReportSubject::End(end) if end.port == port),
                "{subject:?}"
            );
        }
        assert!("curl".parse::<ReportSubject>().is_err());
    }
}
