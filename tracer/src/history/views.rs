//! The views by which people ask, e.g. with `tracer query --sql`.
//!
//! In: the name of an attached file, where its times begin, and a window. Out: SQL. In the files themselves
//! stand the same views without a window, for whoever opens one with another program.

use super::code::words;
use crate::detect::rule::Severity;
use crate::observation::{ConnState, Direction, LossUnit};
use crate::output::names;
use crate::process::content::PackageKind;
use crate::process::image::Provenance;

/// Names of the views.
pub const NAMES: [&str; 9] = [
    "connections",
    "processes",
    "listeners",
    "flows",
    "lookups",
    "raw_sockets",
    "detections",
    "losses",
    "contacts",
];

/// A file as its views see it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What stands before the name of a table.
    pub(super) schema: String,
    /// The wall clock's time where the file's times begin, in nanoseconds since 1970.
    pub(super) wall_base: i64,
    /// From when to when, in the file's times.
    pub(super) window: Option<(i64, i64)>,
    /// Whether what is open in it was so when recording ended, rather than until the next file.
    pub(super) last: bool,
    /// Whether its contacts are added up, and nothing of that lies outside the window.
    pub(super) added_up: bool,
}

/// The views of a file, to be stored in it.
pub(super) fn of_file(wall_base: i64) -> String {
    let seen = Seen {
        schema: String::new(),
        wall_base,
        window: None,
        last: true,
        added_up: true,
    };
    let views = NAMES
        .iter()
        .map(|name| format!("CREATE VIEW {name} AS {};", select(name, &seen)));
    views.collect()
}

/// What a view selects from one file.
pub(super) fn select(view: &str, seen: &Seen) -> String {
    match view {
        "connections" => connections(seen),
        "processes" => processes(seen),
        "listeners" => listeners(seen),
        "flows" => flows(seen),
        "lookups" => lookups(seen),
        "raw_sockets" => raw_sockets(seen),
        "detections" => detections(seen),
        "losses" => losses(seen),
        _ => contacts(seen),
    }
}

impl Seen {
    fn table(&self, name: &str) -> String {
        format!("{}{name}", self.schema)
    }

    /// Nanoseconds since 1970.
    fn ns(&self, column: &str) -> String {
        format!("{column} + {}", self.wall_base)
    }

    /// As text, in UTC.
    fn text(&self, column: &str) -> String {
        let ns = self.ns(column);
        format!("strftime('%Y-%m-%dT%H:%M:%fZ', ({ns}) / 1e9, 'unixepoch')")
    }

    fn string(&self, id: &str) -> String {
        let table = self.table("string");
        format!("(SELECT value FROM {table} WHERE id = {id})")
    }

    /// What began before the window's end and ended after its beginning.
    fn overlaps(&self, first: &str, last: &str) -> String {
        self.window.map_or_else(
            || "1".to_owned(),
            |(since, until)| format!("{first} <= {until} AND {last} >= {since}"),
        )
    }

    fn at(&self, time: &str) -> String {
        self.window.map_or_else(
            || "1".to_owned(),
            |(since, until)| format!("{time} BETWEEN {since} AND {until}"),
        )
    }

    /// Columns of whoever does something, from `process p` and `lineage l`.
    fn who(&self) -> String {
        let name = self.string("l.name");
        let program = self.string("l.executable");
        let lineage = self.string("l.text");
        let container = self.string("l.container");
        let start = self.ns("p.start");
        format!(
            "p.pid, {name} AS name, {program} AS program, l.uid, {container} AS container,
             {lineage} AS lineage, lower(hex(l.fingerprint)) AS fingerprint, {start} AS process_start_ns"
        )
    }

    fn who_joins(&self, process: &str) -> String {
        let (processes, lineages) = (self.table("process"), self.table("lineage"));
        format!(
            "LEFT JOIN {processes} p ON p.id = {process} LEFT JOIN {lineages} l ON l.id = p.lineage"
        )
    }

    /// Columns of between whom, from `contact k` and a port.
    fn ends(&self, port: &str) -> String {
        let direction = words::<Direction>("w.direction", names::direction);
        let owner = words::<Provenance>("w.provenance", names::provenance);
        let domain = self.string("k.domain");
        let (local, remote) = (self.string("w.local"), self.string("k.remote"));
        format!(
            "{direction} AS direction, {local} AS local_ip,
             iif(w.direction = 1, k.port, {port}) AS local_port, {remote} AS peer_ip,
             iif(w.direction = 1, {port}, k.port) AS peer_port, {domain} AS domain, w.protocol, w.netns,
             {owner} AS owner_provenance"
        )
    }

    /// The contact of `c`, as `k`, and its way, as `w`.
    fn contact(&self) -> String {
        let (contacts, ways) = (self.table("contact"), self.table("way"));
        format!("JOIN {contacts} k ON k.id = c.contact JOIN {ways} w ON w.id = k.way")
    }
}

fn connections(seen: &Seen) -> String {
    let (who, ends) = (seen.who(), seen.ends("c.port + 32768"));
    let (contact, joins) = (seen.contact(), seen.who_joins("c.process"));
    let state = words::<ConnState>("e.state", names::state);
    let (ended, opened) = (seen.ns("c.ended"), "c.ended - c.age + ifnull(c.delay, 0)");
    let (ended_text, opened_text) = (seen.text("c.ended"), seen.text(opened));
    let opened_ns = seen.ns(opened);
    let (connection, ending) = (seen.table("connection"), seen.table("ending"));
    let window = seen.overlaps("c.ended - c.age", "c.ended");
    let closed = format!(
        "SELECT {opened_text} AS opened, {ended_text} AS ended, {opened_ns} AS opened_ns, {ended} AS ended_ns,
         iif(c.delay IS NULL, NULL, c.age - c.delay) AS duration_ns, {state} AS state, e.errno, e.failed,
         {ends}, c.sent, c.received, c.rtt AS rtt_us, e.retransmits, {who}
         FROM {connection} c {contact} JOIN {ending} e ON e.id = c.ending {joins}
         WHERE {window}"
    );
    if !seen.last {
        return closed;
    }
    let open = seen.table("open");
    let window = seen.overlaps("c.first_seen", "9e18");
    let opened = "ifnull(c.opened, c.first_seen)";
    let (opened_text, opened_ns) = (seen.text(opened), seen.ns(opened));
    let ends = seen.ends("c.port + 32768");
    let state = "iif(w.flags & 2, 'OTH', 'S1')";
    format!(
        "{closed} UNION ALL
         SELECT {opened_text}, NULL, {opened_ns}, NULL, NULL, {state}, NULL, 0, {ends}, NULL, NULL, NULL, NULL,
         {who} FROM {open} c {contact} {joins} WHERE {window}"
    )
}

fn processes(seen: &Seen) -> String {
    let who = seen.who();
    let (processes, lineages) = (seen.table("process"), seen.table("lineage"));
    let (programs, contents) = (seen.table("program"), seen.table("content"));
    let parents = seen.table("process");
    let time = |column: &str| seen.text(column);
    let arguments = seen.string("g.arguments");
    let directory = seen.string("g.working_directory");
    let script = seen.string("g.script");
    let package_type = words::<PackageKind>("t.package_type", names::package_kind);
    let package = seen.string("t.package_name");
    let version = seen.string("t.package_version");
    let (executed, exited, executed_ns) =
        (time("p.executed"), time("p.exited"), seen.ns("p.executed"));
    let window = seen.overlaps("p.executed", "ifnull(p.exited, 9e18)");
    format!(
        "SELECT {executed} AS executed, {exited} AS exited, {executed_ns} AS executed_ns, p.status, {who},
         {arguments} AS args, {directory} AS working_directory,
         {script} AS script, lower(hex(t.sha256)) AS sha256, {package_type} AS package_type,
         {package} AS package, {version} AS package_version,
         CASE t.origin WHEN 1 THEN 1 WHEN 2 THEN 0 END AS unpackaged, p.login_uid,
         (SELECT b.pid FROM {parents} b WHERE b.id = p.parent) AS parent_pid
         FROM {processes} p JOIN {lineages} l ON l.id = p.lineage JOIN {programs} g ON g.id = p.program
         LEFT JOIN {contents} t ON t.id = g.content WHERE p.executed IS NOT NULL AND {window}"
    )
}

fn listeners(seen: &Seen) -> String {
    let who = seen.who();
    let (listeners, contact) = (seen.table("listener"), seen.contact());
    let local = seen.string("w.local");
    let joins = seen.who_joins("c.process");
    let opened = "ifnull(c.opened, c.first_seen)";
    let (opened_text, closed_text) = (seen.text(opened), seen.text("c.closed"));
    let opened_ns = seen.ns(opened);
    let owner = words::<Provenance>("w.provenance", names::provenance);
    let window = seen.overlaps("c.first_seen", "ifnull(c.closed, 9e18)");
    let here = if seen.last {
        "1"
    } else {
        "c.closed IS NOT NULL"
    };
    format!(
        "SELECT {opened_text} AS opened, {closed_text} AS closed, {opened_ns} AS opened_ns,
         w.flags & 2 != 0 AS existing, {local} AS ip, k.port, w.protocol, w.netns,
         {owner} AS owner_provenance, {who}
         FROM {listeners} c {contact} {joins} WHERE {here} AND {window}"
    )
}

fn flows(seen: &Seen) -> String {
    let (who, ends) = (seen.who(), seen.ends("c.port + 32768"));
    let (flows, contact) = (seen.table("flow"), seen.contact());
    let joins = seen.who_joins("c.process");
    let (first, last) = (seen.text("c.first_seen"), seen.text("c.last"));
    let (first_ns, last_ns) = (seen.ns("c.first_seen"), seen.ns("c.last"));
    let window = seen.overlaps("c.first_seen", "c.last");
    format!(
        "SELECT {first} AS first, {last} AS last, {first_ns} AS first_ns, {last_ns} AS last_ns, {ends},
         c.sent_packets, c.sent, c.received_packets, c.received, c.stage = 2 AS ended, {who}
         FROM {flows} c {contact} {joins} WHERE {window}"
    )
}

fn lookups(seen: &Seen) -> String {
    let who = seen.who();
    let (lookups, joins) = (seen.table("lookup"), seen.who_joins("c.process"));
    let (time, ns, name) = (
        seen.text("c.time"),
        seen.ns("c.time"),
        seen.string("c.name"),
    );
    let window = seen.at("c.time");
    format!(
        "SELECT {time} AS time, {ns} AS time_ns, {name} AS question, c.type, c.server,
         iif(c.transport, 'udp', 'tcp') AS transport, c.code,
         CASE c.ending WHEN 0 THEN 'answered' WHEN 1 THEN 'unanswered' ELSE 'unknown' END AS ending,
         c.answers, c.duration AS duration_ns, c.attempts, c.by_resolver, {who}
         FROM {lookups} c {joins} WHERE {window}"
    )
}

fn raw_sockets(seen: &Seen) -> String {
    let who = seen.who();
    let (sockets, joins) = (seen.table("raw_socket"), seen.who_joins("c.process"));
    let (time, ns) = (seen.text("c.time"), seen.ns("c.time"));
    let window = seen.at("c.time");
    format!(
        "SELECT {time} AS time, {ns} AS time_ns,
         CASE c.family WHEN 0 THEN 'inet' WHEN 1 THEN 'inet6' ELSE 'packet' END AS family,
         c.protocol, c.netns, {who} FROM {sockets} c {joins} WHERE {window}"
    )
}

fn detections(seen: &Seen) -> String {
    let (who, ends) = (seen.who(), seen.ends("c.port + 32768"));
    let (detections, joins) = (seen.table("detection"), seen.who_joins("c.process"));
    let (contacts, ways) = (seen.table("contact"), seen.table("way"));
    let (time, ns) = (seen.text("c.time"), seen.ns("c.time"));
    let rule = seen.string("c.rule");
    let severity = words::<Severity>("c.severity", Severity::name);
    let window = seen.at("c.time");
    format!(
        "SELECT {time} AS time, {ns} AS time_ns, {rule} AS rule, {severity} AS severity, c.explanation,
         c.evidence_total, {ends}, {who}
         FROM {detections} c LEFT JOIN {contacts} k ON k.id = c.contact LEFT JOIN {ways} w ON w.id = k.way {joins}
         WHERE {window}"
    )
}

fn losses(seen: &Seen) -> String {
    let (losses, time, ns) = (seen.table("loss"), seen.text("c.time"), seen.ns("c.time"));
    let unit = words::<LossUnit>("c.unit", names::loss_unit);
    let window = seen.at("c.time");
    format!(
        "SELECT {time} AS time, {ns} AS time_ns, c.stage, c.kind, {unit} AS unit, c.count
         FROM {losses} c WHERE {window}"
    )
}

/// Connections that have ended, added up: by whom, to whom. Of a file that still grows, or of which the window has a
/// part, they are added up now.
fn contacts(seen: &Seen) -> String {
    let (mut contacts, ways) = (seen.table("contact"), seen.table("way"));
    if !seen.added_up {
        let (connections, endings) = (seen.table("connection"), seen.table("ending"));
        let window = seen.overlaps("c.ended - c.age", "c.ended");
        contacts = format!(
            "(SELECT i.lineage, i.way, i.remote, i.port, i.domain, count(*) AS count,
              sum(c.ending IN (SELECT id FROM {endings} WHERE failed)) AS failed, min(c.ended - c.age) AS first,
              max(c.ended) AS last, ifnull(sum(c.sent), 0) AS sent, ifnull(sum(c.received), 0) AS received
              FROM {connections} c JOIN {contacts} i ON i.id = c.contact WHERE {window} GROUP BY c.contact)"
        );
    }
    let lineages = seen.table("lineage");
    let direction = words::<Direction>("w.direction", names::direction);
    let (local, remote) = (seen.string("w.local"), seen.string("k.remote"));
    let (name, program) = (seen.string("l.name"), seen.string("l.executable"));
    let (lineage, container) = (seen.string("l.text"), seen.string("l.container"));
    let domain = seen.string("k.domain");
    let (first, last) = (seen.text("k.first"), seen.text("k.last"));
    format!(
        "SELECT {direction} AS direction, {local} AS local_ip, {remote} AS peer_ip, k.port, {domain} AS domain,
         w.protocol, w.netns, k.count, k.failed, {first} AS first, {last} AS last, k.sent, k.received,
         {name} AS name, {program} AS program, l.uid, {container} AS container, {lineage} AS lineage,
         lower(hex(l.fingerprint)) AS fingerprint
         FROM {contacts} k JOIN {ways} w ON w.id = k.way LEFT JOIN {lineages} l ON l.id = k.lineage
         WHERE k.count > 0"
    )
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use crate::detect::rule::Severity;
    use crate::detect::{Detection, rule};
    use crate::history::What;
    use crate::history::partition;
    use crate::history::reader::History;
    use crate::history::reader::sql::{Answer, Cell, SqlError};
    use crate::history::samples;
    use crate::history::store;
    use crate::history::window::Window;

    const BEGIN: u64 = 100_000_000_000;

    /// Twenty connections, each of which lasts two nanoseconds; to ten addresses, which is more than are remembered here.
    fn history() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let items = (0..20).map(|number| {
            let time = BEGIN + 10 * number;
            let remote = format!("192.0.2.{}:80", number % 10);
            let connection = samples::connection(&curl, time, &remote);
            samples::ended(&curl, time + 2, connection)
        });
        samples::write(directory.path(), items.collect());
        directory
    }

    #[derive(Default)]
    struct Rows(Vec<Vec<Cell>>);

    impl Answer for Rows {
        type Error = SqlError;

        fn begin(&mut self, _titles: &[&str]) -> Result<(), SqlError> {
            Ok(())
        }

        fn row(&mut self, cells: Vec<Cell>) -> Result<ControlFlow<()>, SqlError> {
            self.0.push(cells);
            Ok(ControlFlow::Continue(()))
        }
    }

    #[test]
    fn a_detection_has_a_peer_where_a_contact_made_it_clear() {
        let directory = tempfile::tempdir().unwrap();
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let connection = samples::connection(&curl, BEGIN, "192.0.2.7:445");
        let items = [None, Some(connection)].map(|connection| {
            let detection = Detection {
                rule: rule("port_scan").unwrap(),
                severity: Severity::Medium,
                explanation: "it scans".to_owned(),
                evidence: Vec::new(),
                evidence_total: 9,
            };
            let what = What::Detected(Box::new((detection, connection)));
            samples::item(&curl, BEGIN + 1, what)
        });
        samples::write(directory.path(), items.into());
        let history = History::open(directory.path(), Window::ALL).unwrap();
        let mut rows = Rows::default();
        let question = "SELECT rule, severity, name, explanation, evidence_total, peer_ip, peer_port, direction
                        FROM detections ORDER BY peer_ip";
        history.ask(question, &mut rows).unwrap();
        let text = |text: &str| Cell::Text(text.to_owned());
        let same = [
            text("port_scan"),
            text("medium"),
            text("curl"),
            text("it scans"),
            Cell::Integer(9),
        ];
        let [nothing, ends] = [
            [Cell::Nothing, Cell::Nothing, Cell::Nothing],
            [text("192.0.2.7"), Cell::Integer(445), text("egress")],
        ];
        let expected = [nothing, ends].map(|ends| [&same[..], &ends[..]].concat());
        assert_eq!(rows.0, expected);
        rows.0.clear();
        let question = "SELECT * FROM contacts";
        history.ask(question, &mut rows).unwrap();
        assert_eq!(
            rows.0,
            [] as [Vec<Cell>; 0],
            "it is no connection that ended"
        );
    }

    fn sums(directory: &TempDir, since: u64, until: u64) -> Vec<Cell> {
        let unix = |time: u64| (BEGIN + time).cast_signed() + samples::OFFSET;
        let window = Window {
            since: unix(since),
            until: unix(until),
        };
        let history = History::open(directory.path(), window).unwrap();
        let mut rows = Rows::default();
        let question = "SELECT sum(count), sum(sent), count(DISTINCT peer_ip) FROM contacts";
        history.ask(question, &mut rows).unwrap();
        rows.0.remove(0)
    }

    #[test]
    fn contacts_are_those_of_the_window() {
        let directory = history();
        let numbers = |numbers: [i64; 3]| numbers.map(Cell::Integer).to_vec();
        assert_eq!(sums(&directory, 0, 1000), numbers([20, 20 * 78, 10]));
        assert_eq!(sums(&directory, 153, 1000), numbers([4, 4 * 78, 4]));
        assert_eq!(sums(&directory, 0, 29), numbers([3, 3 * 78, 3]));
        assert_eq!(sums(&directory, 52, 61), numbers([2, 2 * 78, 2]));
    }

    #[test]
    fn what_contacts_amount_to_while_they_are_written_is_what_their_rows_do() {
        let directory = history();
        let path = store::files(directory.path()).unwrap().remove(0);
        let database = Connection::open(path).unwrap();
        let contacts = || {
            let mut select = database
                .prepare("SELECT id, count, failed, first, last, sent, received FROM contact")
                .unwrap();
            let rows = select.query_map([], |row| {
                (0..7)
                    .map(|column| row.get(column))
                    .collect::<rusqlite::Result<Vec<Option<i64>>>>()
            });
            rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let written = contacts();
        database
            .execute("UPDATE contact SET count = NULL", [])
            .unwrap();
        partition::seal(&database).unwrap();
        assert_eq!(written, contacts());
        assert!(
            written.iter().all(|contact| contact[1] == Some(1)),
            "{written:?}"
        );
    }
}
