//! Zeek's `conn.log`: a header, and a line of columns for each connection or flow.
//!
//! In: records. Out: lines for those that end or are still there. What one host cannot know, because only the wire
//! shows it, is `-`; what Zeek has no column for stands in columns of our own at the end.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::Context;
use super::flat::{Flat, Flattener, is_unsafe};
use super::record::{Carried, Record};
use crate::event::Protocol;
use crate::identity::Id;
use crate::observation::Direction;

/// What stands for a value that is not known.
const UNSET: &str = "-";

/// A column: its name, its type in Zeek's words, and what stands in it.
type Column = (&'static str, &'static str, fn(&Flat<'_>) -> Option<String>);

const COLUMNS: &[Column] = &[
    ("ts", "time", |flat| {
        Some(seconds(flat.opened.unwrap_or(flat.first_seen)))
    }),
    ("uid", "string", |flat| Some(uid(flat.id))),
    ("id.orig_h", "addr", |flat| address(flat.source.ip)),
    ("id.orig_p", "port", |flat| text(flat.source.port)),
    ("id.resp_h", "addr", |flat| address(flat.destination.ip)),
    ("id.resp_p", "port", |flat| text(flat.destination.port)),
    ("proto", "enum", |flat| Some(proto(flat).to_owned())),
    ("service", "string", |_| None),
    ("duration", "interval", |flat| {
        flat.duration_ns
            .map(|duration| seconds(duration.cast_signed()))
    }),
    ("orig_bytes", "count", |flat| {
        text(payload(flat, flat.source.carried))
    }),
    ("resp_bytes", "count", |flat| {
        text(payload(flat, flat.destination.carried))
    }),
    ("conn_state", "string", |flat| Some(state(flat)?.to_owned())),
    ("local_orig", "bool", |flat| local(flat, true)),
    ("local_resp", "bool", |flat| local(flat, false)),
    ("missed_bytes", "count", |_| None),
    ("history", "string", |_| None),
    ("orig_pkts", "count", |flat| {
        text(flat.source.carried?.packets)
    }),
    ("orig_ip_bytes", "count", |_| None),
    ("resp_pkts", "count", |flat| {
        text(flat.destination.carried?.packets)
    }),
    ("resp_ip_bytes", "count", |_| None),
    ("tunnel_parents", "set[string]", |_| None),
    ("community_id", "string", |flat| flat.community_id.clone()),
    ("connection_id", "string", |flat| Some(flat.id.to_string())),
    ("direction", "string", |flat| {
        Some(super::flat::direction(flat.connection.direction).to_owned())
    }),
    ("error", "string", |flat| flat.error.clone()),
    ("domain", "string", |flat| Some(flat.domain.clone()?.0)),
    ("domain_known_from", "string", |flat| {
        Some(flat.domain.as_ref()?.1.to_owned())
    }),
    ("pid", "count", |flat| {
        Some(flat.owner.as_ref()?.pid.to_string())
    }),
    ("process", "string", |flat| {
        Some(flat.owner.as_ref()?.name.clone())
    }),
    ("executable", "string", |flat| {
        flat.owner.as_ref()?.executable.clone()
    }),
    ("user", "string", |flat| {
        let owner = flat.owner.as_ref()?;
        owner.user.clone().or_else(|| text(owner.user_id))
    }),
    ("entity_id", "string", |flat| {
        Some(flat.owner.as_ref()?.entity_id.clone())
    }),
    ("package", "string", |flat| {
        Some(flat.owner.as_ref()?.package.clone()?.0)
    }),
    ("container", "string", |flat| {
        flat.owner.as_ref()?.container.clone()
    }),
    ("lineage", "string", |flat| {
        Some(flat.owner.as_ref()?.lineage.clone())
    }),
    ("owner_provenance", "string", |flat| {
        Some(super::names::provenance(flat.connection.owner_provenance).to_owned())
    }),
];

/// Writes a `conn.log`.
pub struct Zeek {
    flattener: Flattener,
}

impl Zeek {
    /// For records of this host.
    pub fn new(context: Context) -> Self {
        Self {
            flattener: Flattener::new(context),
        }
    }

    /// What a log begins with. Zeek writes local times.
    pub fn header(opened: Timestamp) -> String {
        let list = |column: fn(&Column) -> &str| {
            let titles = COLUMNS.iter().map(column);
            titles.collect::<Vec<_>>().join("\t")
        };
        format!(
            "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t{UNSET}\n#path\tconn\n\
             #open\t{}\n#fields\t{}\n#types\t{}\n",
            time_of_log(opened),
            list(|column| column.0),
            list(|column| column.1)
        )
    }

    /// What a log ends with, if it was written to its end.
    pub fn footer(closed: Timestamp) -> String {
        format!("#close\t{}\n", time_of_log(closed))
    }

    /// Appends a line, if the record is about a connection or a flow.
    pub fn line(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let Some(flat) = self.flattener.flat(record) else {
            return;
        };
        for (index, (.., value)) in COLUMNS.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            match value(&flat) {
                Some(value) => write_escaped(&value, out),
                None => out.extend_from_slice(UNSET.as_bytes()),
            }
        }
        out.push(b'\n');
    }
}

fn time_of_log(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d-%H-%M-%S").to_string()
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn address(ip: Option<IpAddr>) -> Option<String> {
    ip.map(|ip| ip.to_canonical().to_string())
}

/// Nanoseconds as Zeek writes times and intervals: seconds with six decimals.
fn seconds(nanoseconds: i64) -> String {
    let (whole, rest) = (
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000),
    );
    format!("{whole}.{:06}", rest / 1000)
}

/// `transport_proto` of Zeek.
fn proto(flat: &Flat<'_>) -> &'static str {
    match flat.transport {
        Some("tcp") => "tcp",
        Some("udp") => "udp",
        Some("icmp" | "ipv6-icmp") => "icmp",
        _ => "unknown_transport",
    }
}

/// Of a flow without ports, headers are counted that Zeek does not count: its payload is not known.
fn payload(flat: &Flat<'_>, carried: Option<Carried>) -> Option<u64> {
    let counts = [Protocol::TCP, Protocol::UDP].contains(&flat.connection.protocol);
    carried.filter(|_| counts).map(|carried| carried.bytes)
}

/// By the rules of Zeek's base/protocols/conn, for UDP by who has sent at all.
fn state(flat: &Flat<'_>) -> Option<&'static str> {
    if flat.connection.protocol == Protocol::TCP {
        return flat.state;
    }
    if flat.connection.protocol != Protocol::UDP {
        return Some("OTH");
    }
    let sent = |carried: Option<Carried>| Some(carried?.packets? > 0);
    Some(
        match (sent(flat.source.carried)?, sent(flat.destination.carried)?) {
            (true, true) => "SF",
            (true, false) => "S0",
            (false, true) => "SHR",
            (false, false) => "OTH",
        },
    )
}

/// Whether the originator, or else the responder, is this host. Of the far end that is only known where its
/// socket, or its address, is here too.
fn local(flat: &Flat<'_>, is_originator: bool) -> Option<String> {
    let connection = flat.connection;
    let is_near = is_originator == (connection.direction != Direction::Ingress);
    let is_here =
        is_near || connection.peer.is_some() || connection.endpoints.remote.ip().is_loopback();
    is_here.then(|| "T".to_owned())
}

/// `C` and 96 bits in base 62, as Zeek's are; the same for the same connection, whenever it is exported.
pub fn uid(id: Id) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let hash = Sha256::digest(id.as_ref());
    let bits = hash.iter().take(12);
    let mut number = bits.fold(0u128, |number, &byte| number << 8 | u128::from(byte));
    let mut uid = String::from("C");
    // 62^17 is the first power above 2^96.
    for _ in 0..17 {
        uid.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    uid
}

/// Text as Zeek escapes it: what could end a column or a line, or stand for something else, as `\xHH`.
fn write_escaped(text: &str, out: &mut Vec<u8>) {
    if text == UNSET {
        out.extend_from_slice(br"\x2d");
        return;
    }
    if text.is_empty() || text == "(empty)" {
        out.extend_from_slice(if text.is_empty() {
            b"(empty)"
        } else {
            br"\x28empty)"
        });
        return;
    }
    let mut escaped = String::new();
    let mut is_first = true;
    for character in text.chars() {
        let is_comment = is_first && character == '#';
        is_first = false;
        if character != '\\' && !is_comment && !is_unsafe(character) {
            escaped.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    out.extend_from_slice(escaped.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BootTime, FlowTotals};
    use crate::history::{What, samples};
    use crate::identity::{BootId, Identities};
    use crate::observation::{Connection, ConnectionId, FlowStage};

    fn id(first_seen_ns: u64) -> Id {
        let serial = 0;
        Identities::new(BootId([7; 16])).connection(ConnectionId {
            first_seen_ns,
            serial,
        })
    }

    #[test]
    fn a_uid_is_the_same_for_ever_and_of_zeeks_form() {
        assert_eq!(uid(id(1)), uid(id(1)));
        assert_ne!(uid(id(1)), uid(id(2)));
        let uid = uid(id(1));
        assert!(uid.starts_with('C') && uid.len() == 18, "{uid}");
        assert!(uid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        write_escaped(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_value_can_end_its_column_or_pass_for_another() {
        assert_eq!(escaped("a\tb\nc"), r"a\x09b\x0ac");
        assert_eq!(escaped("-"), r"\x2d");
        assert_eq!(escaped(""), "(empty)");
        assert_eq!(escaped("(empty)"), r"\x28empty)");
        assert_eq!(escaped(r"\x41"), r"\x5cx41");
        assert_eq!(escaped("#close"), r"\x23close");
        assert_eq!(escaped("\u{202e}x\u{1b}"), r"\xe2\x80\xaex\x1b");
        assert_eq!(escaped("curl ← bash"), "curl ← bash");
    }

    #[test]
    fn the_header_names_as_many_types_as_fields() {
        let header = Zeek::header(Timestamp::UNIX_EPOCH);
        let lines: Vec<&str> = header.lines().collect();
        assert_eq!(lines[0], r"#separator \x09");
        assert_eq!(lines[4], "#path\tconn");
        let columns = |line: &str| line.split('\t').count();
        assert!(lines[6].starts_with("#fields\tts\tuid\tid.orig_h\tid.orig_p\t"));
        assert_eq!(columns(lines[6]), columns(lines[7]));
    }

    #[test]
    fn seconds_have_six_decimals() {
        assert_eq!(seconds(1_700_000_000_123_456_789), "1700000000.123456");
        assert_eq!(seconds(1_000), "0.000001");
    }

    /// A line by its fields.
    fn fields(item: &crate::history::Item) -> Vec<(String, String)> {
        let mut line = Vec::new();
        let observation = item.observation().unwrap();
        Zeek::new(samples::about().context()).line(&Record::of(&observation), &mut line);
        let line = String::from_utf8(line).unwrap();
        let values = line.trim_end_matches('\n').split('\t').map(str::to_owned);
        let names = COLUMNS.iter().map(|column| column.0.to_owned());
        assert_eq!(values.clone().count(), COLUMNS.len(), "{line:?}");
        names.zip(values).collect()
    }

    fn field(fields: &[(String, String)], name: &str) -> String {
        let field = fields.iter().find(|(field, _)| field == name);
        field.unwrap().1.clone()
    }

    #[test]
    fn what_one_host_cannot_know_is_unset() {
        let curl = samples::image(7, b"cu\trl", b"curl\0", None);
        let connection = samples::connection(&curl, 1000, "192.0.2.7:445");
        let fields = fields(&samples::ended(&curl, 5000, connection));
        for (name, value) in [
            ("ts", "1700000000.000001"),
            ("id.resp_h", "192.0.2.7"),
            ("id.resp_p", "445"),
            ("proto", "tcp"),
            ("service", "-"),
            ("duration", "0.000004"),
            ("orig_bytes", "78"),
            ("conn_state", "SF"),
            ("local_orig", "T"),
            ("local_resp", "-"),
            ("missed_bytes", "-"),
            ("history", "-"),
            ("orig_pkts", "-"),
            ("tunnel_parents", "-"),
            ("process", r"cu\x09rl"),
            ("error", "-"),
        ] {
            assert_eq!(field(&fields, name), value, "{name}");
        }
    }

    #[test]
    fn the_state_of_a_flow_says_who_has_sent() {
        let dig = samples::image(7, b"dig", b"dig\0", None);
        let connection = Connection {
            protocol: Protocol::UDP,
            ..samples::connection(&dig, 1000, "192.0.2.7:53")
        };
        for (sent_packets, received_packets, state) in [(1, 1, "SF"), (1, 0, "S0"), (0, 1, "SHR")] {
            let totals = FlowTotals {
                sent_packets,
                sent_bytes: 30,
                received_packets,
                received_bytes: 60,
                last: BootTime(5000),
            };
            let what = What::Flow(connection.clone(), FlowStage::End, totals);
            let fields = fields(&samples::item(&dig, 5000, what));
            assert_eq!(field(&fields, "conn_state"), state);
            assert_eq!(field(&fields, "orig_pkts"), sent_packets.to_string());
            assert_eq!(field(&fields, "proto"), "udp");
        }
    }
}
