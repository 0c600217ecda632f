//! Lines of a recording as the items that they were made of.
//!
//! In: lines, in order. Out: an item for each, or what is wrong with it; and what is true of the last one.

use std::sync::Arc;

use hashbrown::HashMap;

use super::connections::{self, connection};
use super::detections::detection;
use super::document::Document;
use super::error::LineError;
use super::images::{CauseOf, Images};
use super::lookups::{hello, lookup};
use super::origin::{Origin, Place};
use super::words::{self, Ids};
use crate::event::{BootTime, FlowTotals, RawSocket};
use crate::history::{Beyond, End, Item, What};
use crate::observation::{ConnState, Connection, ConnectionId, Direction, FlowStage, Loss};
use crate::output::action::Action;
use crate::output::{About, names};
use crate::process::cause::Cause;
use crate::process::image::Image;

type Result<T> = std::result::Result<T, LineError>;

/// Of how many flows it is remembered what was told of them.
const FLOWS_MAX: usize = 65_536;

/// What is known from the lines so far.
#[derive(Default)]
pub struct Recording {
    origin: Origin,
    images: Images,
    /// What was told of flows that have not ended.
    flows: HashMap<ConnectionId, FlowTotals, foldhash::fast::RandomState>,
}

/// A line while it becomes an item.
struct Parsed<'d, 'a> {
    document: &'d Document<'a>,
    action: Action,
    time: BootTime,
    process: Option<Arc<Image>>,
    cause: Option<Arc<Cause>>,
    ids: Ids,
}

impl Recording {
    /// What is true of the line that was read last; `None` before the first one.
    pub fn about(&self) -> Option<&Arc<About>> {
        self.origin.about()
    }

    /// Reads a line.
    pub fn read(&mut self, line: &[u8]) -> Result<Item> {
        // A list would do for serde, too.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(LineError::NoObject);
        }
        // At once: it costs more to check string by string.
        let line = str::from_utf8(line)?;
        let document: Document<'_> = serde_json::from_str(line)?;
        let action = Action::from_name(&document.event.action);
        let action = action.ok_or_else(|| {
            let names = Action::ALL.map(Action::name).join(", ");
            LineError::wrong("event.action", format!("one of {names}"))
        })?;
        let mut ids = Ids::default();
        let place = self.origin.place(&document, &mut ids)?;
        if self.origin.is_other(&place) {
            self.images = Images::default();
            self.flows.clear();
        }
        let cause = self.images.cause(&document.tracer.cause, &mut ids)?;
        let cause_of = match (&document.tracer.connection_id, action) {
            (None, Action::SocketOpened) | (Some(_), _) => CauseOf::Other,
            (None, _) => CauseOf::Process,
        };
        let told = (cause_of, cause.as_ref());
        let process = self.images.process(&document, told, &mut ids)?;
        let line = Parsed {
            document: &document,
            action,
            time: place.time,
            process,
            cause,
            ids,
        };
        self.item(line, place)
    }

    fn item(&mut self, mut line: Parsed<'_, '_>, place: Place) -> Result<Item> {
        let (what, beyond) = self.what(&mut line)?;
        let process = line.process;
        self.origin.learn(
            place,
            line.document,
            process.as_deref(),
            connection_of(&what),
        );
        if let &What::Flow(ref connection, stage, totals) = &what {
            self.follow(connection.id, stage, totals);
        }
        Ok(Item {
            time: line.time,
            process,
            what,
            over: None,
            beyond: beyond.map(Box::new),
        })
    }

    fn what(&mut self, line: &mut Parsed<'_, '_>) -> Result<(What, Option<Beyond>)> {
        let what = match line.action {
            Action::ProcessFork => line.of_process(What::Forked)?,
            Action::ProcessExec => line.of_process(What::Executed)?,
            Action::ProcessExit => line.of_process(What::Exited {
                status: line.status()?,
            })?,
            Action::ConnectionOpened
            | Action::ConnectionAccepted
            | Action::ConnectionExisting
            | Action::ListenOpened => return self.opened(line),
            Action::ConnectionFailed | Action::ConnectionClosed => line.ended()?,
            Action::ListenClosed => What::ListenClosed(line.connection()?),
            Action::DatagramFlow => return self.flow(line),
            Action::SocketOpened => return line.socket_opened(),
            Action::DnsLookup => {
                let duration = line.document.event.duration;
                let duration = duration.ok_or(LineError::Missing("event.duration"))?;
                What::Lookup(Box::new(lookup(line.document)?), duration)
            }
            Action::TlsClientHello => line.hello()?,
            Action::Detection => line.detected()?,
            Action::EventsLost => What::Lost(line.loss()?),
        };
        Ok((what, None))
    }

    fn opened(&mut self, line: &mut Parsed<'_, '_>) -> Result<(What, Option<Beyond>)> {
        let connection = line.connection()?;
        let mut beyond = Beyond::default();
        for holder in &line.document.tracer.holders {
            let holder = self.images.holder(holder, &mut line.ids)?;
            beyond.holders.push(holder);
        }
        if line.action == Action::ListenOpened {
            return Ok((What::ListenOpened(connection), Some(beyond)));
        }
        let is_existing = line.action == Action::ConnectionExisting;
        if connection.existing != is_existing {
            let expected = if is_existing { "true" } else { "absent" };
            return Err(LineError::wrong("tracer.existing", expected));
        }
        let is_accepted = line.action == Action::ConnectionAccepted;
        if !is_existing && (connection.direction == Direction::Ingress) != is_accepted {
            return Err(LineError::wrong(
                "network.direction",
                "that of event.action",
            ));
        }
        if is_existing {
            beyond.totals = connections::totals(line.document, connection.direction);
        } else if !is_accepted {
            let opened = connection.opened_at;
            beyond.connect_duration_ns = opened.map(|opened| line.time.since(opened));
        }
        Ok((What::Opened(connection), Some(beyond)))
    }

    fn flow(&mut self, line: &mut Parsed<'_, '_>) -> Result<(What, Option<Beyond>)> {
        let connection = line.connection()?;
        let direction = connection.direction;
        let totals = connections::flow_totals(line.document, direction, line.time)?;
        let stage = connections::stage(line.document)?;
        let before = self.flows.get(&connection.id).copied();
        let beyond = Beyond {
            flow: Some((
                totals.since(&before.unwrap_or_default()),
                line.document.event.duration,
            )),
            ..Beyond::default()
        };
        Ok((What::Flow(connection, stage, totals), Some(beyond)))
    }

    /// Remembers what was told of a flow.
    fn follow(&mut self, id: ConnectionId, stage: FlowStage, totals: FlowTotals) {
        if stage == FlowStage::End {
            self.flows.remove(&id);
            return;
        }
        if self.flows.len() >= FLOWS_MAX {
            self.flows.clear();
        }
        self.flows.insert(id, totals);
    }
}

impl Parsed<'_, '_> {
    /// What only a process can do.
    fn of_process(&self, what: What) -> Result<What> {
        match self.process {
            Some(_) => Ok(what),
            None => Err(LineError::Missing("process")),
        }
    }

    /// As `wait` would tell. Whether memory was dumped is not told.
    fn status(&self) -> Result<u32> {
        let process = self.document.process.as_ref();
        let code = process.and_then(|process| process.exit_code);
        match (&self.document.tracer.exit_signal, code) {
            (Some(signal), _) => words::signal(signal),
            (None, Some(code @ 0..=255)) => Ok(code << 8),
            (None, Some(_)) => Err(LineError::wrong("process.exit_code", "at most 255")),
            (None, None) => Err(LineError::Missing("process.exit_code")),
        }
    }

    fn connection(&mut self) -> Result<Connection> {
        let mut connection = connection(
            self.document,
            self.action,
            self.process.as_ref(),
            self.cause.clone(),
            &mut self.ids,
        )?;
        let duration = self.document.event.duration;
        connection.opened_at =
            connections::opened_at(self.action, &connection, self.time, duration);
        Ok(connection)
    }

    fn ended(&mut self) -> Result<What> {
        const STATE: &str = "tracer.state";
        let connection = self.connection()?;
        let document = self.document;
        let state = document.tracer.state.as_ref();
        let state: ConnState =
            words::word(STATE, state.ok_or(LineError::Missing(STATE))?, names::state)?;
        let errno = document.error.as_ref();
        let end = End {
            failed: self.action == Action::ConnectionFailed,
            totals: connections::totals(document, connection.direction),
            subflows: connections::subflows(document, &connection),
            state,
            errno: errno.map(|error| words::errno(&error.code)).transpose()?,
        };
        Ok(What::Ended(connection, Box::new(end)))
    }

    fn socket_opened(&mut self) -> Result<(What, Option<Beyond>)> {
        let tracer = &self.document.tracer;
        let socket = tracer.socket.as_ref();
        let socket = socket.ok_or(LineError::Missing("tracer.socket"))?;
        let family = words::word("tracer.socket.family", &socket.family, names::raw_family)?;
        let socket_type = words::word("tracer.socket.type", &socket.kind, names::raw_type)?;
        let netns = tracer.netns.as_ref().map_or(0, |netns| netns.id);
        let tgid = self.process.as_ref().map_or(0, |image| image.key.tgid);
        let socket = RawSocket::recorded(family, socket_type, socket.protocol, netns, tgid);
        let beyond = Beyond {
            cause: self.cause.take(),
            ..Beyond::default()
        };
        Ok((What::SocketOpened(socket), Some(beyond)))
    }

    fn hello(&mut self) -> Result<What> {
        let is_known = self.document.tracer.connection_id.is_some();
        let connection = if is_known {
            Some(self.connection()?)
        } else {
            None
        };
        let endpoints = match &connection {
            Some(connection) => connection.endpoints,
            None => connections::endpoints(self.document, self.action, Direction::Unknown)?,
        };
        let hello = hello(self.document, endpoints)?;
        Ok(What::Hello(Box::new((hello, connection))))
    }

    fn detected(&mut self) -> Result<What> {
        let is_known = self.document.tracer.connection_id.is_some();
        let connection = is_known.then(|| self.connection()).transpose()?;
        let detection = detection(self.document, &mut self.ids)?;
        Ok(What::Detected(Box::new((detection, connection))))
    }

    fn loss(&self) -> Result<Loss> {
        let lost = self.document.tracer.lost.as_ref();
        let lost = lost.ok_or(LineError::Missing("tracer.lost"))?;
        Ok(Loss {
            stage: Loss::word(words::plain("tracer.lost.stage", &lost.stage)?),
            kind: Loss::word(words::plain("tracer.lost.kind", &lost.kind)?),
            unit: words::word("tracer.lost.unit", &lost.unit, names::loss_unit)?,
            count: lost.count,
        })
    }
}

fn connection_of(what: &What) -> Option<&Connection> {
    match what {
        What::Opened(connection)
        | What::Ended(connection, _)
        | What::ListenOpened(connection)
        | What::ListenClosed(connection)
        | What::Flow(connection, ..) => Some(connection),
        What::Hello(told) => told.1.as_ref(),
        What::Detected(told) => told.1.as_ref(),
        What::Forked
        | What::Executed
        | What::Exited { .. }
        | What::SocketOpened(_)
        | What::Lookup(..)
        | What::Lost(_) => None,
    }
}
