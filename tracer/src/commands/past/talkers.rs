//! `tracer talkers`: which processes had connections, and how many.
//!
//! In: the history, a window, a filter. Out: a row for each process, the one with most connections first.

use std::io::{self, BufWriter, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde_json::{Value, json};

use super::{Shape, carry_on, cells, open, window};
use crate::cli::TalkersArgs;
use crate::config::Surroundings;
use crate::event::{BootTime, Endpoints, ProcessKey};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::history::reader::{Contact, Sum, Wanted};
use crate::history::{Item, What};
use crate::identity::BootId;
use crate::observation::Direction;
use crate::output::action::Action;
use crate::output::json::Json;
use crate::output::past::{lineage_of, package_of, program_of};
use crate::output::record::Record;
use crate::output::table::{Form, Table};
use crate::output::{About, Format as _};
use crate::process::image::Image;

/// Of which time, unless told otherwise.
const DEFAULT_SINCE: &str = "10m";

/// More addresses than these are not told apart.
const PEERS_MAX: usize = 100_000;

/// What a process did.
struct Talker {
    /// The last file that tells of it, and its image there.
    file: usize,
    image: Option<Arc<Image>>,
    sum: Sum,
    peers: HashSet<IpAddr>,
}

pub(in crate::commands) fn talkers(
    args: &TalkersArgs,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    let shape = Shape::of(args.past.output, surroundings);
    let mut history = open(&args.past.span, window(&args.past.span, DEFAULT_SINCE)?)?;
    let about = history.about();
    let filter = args.filter.resolve();
    let mut talkers = HashMap::<(BootId, Option<ProcessKey>), Talker>::new();
    let wanted = |image: Option<&Image>, contact: &Contact| admits(&filter, image, contact);
    let wanted: Option<&Wanted<'_>> =
        if filter.has_conditions() || !filter.actions.contains(Action::ConnectionClosed) {
            Some(&wanted)
        } else {
            None
        };
    history.tally(wanted, &mut |file, image, sum, remotes| {
        let key = image.as_ref().map(|image| image.key);
        let key = (about[file].host.boot_id, key);
        let talker = talkers.entry(key).or_insert_with(|| Talker {
            file,
            image: None,
            sum: Sum::NONE,
            peers: HashSet::new(),
        });
        // The latest image of several.
        if talker.image.is_none() || file >= talker.file {
            (talker.file, talker.image) = (file, image);
        }
        talker.sum.add(&sum, 0);
        let room = PEERS_MAX.saturating_sub(talker.peers.len());
        talker.peers.extend(remotes.iter().take(room));
    })?;
    let mut talkers: Vec<Talker> = talkers.into_values().collect();
    talkers.retain(|talker| talker.sum.connections >= args.min_conns);
    talkers.sort_by_key(|talker| (std::cmp::Reverse(talker.sum.connections), talker.sum.first));
    match shape {
        Shape::Json => show_json(&talkers, &about),
        Shape::Rows { form, wide } => show_rows(&talkers, &about, form, wide),
    }
}

/// Of a connection's ports, the acceptor's alone is known here.
fn admits(filter: &Filter, image: Option<&Image>, contact: &Contact) -> bool {
    let (local, remote) = match contact.direction {
        Direction::Ingress => (contact.port, 0),
        Direction::Egress | Direction::Unknown => (0, contact.port),
    };
    let endpoints = Endpoints {
        netns: 0,
        local: SocketAddr::new(contact.local, local),
        remote: SocketAddr::new(contact.remote, remote),
        ipv6_socket: contact.remote.is_ipv6(),
    };
    filter.admits_event(Action::ConnectionClosed, image, Some(&endpoints))
}

fn show_rows(talkers: &[Talker], about: &[About], form: Form, wide: bool) -> Result<(), Failure> {
    let mut titles = vec![
        "Process",
        "Connections",
        "Failed",
        "Open",
        "Peers",
        "Sent",
        "Received",
        "First",
        "Last",
        "Started",
        "User",
        "Program",
        "Package",
    ];
    titles.extend(wide.then_some("Fingerprint"));
    titles.push("Lineage");
    let out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(form, &titles, out);
    let mut known = None;
    for talker in talkers {
        if known.as_ref().is_none_or(|(file, _)| *file != talker.file) {
            known = Some((talker.file, cells(form, &about[talker.file])));
        }
        let Some((_, cells)) = &known else { continue };
        let sum = &talker.sum;
        let image = talker.image.as_deref();
        let of_image = |cell: &dyn Fn(&Image) -> String| image.map_or_else(String::new, cell);
        let mut row = vec![
            cells.image(image),
            sum.connections.to_string(),
            sum.failed.to_string(),
            sum.open.to_string(),
            talker.peers.len().to_string(),
            cells.bytes(sum.sent),
            cells.bytes(sum.received),
            cells.unix_time(sum.first),
            cells.unix_time(sum.last),
            of_image(&|image| cells.time(BootTime(image.key.start_ns))),
            of_image(&|image| cells.user_of(image)),
            of_image(&program_of),
            of_image(&package_of),
        ];
        if wide {
            row.push(of_image(&|image| {
                let bytes = image.fingerprint();
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }));
        }
        row.push(of_image(&lineage_of));
        if carry_on(table.push(row))?.is_break() {
            return Ok(());
        }
    }
    carry_on(table.flush()).map(drop)
}

/// The process as in any event, and what it did under `tracer.connections`.
fn show_json(talkers: &[Talker], about: &[About]) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for talker in talkers {
        let about = &about[talker.file];
        let mut object = talker
            .image
            .as_ref()
            .map_or_else(|| json!({}), |image| document(image, about));
        let sum = &talker.sum;
        let time = |unix: i64| {
            let time = jiff::Timestamp::from_nanosecond(unix.into()).unwrap_or_default();
            format!("{time:.9}")
        };
        object["tracer"]["connections"] = json!({
            "count": sum.connections,
            "failed": sum.failed,
            "open": sum.open,
            "peers": talker.peers.len(),
            "sent_bytes": sum.sent,
            "received_bytes": sum.received,
            "first": time(sum.first),
            "last": time(sum.last),
        });
        if carry_on(writeln!(out, "{object}"))?.is_break() {
            return Ok(());
        }
    }
    carry_on(out.flush()).map(drop)
}

/// A process as the events show it.
fn document(image: &Arc<Image>, about: &About) -> Value {
    let item = Item {
        time: BootTime(image.key.start_ns),
        process: Some(Arc::clone(image)),
        what: What::Executed,
        over: None,
        beyond: None,
    };
    let mut line = Vec::new();
    if let Some(observation) = item.observation() {
        Json::new(about.context()).line(&Record::of(&observation), 0, &mut line);
    }
    let mut object: Value = serde_json::from_slice(&line).unwrap_or_default();
    if let Some(members) = object.as_object_mut() {
        // It is no event.
        members.remove("@timestamp");
        members.remove("event");
    }
    object
}
