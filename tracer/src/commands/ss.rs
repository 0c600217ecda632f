//! `tracer ss`: the sockets that there are now, and whose they are.
//!
//! In: the answer of a running daemon, which has seen who opened what; where there is none, the kernel's walks
//! over open files and tasks, from which the opener is concluded. Out: a table or JSON lines.

use std::fmt::Display;
use std::path::Path;

use super::live::require_privileges;
use super::print;
use crate::cli::{ReportFormat, SsArgs};
use crate::clock;
use crate::failure::Failure;
use crate::kernel::loader::{self, Unattached};
use crate::kernel::{cgroup, inventory, iterator, netns, sockets};
use crate::listing::{self, Holdings, Query};
use crate::local::client::{self, AskError};
use crate::local::{Listen, Request};
use crate::output::names;
use crate::state::{Limits, State};

pub(super) fn ss(args: &SsArgs) -> Result<(), Failure> {
    let query = query(args);
    let answer = match &args.socket {
        Listen::Off => alone(&query)?,
        Listen::At(path) => match ask(path, &query)? {
            Some(answer) => answer,
            None => alone(&query)?,
        },
    };
    print(&answer)
}

fn query(args: &SsArgs) -> Query {
    let words = args.state.iter().map(|state| names::socket_state(*state).1);
    Query {
        tcp: args.tcp,
        udp: args.udp,
        listening: args.listening,
        all: args.all,
        states: words.map(str::to_owned).collect(),
        json: args.output == ReportFormat::Json,
        netns: netns::own().unwrap_or(0),
    }
}

/// What the daemon says; `None` if there is none.
fn ask(path: &Path, query: &Query) -> Result<Option<Vec<u8>>, Failure> {
    match client::ask(path, Request::Sockets(query.clone())) {
        Ok(answer) => Ok(Some(answer)),
        Err(AskError::Nobody(_)) => Ok(None),
        Err(error) => Err(Failure::failed(error)),
    }
}

fn alone(query: &Query) -> Result<Vec<u8>, Failure> {
    require_privileges()?;
    let Unattached { mut ebpf, btf } = loader::load_only().map_err(Failure::unsupported)?;
    let listed = listing::listed(query);
    let found: Result<Vec<_>, _> = query
        .transports()
        .map(|transport| {
            let found = sockets::held_once(&mut ebpf, &btf, transport);
            found.map(|found| (transport, found))
        })
        .collect();
    let found = found.map_err(refused)?;
    let taken_at = clock::boot_time();
    let iterator = iterator::load(&mut ebpf, &btf, "existing_tasks", "task").map_err(refused)?;
    let inventory = inventory::from_iterator(iterator)
        .map_err(|error| Failure::failed(format_args!("cannot list the processes: {error}")))?;
    let mut state = State::new(Limits::default());
    for (id, path) in cgroup::list() {
        state.cgroup(id, &path);
    }
    state.inventory(taken_at, inventory.processes);
    let mut holdings = Holdings::default();
    for (transport, found) in found {
        holdings.add(transport, found, &state);
    }
    Ok(listing::answer(query, &listed, &holdings))
}

fn refused(reason: impl Display) -> Failure {
    Failure::unsupported(format_args!(
        "the kernel refuses its iterators over tasks and files: {reason}; see `tracer doctor`"
    ))
}
