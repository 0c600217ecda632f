//! `tracer tree`: the family of a process, and what each of its members is connected to.
//!
//! In: the answer of a running daemon, which has seen who forked whom; where there is none, the kernel's walks
//! over tasks and open files. Out: a picture or a JSON object; with `--follow` a new one every second.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use super::alone::Alone;
use super::{print, print_more};
use crate::cli::{NamedProcess, ReportFormat, TreeArgs};
use crate::config::Surroundings;
use crate::failure::Failure;
use crate::host::Host;
use crate::kernel::netns;
use crate::local::client::{self, AskError};
use crate::local::{Listen, Request};
use crate::output::tree::Look;
use crate::process::population::{Missing, Wanted};
use crate::process::secrets::Secrets;
use crate::tree::{self, Query};

/// How often a followed tree is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// Moves the cursor home, and clears from there to the end.
const HOME: &str = "\x1b[H\x1b[J";

pub(super) fn tree(args: &TreeArgs, surroundings: Surroundings) -> Result<(), Failure> {
    let mut query = query(args, surroundings);
    if args
        .process
        .boot
        .is_some_and(|boot| boot != Host::read().boot_id)
    {
        return Err(Failure::failed(format_args!(
            "{}: its host has been booted since",
            Missing::Ended(query.wanted.pid())
        )));
    }
    let mut source = Source::new(&args.socket, args.mask.resolve())?;
    if !args.follow {
        return print(&source.answer(&query)?);
    }
    query.wanted = source.identity(&query)?;
    follow(query, &mut source, surroundings)
}

fn query(args: &TreeArgs, surroundings: Surroundings) -> Query {
    let look = Look {
        width: width(surroundings),
        ascii: args.ascii || !is_utf8(),
    };
    Query {
        wanted: args.process.wanted,
        generations: args.depth,
        connections: !args.no_connections,
        look: (args.output == ReportFormat::Text).then_some(look),
        netns: netns::own().unwrap_or(0),
    }
}

/// How wide a picture may be.
fn width(surroundings: Surroundings) -> Option<usize> {
    let size = surroundings.stdout_is_terminal.then(size);
    size.flatten().map(|(columns, _)| columns)
}

/// Columns and rows of the terminal, if it has told them.
fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    let size = (usize::from(size.ws_col), usize::from(size.ws_row));
    Some(size).filter(|&(columns, rows)| columns > 0 && rows > 0)
}

/// Whether the locale's characters are UTF-8: the first of these variables that is set decides.
fn is_utf8() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let mut values = variables.filter_map(|name| env::var(name).ok());
    let locale = values.find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Who tells.
enum Source {
    /// The daemon; what the one to whom it falls masks if there is none.
    Daemon(PathBuf, Secrets),
    Alone(Box<Alone>),
}

/// Why there is no answer.
enum NoAnswer {
    Missing(String),
    Failure(Failure),
}

impl From<NoAnswer> for Failure {
    fn from(reason: NoAnswer) -> Self {
        match reason {
            NoAnswer::Missing(text) => Failure::failed(text),
            NoAnswer::Failure(failure) => failure,
        }
    }
}

impl Source {
    fn new(socket: &Listen, secrets: Secrets) -> Result<Self, Failure> {
        match socket {
            Listen::Off => Self::alone(secrets),
            Listen::At(path) => Ok(Self::Daemon(path.clone(), secrets)),
        }
    }

    fn alone(secrets: Secrets) -> Result<Self, Failure> {
        let alone = Alone::load(secrets)?;
        // Where stderr is closed, nobody misses it.
        let _ = writeln!(
            io::stderr(),
            "tracer: note: no daemon was asked: only what is there now is shown, and owners are inferred"
        );
        Ok(Self::Alone(Box::new(alone)))
    }

    fn answer(&mut self, query: &Query) -> Result<Vec<u8>, NoAnswer> {
        if let Self::Daemon(path, secrets) = self {
            match client::ask(path, Request::Tree(query.clone())) {
                Ok(answer) => return Ok(answer),
                Err(AskError::Nobody(_)) => {
                    *self = Self::alone(secrets.clone()).map_err(NoAnswer::Failure)?;
                }
                Err(AskError::Missing(text)) => return Err(NoAnswer::Missing(text)),
                Err(error) => return Err(NoAnswer::Failure(Failure::failed(error))),
            }
        }
        let Self::Alone(alone) = self else {
            return Err(NoAnswer::Failure(Failure::failed("nobody was asked")));
        };
        let looked = alone.look(query.transports());
        let (state, holdings) = looked.map_err(NoAnswer::Failure)?;
        tree::answer(query, state.population(), &holdings)
            .map_err(|missing| NoAnswer::Missing(missing.to_string()))
    }

    /// The process that is meant now, so that it is not taken for another one with its PID later.
    fn identity(&mut self, query: &Query) -> Result<Wanted, Failure> {
        let alone = Query {
            generations: 0,
            connections: false,
            look: None,
            ..query.clone()
        };
        let answer = self.answer(&alone)?;
        let named: Option<NamedProcess> = serde_json::from_slice(&answer)
            .ok()
            .and_then(|tree: Value| tree.pointer("/process/entity_id")?.as_str()?.parse().ok());
        let nobody = || Failure::failed("the answer names no process");
        Ok(named.ok_or_else(nobody)?.wanted)
    }
}

/// Draws until a signal, or until there is nobody left, there or at the other end of the pipe.
fn follow(
    mut query: Query,
    source: &mut Source,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    let cannot_start = |error| Failure::failed(format_args!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_start)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot_start)?;
        let mut ticks = interval(REDRAW);
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = ticks.tick() => {}
            }
            if let Some(look) = &mut query.look {
                look.width = width(surroundings);
            }
            match source.answer(&query) {
                Ok(answer) if redraw(&query, &answer, surroundings)? => {}
                Ok(_) => return Ok(()),
                Err(NoAnswer::Missing(text)) => {
                    let _ = writeln!(io::stderr(), "tracer: {text}");
                    return Ok(());
                }
                Err(NoAnswer::Failure(failure)) => return Err(failure),
            }
        }
    })
}

/// On a terminal over what was there, and no longer than it; elsewhere behind it. Returns whether somebody
/// may read more.
fn redraw(query: &Query, answer: &[u8], surroundings: Surroundings) -> Result<bool, Failure> {
    if query.look.is_none() {
        return print_more(answer);
    }
    let text = String::from_utf8_lossy(answer);
    let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    let size = surroundings.stdout_is_terminal.then(size).flatten();
    let Some((_, rows)) = size else {
        return print_more(format!("{time}\n{text}\n").as_bytes());
    };
    let lines: Vec<&str> = text.lines().collect();
    // One for the time, one for what is left out, one for the cursor.
    let shown = rows.saturating_sub(3).min(lines.len());
    let mut picture = format!("{HOME}{time}\n{}\n", lines[..shown].join("\n"));
    if shown < lines.len() {
        picture += &format!("and {} more lines\n", lines.len() - shown);
    }
    print_more(picture.as_bytes())
}
