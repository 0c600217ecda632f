//! `tracer ss`: the sockets that there are now, and whose they are.
//!
//! In: the answer of a running daemon, which has seen who opened what; where there is none, the kernel's walks
//! over open files and tasks, from which the opener is concluded. Out: a table or JSON lines.

use std::path::Path;

use super::alone::Alone;
use super::print;
use crate::cli::{ReportFormat, SsArgs};
use crate::failure::Failure;
use crate::kernel::netns;
use crate::listing::{self, Query};
use crate::local::client::{self, AskError};
use crate::local::{Listen, Request};
use crate::output::names;
use crate::process::secrets::Secrets;

pub(super) fn ss(args: &SsArgs) -> Result<(), Failure> {
    let query = query(args);
    let answer = match &args.socket {
        Listen::Off => alone(&query, args.mask.resolve())?,
        Listen::At(path) => match ask(path, &query)? {
            Some(answer) => answer,
            None => alone(&query, args.mask.resolve())?,
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

fn alone(query: &Query, secrets: Secrets) -> Result<Vec<u8>, Failure> {
    let mut alone = Alone::load(secrets)?;
    let listed = listing::listed(query);
    let transports: Vec<_> = query.transports().collect();
    let (_, holdings) = alone.look(&transports)?;
    Ok(listing::answer(query, &listed, &holdings))
}
