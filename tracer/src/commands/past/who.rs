//! `tracer who`: who talked to an address, when, and by whose doing.
//!
//! In: the history, an address and perhaps a port, a window, a filter. Out: every connection and flow with that end,
//! seen from whichever side is on this host; and what they amount to.

use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::ControlFlow;

use hashbrown::HashSet;

use super::{Shape, Show, open, window};
use crate::cli::{WantedEnd, WhoArgs};
use crate::config::Surroundings;
use crate::failure::Failure;
use crate::history::reader::{Contact, Kind};
use crate::history::{Item, What};
use crate::observation::Direction;
use crate::output::past::{self, Columns};
use crate::output::table::Form;

/// Of which time, unless told otherwise.
const DEFAULT_SINCE: &str = "1d";
/// How many are shown in a table, unless told otherwise.
const ROWS: usize = 1000;

/// What was found.
struct Found {
    limit: usize,
    items: VecDeque<(usize, Item)>,
    count: u64,
    failed: u64,
    lineages: HashSet<[u8; 16]>,
}

impl Found {
    fn push(&mut self, file: usize, item: Item) {
        self.count += 1;
        self.failed += u64::from(matches!(&item.what, What::Ended(_, end) if end.failed));
        if let Some(image) = &item.process {
            self.lineages.insert(image.fingerprint());
        }
        if self.items.len() >= self.limit {
            self.items.pop_front();
        }
        self.items.push_back((file, item));
    }
}

pub(in crate::commands) fn who(args: &WhoArgs, surroundings: Surroundings) -> Result<(), Failure> {
    let shape = Shape::of(args.past.output, surroundings);
    let is_table = matches!(
        shape,
        Shape::Rows {
            form: Form::Table,
            ..
        }
    );
    let mut history = open(&args.past.span, window(&args.past.span, DEFAULT_SINCE)?)?;
    let filter = args.filter.resolve();
    let mut show = Show::new(filter, shape, history.about(), Columns::of_occurrences);
    let all = if is_table { ROWS } else { usize::MAX };
    let mut found = Found {
        limit: args.limit.unwrap_or(all),
        items: VecDeque::new(),
        count: 0,
        failed: 0,
        lineages: HashSet::new(),
    };
    let end = args.end;
    history.visit_contacts(
        end.ip,
        &|contact| may_have(contact, end),
        &mut |file, item| {
            if has(&item, end) && show.admits(&item) {
                found.push(file, item);
            }
            ControlFlow::Continue(())
        },
    )?;
    history.visit(Kind::Flows, &mut |file, item| {
        if has(&item, end) && show.admits(&item) {
            found.push(file, item);
        }
        ControlFlow::Continue(())
    })?;
    let (items, shown) = (found.items.make_contiguous(), found.limit);
    items.sort_by_key(|(file, item)| (*file, item.time));
    for (file, item) in &found.items {
        if show.show(*file, item)?.is_break() {
            return Ok(());
        }
    }
    show.flush()?;
    if is_table {
        let mut stderr = std::io::stderr().lock();
        let shown = if found.count > shown as u64 {
            format!(", of which the last {shown} are shown")
        } else {
            String::new()
        };
        // Where stderr is closed, nobody reads it.
        let _ = writeln!(
            stderr,
            "tracer: {} in all{shown}; {} failed; {} lineages",
            found.count,
            found.failed,
            found.lineages.len()
        );
    }
    Ok(())
}

/// Whether connections of a contact may have an end: of one of the two ports nothing is known yet.
pub(super) fn may_have(contact: &Contact, end: WantedEnd) -> bool {
    let is_port = |port: u16| end.port.is_none_or(|wanted| wanted == port);
    match contact.direction {
        Direction::Ingress => {
            contact.remote == end.ip || contact.local == end.ip && is_port(contact.port)
        }
        Direction::Egress | Direction::Unknown => {
            contact.local == end.ip || contact.remote == end.ip && is_port(contact.port)
        }
    }
}

/// Whether a connection, a flow or a listener has an end.
pub(super) fn has(item: &Item, end: WantedEnd) -> bool {
    let Some(connection) = past::connection(item) else {
        return false;
    };
    let ends = [connection.endpoints.local, connection.endpoints.remote];
    ends.iter()
        .any(|is| is.ip() == end.ip && end.port.is_none_or(|port| port == is.port()))
}
