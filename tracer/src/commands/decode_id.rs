//! `tracer decode-id ID`: what an identifier says.

use serde::Serialize;

use crate::cli::{DecodeIdArgs, ReportFormat};
use crate::failure::Failure;
use crate::identity::{Decoded, Subject, decode};

/// The JSON form.
#[derive(Serialize)]
struct Report {
    kind: &'static str,
    boot_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_boottime_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_is_rounded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen_boottime_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u32>,
}

pub(super) fn decode_id(args: &DecodeIdArgs) -> Result<String, Failure> {
    let decoded = decode(&args.id)
        .map_err(|error| Failure::usage(format_args!("{:?} is not an id: {error}", args.id)))?;
    match args.output {
        ReportFormat::Text => Ok(text(decoded)),
        ReportFormat::Json => json(decoded),
    }
}

fn text(Decoded { boot, subject }: Decoded) -> String {
    match subject {
        Subject::Process { key, rounded } => {
            let rounded = if rounded { ", known in ticks only" } else { "" };
            let (pid, start) = (key.tgid, seconds(key.start_ns));
            format!(
                "process\npid      {pid}\nstarted  {start} s after boot{rounded}\nboot     {boot}\n"
            )
        }
        Subject::Connection(id) => {
            let (seen, serial) = (seconds(id.first_seen_ns), id.serial);
            format!(
                "connection\nseen     {seen} s after boot\nserial   {serial}\nboot     {boot}\n"
            )
        }
    }
}

fn seconds(nanoseconds: u64) -> String {
    format!(
        "{}.{:09}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000
    )
}

fn json(Decoded { boot, subject }: Decoded) -> Result<String, Failure> {
    let (process, connection) = match subject {
        Subject::Process { key, rounded } => (Some((key, rounded)), None),
        Subject::Connection(id) => (None, Some(id)),
    };
    let report = Report {
        kind: if process.is_some() {
            "process"
        } else {
            "connection"
        },
        boot_id: boot.to_string(),
        pid: process.map(|(key, _)| key.tgid),
        start_boottime_ns: process.map(|(key, _)| key.start_ns),
        start_is_rounded: process.map(|(_, rounded)| rounded),
        first_seen_boottime_ns: connection.map(|id| id.first_seen_ns),
        serial: connection.map(|id| id.serial),
    };
    let line = serde_json::to_string(&report).map_err(Failure::failed)?;
    Ok(line + "\n")
}
