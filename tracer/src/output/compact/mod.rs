//! One line an event for people: `compact`, and `wide` with all that is known about it.
//!
//! In: observations. Out: time of day, what happened, who did it, between whom, and by whose doing,
//! in columns. Names, paths and arguments reach the terminal only as [`text::write_terminal`]
//! leaves them.

mod detection;
mod hello;
mod lookup;
pub(crate) mod paint;

use std::io::Write as _;
use std::sync::Arc;

use jiff::tz::TimeZone;

use self::paint::{Painter, Style};
use super::action::{Action, Aspect};
use super::lineage::write_lineage;
use super::record::{End, Ends, Record};
use super::users::Users;
use super::{Context, Format, names, protocol, text};
use crate::clock::DayClock;
use crate::dns::names::KnownFrom;
use crate::dns::record::type_name;
use crate::event::{Errno, FlowTotals, Name, Protocol, RawFamily};
use crate::observation::{FlowStage, Loss, LossUnit};
use crate::process::cause::{Cause, Certainty};
use crate::process::cgroup::Cgroup;
use crate::process::image::{Image, Program, Provenance};
use crate::quantity;

/// Widths of the columns, in characters.
const ACTION_WIDTH: usize = 8;
const PROCESS_WIDTH: usize = 20;
const SUBJECT_WIDTH: usize = 39;
/// So much of a name is shown, whatever stands beside it.
const NAME_WIDTH: usize = 16;

/// How much a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Who, what, between whom.
    Compact,
    /// All that is known.
    Wide,
}

/// Formats events as lines for people.
pub struct Compact {
    detail: Detail,
    painter: Painter,
    clock: DayClock,
    users: Users,
    /// Scratch space for one column.
    column: Vec<u8>,
    /// Scratch space for text before it is made safe.
    raw: Vec<u8>,
}

impl Compact {
    /// With colours if `color` says so, and the time of day as in `zone`.
    pub fn new(context: Context, detail: Detail, color: bool, zone: TimeZone) -> Self {
        Self {
            detail,
            painter: Painter::new(color),
            clock: DayClock::new(context.offset, zone),
            users: context.users,
            column: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// Hands the column on, filled up with spaces to `width`, and two to separate it.
    fn write_column(&mut self, width: usize, style: Style, out: &mut Vec<u8>) {
        let characters = String::from_utf8_lossy(&self.column).chars().count();
        self.painter.paint(style, &self.column, out);
        out.resize(out.len() + width.saturating_sub(characters) + 2, b' ');
    }

    fn write_process(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.column.clear();
        match record.process {
            Some(image) => {
                write_name(&image.name, &mut self.column);
                write_all(&mut self.column, format_args!("[{}]", image.key.tgid));
            }
            None => self.column.push(b'?'),
        }
        self.write_column(PROCESS_WIDTH, Style::Strong, out);
    }

    /// Between whom, or what is executed.
    fn write_subject(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.column.clear();
        match (record.action, record.process) {
            (Action::ProcessExec, Some(image)) => self.push_command(&image.program),
            (Action::ProcessExit, _) => push_exit(record, &mut self.column),
            (Action::SocketOpened, _) => push_socket(record, &mut self.column),
            (Action::DnsLookup, _) => self.push_question(record),
            (Action::Detection, _) => detection::push_rule(record, &mut self.column),
            _ => push_ends(record, &mut self.column),
        }
        self.write_column(SUBJECT_WIDTH, Style::Plain, out);
    }

    /// The command line; in compact lines it is cut to its column.
    fn push_command(&mut self, program: &Program) {
        self.raw.clear();
        match &program.arguments {
            Some(arguments) => self.raw.extend_from_slice(arguments),
            None => self.raw.extend_from_slice(&program.executable),
        }
        if self.raw.last() == Some(&0) {
            self.raw.pop();
        }
        self.raw
            .iter_mut()
            .filter(|byte| **byte == 0)
            .for_each(|byte| *byte = b' ');
        text::write_terminal(&self.raw, &mut self.column);
        if program.arguments_truncated {
            self.column.extend_from_slice("…".as_bytes());
        }
        if self.detail == Detail::Compact {
            shorten(&mut self.column, SUBJECT_WIDTH);
        }
    }

    /// What is asked of whom; in compact lines a long name is cut.
    fn push_question(&mut self, record: &Record<'_>) {
        let Some(lookup) = record.lookup else { return };
        let (name, kind) = (&lookup.question.name, type_name(lookup.question.kind));
        let server = lookup.endpoints.remote.ip();
        let rest = format!(" {kind} of {server}");
        self.column.extend_from_slice(name.as_bytes());
        if self.detail == Detail::Compact {
            shorten(
                &mut self.column,
                SUBJECT_WIDTH.saturating_sub(rest.len()).max(NAME_WIDTH),
            );
        }
        self.column.extend_from_slice(rest.as_bytes());
    }

    /// The name of a connection's destination; with a question mark if not its process asked for it.
    fn write_domain(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let Some(domain) = record.connection.and_then(|it| it.domain.as_ref()) else {
            return;
        };
        self.column.clear();
        self.column.extend_from_slice(domain.name.as_bytes());
        if self.detail == Detail::Compact {
            shorten(&mut self.column, SUBJECT_WIDTH);
        }
        if domain.known_from != KnownFrom::Process {
            self.column.push(b'?');
        }
        self.write_column(0, Style::Plain, out);
    }

    /// Why an attempt failed, what a server said, or what a connection carried.
    fn write_outcome(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        if let Some(lookup) = record.lookup {
            lookup::write_answer(lookup, &self.painter, out);
        }
        if let Some(hello) = record.hello {
            hello::write_offer(hello, out);
        }
        if let Some(detection) = record.detection {
            detection::write_explanation(detection, &self.painter, out);
        }
        if let Some(errno) = record.errno {
            self.painter
                .paint(Style::Bad, errno_text(errno).as_bytes(), out);
            out.extend_from_slice(b"  ");
        } else if record.action == Action::ConnectionFailed {
            self.painter.paint(Style::Bad, b"reason unknown", out);
            out.extend_from_slice(b"  ");
        }
        let duration = record.duration_ns.map(quantity::duration);
        if let Some((FlowStage::Info | FlowStage::End, totals)) = record.flow {
            write_flow_protocol(record, out);
            write_flow(&totals, out);
            out.extend_from_slice(b" in ");
        } else if let Some(totals) = record.totals {
            let (sent, received) = (
                quantity::bytes(totals.sent),
                quantity::bytes(totals.received),
            );
            write_all(out, format_args!("sent {sent}, received {received}"));
            out.extend_from_slice(if duration.is_some() { b" in " } else { b"  " });
        } else if duration.is_some() {
            out.extend_from_slice(b"after ");
        }
        if let Some(duration) = duration {
            write_all(out, format_args!("{duration}  "));
        }
    }

    /// In which container, if any: as much of its ID as runtimes show.
    fn write_container(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        const SHOWN: usize = 12;
        let Some(container) = record.process.and_then(|image| image.container()) else {
            return;
        };
        let id = container.id.get(..SHOWN).unwrap_or(&container.id);
        self.column.clear();
        self.column.extend_from_slice(b"in ");
        text::write_terminal(id, &mut self.column);
        self.write_column(0, Style::Plain, out);
    }

    fn write_lineage(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let Some(image) = record.process else { return };
        self.raw.clear();
        write_lineage(image, &mut self.raw);
        self.column.clear();
        text::write_terminal(&self.raw, &mut self.column);
        if record
            .connection
            .is_some_and(|it| it.owner_provenance == Provenance::Inferred)
        {
            self.column.extend_from_slice(b" (inferred)");
        }
        if let Some(cause) = record.cause {
            write_cause(cause, &mut self.column);
        }
        self.write_column(0, Style::Faint, out);
    }

    /// The rest, each with its name.
    fn write_details(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if let Some(image) = record.process {
            self.write_process_details(record, image, out);
        }
        if let Some(lookup) = record.lookup {
            lookup::write_details(lookup, out);
        }
        if let Some(hello) = record.hello {
            hello::write_details(hello, out);
        }
        if let Some(state) = record.state {
            write_all(out, format_args!("state={} ", names::state(state)));
        }
        if !record.holders.is_empty() {
            self.write_holders(record.holders, out);
        }
        if let Some(totals) = record.totals {
            if let Some(rtt) = totals.rtt_us {
                write_all(
                    out,
                    format_args!("rtt={} ", quantity::duration(u64::from(rtt) * 1000)),
                );
            }
            write_all(out, format_args!("retransmits={} ", totals.retransmits));
        }
        if let Some(connection) = record.connection.filter(|connection| connection.mptcp) {
            out.extend_from_slice(b"mptcp ");
            for subflow in record.subflows {
                let ends = Ends::of(
                    connection.direction,
                    &subflow.endpoints,
                    subflow.totals.map(Into::into),
                );
                out.extend_from_slice(b"subflow=");
                push_end(&ends.source, out);
                out.extend_from_slice("→".as_bytes());
                push_end(&ends.destination, out);
                out.push(b' ');
            }
        }
    }

    fn write_holders(&self, holders: &[Arc<Image>], out: &mut Vec<u8>) {
        out.extend_from_slice(b"holders=");
        for (index, holder) in holders.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_name(&holder.name, out);
            write_all(out, format_args!("[{}]", holder.key.tgid));
        }
        out.push(b' ');
    }

    fn write_process_details(&mut self, record: &Record<'_>, image: &Image, out: &mut Vec<u8>) {
        if !image.program.executable.is_empty() {
            out.extend_from_slice(b"exe=");
            text::write_terminal(&image.program.executable, out);
            out.push(b' ');
        }
        for flag in names::process_flags(image, image.program.facts()) {
            write_all(out, format_args!("({flag}) "));
        }
        if let Some(parent) = &image.present_parent {
            out.extend_from_slice(b"present_parent=");
            write_name(&parent.name, out);
            write_all(out, format_args!("[{}] ", parent.key.tgid));
        }
        if record.action != Action::ProcessExec && image.program.arguments.is_some() {
            self.column.clear();
            self.push_command(&image.program);
            out.extend_from_slice(b"args=\"");
            out.extend_from_slice(&self.column);
            out.extend_from_slice(b"\" ");
        }
        if let Some(id) = image.euid {
            write_user(["user", "uid"], id, self.users.of(image, record.time), out);
        }
        if let Some(id) = image.session.login_uid {
            let name = self.users.login(image, record.time);
            write_user(["login_user", "login_uid"], id, name, out);
        }
        if let Some(cgroup) = &image.cgroup {
            write_cgroup(cgroup, out);
        }
    }
}

impl Format for Compact {
    fn line(&mut self, record: &Record<'_>, _sequence: u64, out: &mut Vec<u8>) {
        self.painter
            .paint(Style::Faint, self.clock.render(record.time), out);
        out.extend_from_slice(b"  ");
        let (verb, style) = verb(record.action, record.aspect());
        self.column.clear();
        self.column.extend_from_slice(verb.as_bytes());
        self.write_column(ACTION_WIDTH, style, out);
        if let Some(loss) = record.loss {
            self.painter
                .paint(Style::Alarm, loss_text(loss).as_bytes(), out);
        } else {
            self.write_process(record, out);
            self.write_subject(record, out);
            self.write_domain(record, out);
            self.write_outcome(record, out);
            self.write_container(record, out);
            self.write_lineage(record, out);
            if self.detail == Detail::Wide {
                self.write_details(record, out);
            }
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
}

/// What it speaks, unless that is UDP and nothing more is known of it.
fn write_flow_protocol(record: &Record<'_>, out: &mut Vec<u8>) {
    let Some(number) = record.connection.map(|connection| connection.protocol) else {
        return;
    };
    match (record.probable_protocol(), protocol::of(number)) {
        (Some(probable), _) => write_all(out, format_args!("{probable}?  ")),
        (None, _) if number == Protocol::UDP => {}
        (None, Some(name)) => write_all(out, format_args!("{name}  ")),
        (None, None) => write_all(out, format_args!("protocol {}  ", number.0)),
    }
}

/// Datagrams each way, and their payload.
fn write_flow(totals: &FlowTotals, out: &mut Vec<u8>) {
    let (sent, received) = (
        quantity::bytes(totals.sent_bytes),
        quantity::bytes(totals.received_bytes),
    );
    write_all(
        out,
        format_args!(
            "sent {sent} ({}), received {received} ({})",
            totals.sent_packets, totals.received_packets
        ),
    );
}

/// The outermost contact, with a question mark if it or one further in is one of several.
fn write_cause(cause: &Cause, out: &mut Vec<u8>) {
    let outermost = cause.outwards().last().unwrap_or(cause);
    write_all(out, format_args!("; after {} → ", outermost.peer));
    write_name(&outermost.server.name, out);
    write_all(out, format_args!("[{}]", outermost.server.key.tgid));
    if cause
        .outwards()
        .any(|link| link.certainty == Certainty::Possible)
    {
        out.push(b'?');
    }
}

fn verb(action: Action, aspect: Aspect) -> (&'static str, Style) {
    match action {
        Action::DatagramFlow => match aspect {
            Aspect::Ongoing => ("flows", Style::Faint),
            Aspect::Ended => ("flowed", Style::Faint),
            Aspect::Usual | Aspect::Refused => ("flow", Style::Plain),
        },
        Action::ProcessFork => ("fork", Style::Faint),
        Action::ProcessExec => ("exec", Style::Plain),
        Action::ProcessExit => ("exit", Style::Faint),
        Action::ConnectionOpened => ("open", Style::Good),
        Action::ConnectionAccepted => ("accept", Style::Inbound),
        Action::ConnectionFailed => ("fail", Style::Bad),
        Action::ConnectionExisting => ("existing", Style::Faint),
        Action::ConnectionClosed => ("close", Style::Faint),
        Action::ListenOpened => ("listen", Style::Inbound),
        Action::ListenClosed => ("unlisten", Style::Faint),
        Action::SocketOpened => ("socket", Style::Inbound),
        Action::DnsLookup => ("lookup", Style::Plain),
        Action::TlsClientHello => ("tls", Style::Plain),
        Action::Detection => ("ALERT", Style::Alarm),
        Action::EventsLost => ("LOST", Style::Alarm),
    }
}

fn write_cgroup(cgroup: &Cgroup, out: &mut Vec<u8>) {
    let container = cgroup.container.as_ref();
    for (name, value) in [
        ("container", container.map(|container| &container.id)),
        ("pod", cgroup.pod.as_ref()),
        ("unit", cgroup.unit.as_ref()),
        ("cgroup", Some(&cgroup.path)),
    ] {
        if let Some(value) = value {
            write_all(out, format_args!("{name}="));
            text::write_terminal(value, out);
            out.push(b' ');
        }
    }
}

/// A user by his name, if he has one, else by his number.
fn write_user([label, number_label]: [&str; 2], id: u32, name: Option<&str>, out: &mut Vec<u8>) {
    match name {
        Some(name) => {
            write_all(out, format_args!("{label}="));
            text::write_terminal(name.as_bytes(), out);
            out.push(b' ');
        }
        None => write_all(out, format_args!("{number_label}={id} ")),
    }
}

fn write_name(name: &Name, out: &mut Vec<u8>) {
    match name.as_bytes() {
        b"" => out.push(b'?'),
        name => text::write_terminal(name, out),
    }
}

fn push_exit(record: &Record<'_>, column: &mut Vec<u8>) {
    match (record.exit_code(), record.exit_signal()) {
        (Some(code), _) => write_all(column, format_args!("exited with {code}")),
        (None, Some(signal)) => match names::signal(signal) {
            Some(name) => write_all(column, format_args!("killed by {name}")),
            None => write_all(column, format_args!("killed by signal {signal}")),
        },
        (None, None) => {}
    }
}

/// Family, type and protocol, e.g. `packet raw all`.
fn push_socket(record: &Record<'_>, column: &mut Vec<u8>) {
    let Some(socket) = record.socket else { return };
    let family = names::raw_family(socket.family);
    let socket_type = names::raw_type(socket.socket_type);
    write_all(column, format_args!("{family} {socket_type}"));
    match (
        protocol::transport(socket).or(protocol::ether_type(socket)),
        socket.protocol,
    ) {
        (Some(name), _) => write_all(column, format_args!(" {name}")),
        (None, 0) => {}
        (None, number) if socket.family == RawFamily::Packet => {
            write_all(column, format_args!(" {number:#06x}"));
        }
        (None, number) => write_all(column, format_args!(" {number}")),
    }
}

fn push_ends(record: &Record<'_>, column: &mut Vec<u8>) {
    let ends = record.ends();
    if record.endpoints().is_none() {
        return;
    }
    if !record.is_listener() {
        push_end(&ends.source, column);
        column.extend_from_slice(" → ".as_bytes());
    }
    push_end(&ends.destination, column);
}

fn push_end(end: &End, column: &mut Vec<u8>) {
    match (end.address(), end.ip, end.port) {
        (Some(address), ..) => write_all(column, format_args!("{address}")),
        (None, Some(ip), _) => write_all(column, format_args!("{ip}")),
        (None, None, Some(port)) => write_all(column, format_args!("?:{port}")),
        (None, None, None) => column.push(b'?'),
    }
}

fn errno_text(errno: Errno) -> String {
    names::errno(errno).map_or_else(|| format!("errno {}", errno.0), str::to_owned)
}

fn loss_text(
    Loss {
        stage,
        kind,
        unit,
        count,
    }: Loss,
) -> String {
    let what = match (unit, count) {
        (LossUnit::Record, 1) => "record",
        (LossUnit::Record, _) => "records",
        (LossUnit::Event, 1) => "event",
        (LossUnit::Event, _) => "events",
        (LossUnit::Packet, 1) => "datagram",
        (LossUnit::Packet, _) => "datagrams",
    };
    format!("{count} {what} lost at stage {stage} ({kind})")
}

/// Cuts text to `width` characters, the last of which then says so.
fn shorten(column: &mut Vec<u8>, width: usize) {
    let text = String::from_utf8_lossy(column);
    if text.chars().count() > width {
        let kept: String = text.chars().take(width - 1).chain(['…']).collect();
        *column = kept.into_bytes();
    }
}

fn write_all(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(arguments);
}
