//! What the history tells, in columns.
//!
//! In: items. Out: cells, as people read them or as programs do.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::lineage::write_lineage;
use super::table::Form;
use super::users::Users;
use super::{names, protocol};
use crate::clock::WallOffset;
use crate::dns::record::{code_name, type_name};
use crate::event::{BootTime, Errno};
use crate::history::reader::Kind;
use crate::history::{Item, What};
use crate::observation::{ConnState, Connection, Direction};
use crate::process::content::Origin;
use crate::process::image::Image;
use crate::quantity;

/// A column: its title, whether it is only shown where there is room, and what stands in it.
type Column = (&'static str, Shown, fn(&Cells, &Item) -> String);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    Wide,
}

use Shown::{Always, Wide};

const CONNECTIONS: &[Column] = &[
    ("Opened", Always, |cells, item| cells.opened(item)),
    ("Lasted", Always, |cells, item| cells.lasted(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Way", Always, |_, item| way(item)),
    ("Local", Wide, |_, item| local(item)),
    ("Peer", Always, |_, item| peer(item)),
    ("Name", Always, |_, item| domain(item)),
    ("State", Always, |_, item| state(item)),
    ("Sent", Always, |cells, item| cells.sent(item)),
    ("Received", Always, |cells, item| cells.received(item)),
    ("User", Wide, |cells, item| cells.user(item)),
    ("Program", Wide, |_, item| program(item)),
    ("Package", Wide, |_, item| package(item)),
    ("Container", Wide, |_, item| container(item)),
    ("Owner", Wide, |_, item| owner(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const OCCURRENCES: &[Column] = &[
    ("Opened", Always, |cells, item| cells.opened(item)),
    ("Lasted", Always, |cells, item| cells.lasted(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Way", Always, |_, item| way(item)),
    ("Local", Wide, |_, item| local(item)),
    ("Peer", Always, |_, item| peer(item)),
    ("State", Always, |_, item| state(item)),
    ("Sent", Always, |cells, item| cells.sent(item)),
    ("Received", Always, |cells, item| cells.received(item)),
    ("User", Always, |cells, item| cells.user(item)),
    ("Program", Always, |_, item| program(item)),
    ("Package", Always, |_, item| package(item)),
    ("Container", Wide, |_, item| container(item)),
    ("Owner", Wide, |_, item| owner(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const PROCESSES: &[Column] = &[
    ("Executed", Always, |cells, item| cells.time(item.time)),
    ("Lasted", Always, |cells, item| cells.lasted(item)),
    ("Ended", Always, |_, item| exit(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("User", Always, |cells, item| cells.user(item)),
    ("Program", Always, |_, item| program(item)),
    ("Package", Always, |_, item| package(item)),
    ("Command", Wide, |_, item| command(item)),
    ("Container", Wide, |_, item| container(item)),
    ("SHA-256", Wide, |_, item| sha256(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const LISTENERS: &[Column] = &[
    ("Opened", Always, |cells, item| cells.opened(item)),
    ("Lasted", Always, |cells, item| cells.lasted(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Local", Always, |_, item| local(item)),
    ("User", Always, |cells, item| cells.user(item)),
    ("Program", Always, |_, item| program(item)),
    ("Package", Always, |_, item| package(item)),
    ("Container", Wide, |_, item| container(item)),
    ("Owner", Wide, |_, item| owner(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const FLOWS: &[Column] = &[
    ("First", Always, |cells, item| cells.opened(item)),
    ("Lasted", Always, |cells, item| cells.lasted(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Protocol", Always, |_, item| transport(item)),
    ("Way", Always, |_, item| way(item)),
    ("Local", Wide, |_, item| local(item)),
    ("Peer", Always, |_, item| peer(item)),
    ("Name", Always, |_, item| domain(item)),
    ("Sent", Always, |cells, item| cells.sent(item)),
    ("Received", Always, |cells, item| cells.received(item)),
    ("User", Wide, |cells, item| cells.user(item)),
    ("Program", Wide, |_, item| program(item)),
    ("Package", Wide, |_, item| package(item)),
    ("Container", Wide, |_, item| container(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const LOOKUPS: &[Column] = &[
    ("Time", Always, |cells, item| cells.time(item.time)),
    ("Took", Always, |cells, item| cells.lasted(item)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Type", Always, |_, item| question(item).1),
    ("Question", Always, |_, item| question(item).0),
    ("Outcome", Always, |_, item| outcome(item)),
    ("Answer", Always, |_, item| answer(item)),
    ("Server", Always, |_, item| peer(item)),
    ("User", Wide, |cells, item| cells.user(item)),
    ("Program", Wide, |_, item| program(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const RAW_SOCKETS: &[Column] = &[
    ("Time", Always, |cells, item| cells.time(item.time)),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Family", Always, |_, item| raw(item)),
    ("User", Always, |cells, item| cells.user(item)),
    ("Program", Always, |_, item| program(item)),
    ("Lineage", Always, |_, item| lineage(item)),
];

const DETECTIONS: &[Column] = &[
    ("Time", Always, |cells, item| cells.time(item.time)),
    ("Rule", Always, |_, item| detection(item).0),
    ("Severity", Always, |_, item| detection(item).1),
    ("Process", Always, |cells, item| cells.process(item)),
    ("Local", Wide, |_, item| local(item)),
    ("Peer", Always, |_, item| peer(item)),
    ("Name", Wide, |_, item| domain(item)),
    ("Explanation", Always, |_, item| detection(item).2),
    ("Events", Wide, |_, item| detection(item).3),
    ("User", Wide, |cells, item| cells.user(item)),
    ("Program", Wide, |_, item| program(item)),
    ("Package", Wide, |_, item| package(item)),
    ("Container", Wide, |_, item| container(item)),
    ("Lineage", Wide, |_, item| lineage(item)),
];

const LOSSES: &[Column] = &[
    ("Time", Always, |cells, item| cells.time(item.time)),
    ("Stage", Always, |_, item| loss(item).0),
    ("Kind", Always, |_, item| loss(item).1),
    ("Unit", Always, |_, item| loss(item).2),
    ("Count", Always, |_, item| loss(item).3),
];

/// Which columns there are.
#[derive(Clone, Copy)]
pub struct Columns {
    columns: &'static [Column],
    wide: bool,
}

impl Columns {
    /// Those for a kind of items; `wide` ones too, where they are wanted.
    pub fn of(kind: Kind, wide: bool) -> Self {
        let columns = match kind {
            Kind::Connections => CONNECTIONS,
            Kind::Processes | Kind::Exits => PROCESSES,
            Kind::Listeners => LISTENERS,
            Kind::Flows => FLOWS,
            Kind::Lookups => LOOKUPS,
            Kind::RawSockets => RAW_SOCKETS,
            Kind::Detections => DETECTIONS,
            Kind::Losses => LOSSES,
        };
        Self { columns, wide }
    }

    /// Those for who talked to somebody.
    pub fn of_occurrences(wide: bool) -> Self {
        let columns = OCCURRENCES;
        Self { columns, wide }
    }

    /// What stands above them.
    pub fn titles(self) -> Vec<&'static str> {
        self.shown().map(|column| column.0).collect()
    }

    /// What stands in them.
    pub fn cells(self, cells: &Cells, item: &Item) -> Vec<String> {
        self.shown().map(|column| column.2(cells, item)).collect()
    }

    fn shown(self) -> impl Iterator<Item = &'static Column> {
        let columns = self.columns.iter();
        columns.filter(move |column| self.wide || column.1 == Always)
    }
}

/// What cells depend on beside their item.
pub struct Cells {
    /// Numbers as programs read them, and times in UTC.
    is_raw: bool,
    offset: WallOffset,
    zone: TimeZone,
    users: std::cell::RefCell<Users>,
}

impl Cells {
    /// For items of one file.
    pub fn new(form: Form, offset: WallOffset, users: Users, zone: TimeZone) -> Self {
        Self {
            is_raw: form == Form::Csv,
            offset,
            zone,
            users: users.into(),
        }
    }

    /// A time: where the reader is, in milliseconds, or in full.
    pub fn time(&self, time: BootTime) -> String {
        self.unix_time(self.offset.unix_nanoseconds(time))
    }

    /// The same of nanoseconds since 1970.
    pub fn unix_time(&self, unix: i64) -> String {
        let time = Timestamp::from_nanosecond(unix.into()).unwrap_or_default();
        if self.is_raw {
            return format!("{time:.9}");
        }
        let zoned = time.to_zoned(self.zone.clone());
        zoned.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
    }

    fn opened(&self, item: &Item) -> String {
        match connection(item) {
            Some(connection) => match connection.opened_at {
                Some(opened) => self.time(opened),
                // It was found open, or failed before it began.
                None if connection.existing => {
                    let mark = if self.is_raw { "" } else { "≤ " };
                    format!("{mark}{}", self.time(BootTime(connection.id.first_seen_ns)))
                }
                None => self.time(BootTime(connection.id.first_seen_ns)),
            },
            None => self.time(item.time),
        }
    }

    fn lasted(&self, item: &Item) -> String {
        let nanoseconds = match (&item.what, item.over) {
            (What::Ended(connection, end), _) if !end.failed => {
                connection.opened_at.map(|opened| item.time.since(opened))
            }
            (What::Flow(connection, ..), _) => {
                Some(item.time.0.saturating_sub(connection.id.first_seen_ns))
            }
            (What::Lookup(_, duration), _) => Some(*duration),
            (_, Some((over, _))) => Some(over.since(item.time)),
            (What::Ended(..), None) => None,
            _ => return String::new(),
        };
        match nanoseconds {
            Some(nanoseconds) => self.duration(nanoseconds),
            None => String::new(),
        }
    }

    /// A duration in nanoseconds.
    pub fn duration(&self, nanoseconds: u64) -> String {
        if self.is_raw {
            return nanoseconds.to_string();
        }
        quantity::duration(nanoseconds)
    }

    /// A number of bytes.
    pub fn bytes(&self, bytes: u64) -> String {
        if self.is_raw {
            return bytes.to_string();
        }
        quantity::bytes(bytes)
    }

    fn process(&self, item: &Item) -> String {
        self.image(item.process.as_deref())
    }

    /// A process by name and PID.
    pub fn image(&self, image: Option<&Image>) -> String {
        let Some(image) = image else {
            return "?".to_owned();
        };
        format!(
            "{}[{}]",
            String::from_utf8_lossy(image.name.as_bytes()),
            image.key.tgid
        )
    }

    fn user(&self, item: &Item) -> String {
        item.process
            .as_deref()
            .map_or_else(String::new, |image| self.user_of(image))
    }

    /// The name of a process's user, or the number.
    pub fn user_of(&self, image: &Image) -> String {
        let Some(id) = image.euid else {
            return "?".to_owned();
        };
        let mut users = self.users.borrow_mut();
        let name = users.of(image, BootTime(0));
        name.map_or_else(|| id.to_string(), str::to_owned)
    }

    fn sent(&self, item: &Item) -> String {
        carried(item).map_or_else(String::new, |(sent, _)| self.bytes(sent))
    }

    fn received(&self, item: &Item) -> String {
        carried(item).map_or_else(String::new, |(_, received)| self.bytes(received))
    }
}

/// The connection, listener or flow of an item, or the one that made a detection clear.
pub fn connection(item: &Item) -> Option<&Connection> {
    match &item.what {
        What::Opened(connection)
        | What::Ended(connection, _)
        | What::ListenOpened(connection)
        | What::ListenClosed(connection)
        | What::Flow(connection, ..) => Some(connection),
        What::Detected(told) => told.1.as_ref(),
        _ => None,
    }
}

/// What was sent and received, in bytes.
pub fn carried(item: &Item) -> Option<(u64, u64)> {
    match &item.what {
        What::Ended(_, end) => end.totals.map(|totals| (totals.sent, totals.received)),
        What::Flow(_, _, totals) => Some((totals.sent_bytes, totals.received_bytes)),
        _ => None,
    }
}

fn way(item: &Item) -> String {
    let direction = connection(item).map(|connection| connection.direction);
    match direction {
        Some(Direction::Egress) => "out",
        Some(Direction::Ingress) => "in",
        Some(Direction::Unknown) | None => "?",
    }
    .to_owned()
}

fn transport(item: &Item) -> String {
    connection(item).map_or_else(String::new, |connection| {
        protocol::of(connection.protocol)
            .map_or_else(|| connection.protocol.0.to_string(), str::to_owned)
    })
}

fn local(item: &Item) -> String {
    connection(item).map_or_else(String::new, |connection| {
        super::socket::end(connection.endpoints.local)
    })
}

fn peer(item: &Item) -> String {
    if let What::Lookup(lookup, _) = &item.what {
        return lookup.endpoints.remote.to_string();
    }
    connection(item).map_or_else(String::new, |connection| {
        super::socket::end(connection.endpoints.remote)
    })
}

/// With a question mark if not its process asked for it.
fn domain(item: &Item) -> String {
    let domain = connection(item).and_then(|connection| connection.domain.as_ref());
    domain.map_or_else(String::new, |domain| {
        let doubt = match domain.known_from {
            crate::dns::names::KnownFrom::Process => "",
            _ => "?",
        };
        format!("{}{doubt}", domain.name)
    })
}

/// Zeek's letters, and the error.
pub fn state(item: &Item) -> String {
    let errno = |errno: Errno| {
        names::errno(errno).map_or_else(|| format!("errno {}", errno.0), str::to_owned)
    };
    match &item.what {
        What::Ended(_, end) => {
            let state = names::state(end.state);
            end.errno
                .map_or_else(|| state.to_owned(), |it| format!("{state} {}", errno(it)))
        }
        What::Opened(connection) if connection.existing => "open (OTH)".to_owned(),
        What::Opened(_) => format!("open ({})", names::state(ConnState::S1)),
        _ => String::new(),
    }
}

fn program(item: &Item) -> String {
    let image = item.process.as_deref();
    image.map_or_else(String::new, program_of)
}

/// The path of what a process runs; its name where there is no file.
pub fn program_of(image: &Image) -> String {
    if image.program.executable.is_empty() {
        let name = String::from_utf8_lossy(image.name.as_bytes());
        return format!("[{name}]");
    }
    String::from_utf8_lossy(&image.program.executable).into_owned()
}

fn package(item: &Item) -> String {
    item.process.as_deref().map_or_else(String::new, package_of)
}

/// Where its file comes from.
pub fn package_of(image: &Image) -> String {
    match image.program.facts().map(|facts| &facts.origin) {
        Some(Origin::Package(package)) => String::from_utf8_lossy(&package.name).into_owned(),
        Some(Origin::Unpackaged) => "none".to_owned(),
        Some(Origin::Unknown) | None => "?".to_owned(),
    }
}

fn container(item: &Item) -> String {
    let container = item.process.as_deref().and_then(Image::container);
    container.map_or_else(String::new, |container| {
        String::from_utf8_lossy(&container.id).into_owned()
    })
}

fn sha256(item: &Item) -> String {
    item.process.as_deref().map_or_else(String::new, sha256_of)
}

/// The hash of its file in hexadecimal digits; nothing where it is not known.
pub fn sha256_of(image: &Image) -> String {
    let hash = image.program.facts().and_then(|facts| facts.sha256);
    hash.map_or_else(String::new, |hash| {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

fn command(item: &Item) -> String {
    let arguments = item.process.as_deref();
    let arguments = arguments.and_then(|image| image.program.arguments.as_deref());
    arguments.map_or_else(String::new, |arguments| {
        let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
        String::from_utf8_lossy(arguments).replace('\0', " ")
    })
}

fn owner(item: &Item) -> String {
    connection(item).map_or_else(String::new, |connection| {
        names::provenance(connection.owner_provenance).to_owned()
    })
}

fn exit(item: &Item) -> String {
    match item.over {
        Some((_, Some(status))) => {
            let (code, signal) = (status >> 8 & 0xff, status & 0x7f);
            match (signal, names::signal(signal)) {
                (0, _) => code.to_string(),
                (_, Some(name)) => name.to_owned(),
                (signal, None) => format!("signal {signal}"),
            }
        }
        _ => String::new(),
    }
}

fn lineage(item: &Item) -> String {
    item.process.as_deref().map_or_else(String::new, lineage_of)
}

/// `curl ← bash ← sshd ← systemd`.
pub fn lineage_of(image: &Image) -> String {
    let mut text = Vec::new();
    write_lineage(image, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn question(item: &Item) -> (String, String) {
    match &item.what {
        What::Lookup(lookup, _) => (
            lookup.question.name.to_string(),
            type_name(lookup.question.kind).into_owned(),
        ),
        _ => Default::default(),
    }
}

fn outcome(item: &Item) -> String {
    match &item.what {
        What::Lookup(lookup, _) => match (lookup.answer(), lookup.errno()) {
            (Some(answer), _) => code_name(answer.code).into_owned(),
            (None, Some(_)) => "no answer".to_owned(),
            (None, None) => "unknown".to_owned(),
        },
        _ => String::new(),
    }
}

fn answer(item: &Item) -> String {
    match &item.what {
        What::Lookup(lookup, _) => {
            let addresses = lookup.addresses().map(|address| address.to_string());
            addresses.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

fn raw(item: &Item) -> String {
    match &item.what {
        What::SocketOpened(socket) => names::raw_family(socket.family).to_owned(),
        _ => String::new(),
    }
}

/// Its rule, how grave it is, why, and on how many events it rests.
fn detection(item: &Item) -> (String, String, String, String) {
    match &item.what {
        What::Detected(told) => (
            told.0.rule.id.to_owned(),
            told.0.severity.name().to_owned(),
            told.0.explanation.clone(),
            told.0.evidence_total.to_string(),
        ),
        _ => Default::default(),
    }
}

fn loss(item: &Item) -> (String, String, String, String) {
    match item.what {
        What::Lost(loss) => (
            loss.stage.to_owned(),
            loss.kind.to_owned(),
            names::loss_unit(loss.unit).to_owned(),
            loss.count.to_string(),
        ),
        _ => Default::default(),
    }
}
