//! What the words of the schema mean: the way back of `output::names` and of identifiers.
//!
//! In: strings of a line. Out: values, or which member is wrong.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use bytes::Bytes;
use jiff::Timestamp;

use super::document::{End, Text};
use super::error::LineError;
use crate::dns::record::{class_name, code_name, type_name};
use crate::event::{Errno, Name, ProcessKey, Protocol};
use crate::history::code::Coded;
use crate::identity::{BootId, Subject, decode};
use crate::observation::{ConnectionId, Opening};
use crate::output::{names, text};
use crate::process::image::Relation;

type Result<T> = std::result::Result<T, LineError>;

/// The latest time that is believed, in nanoseconds after a boot: differences of such times fit into 64 bits. It is
/// also later than any time of today since 1970, for lines whose boot nobody knows.
pub(super) const TIME_MAX: u64 = 1 << 62;

/// The identifiers of a line, all of one boot.
#[derive(Debug, Default)]
pub(super) struct Ids {
    boot: Option<BootId>,
}

impl Ids {
    /// The boot that they are of; `None` if there was none yet.
    pub(super) fn boot(&self) -> Option<BootId> {
        self.boot
    }

    /// A process, and whether its start is rounded.
    pub(super) fn process(&mut self, field: &'static str, id: &str) -> Result<(ProcessKey, bool)> {
        match self.decoded(field, id)? {
            Subject::Process { key, rounded } => Ok((key, rounded)),
            Subject::Connection(_) => Err(LineError::wrong(field, "the id of a process")),
        }
    }

    /// A connection.
    pub(super) fn connection(&mut self, field: &'static str, id: &str) -> Result<ConnectionId> {
        match self.decoded(field, id)? {
            Subject::Connection(id) => Ok(id),
            Subject::Process { .. } => Err(LineError::wrong(field, "the id of a connection")),
        }
    }

    fn decoded(&mut self, field: &'static str, id: &str) -> Result<Subject> {
        let decoded =
            decode(id).map_err(|error| LineError::wrong(field, format!("an id: {error}")))?;
        if *self.boot.get_or_insert(decoded.boot) != decoded.boot {
            return Err(LineError::wrong(
                field,
                "of the boot of the line's other ids",
            ));
        }
        let time = match decoded.subject {
            Subject::Process { key, .. } => key.start_ns,
            Subject::Connection(id) => id.first_seen_ns,
        };
        if time > TIME_MAX {
            return Err(LineError::wrong(field, "an id of this century"));
        }
        Ok(decoded.subject)
    }
}

/// The value of a word.
pub(super) fn word<T: Coded>(
    field: &'static str,
    word: &str,
    name: impl Fn(T) -> &'static str,
) -> Result<T> {
    let mut values = T::VALUES.iter().copied();
    values.find(|&value| name(value) == word).ok_or_else(|| {
        let words: Vec<_> = T::VALUES.iter().map(|&value| name(value)).collect();
        LineError::wrong(field, format!("one of {}", words.join(", ")))
    })
}

/// One of the tracer's own words, of which outputs believe that it needs no escapes.
pub(super) fn plain<'a>(field: &'static str, word: &'a str) -> Result<&'a str> {
    const LENGTH_MAX: usize = 128;
    let is_plain = word.len() <= LENGTH_MAX && text::is_plain(word.as_bytes());
    let word = Some(word).filter(|_| is_plain);
    word.ok_or(LineError::wrong(
        field,
        "printable ASCII without quotes and backslashes",
    ))
}

/// A name or data of DNS or TLS in presentation format, which needs no escapes on a terminal. Where it was cut stands
/// an ellipsis.
pub(super) fn printable<'a>(field: &'static str, text: &'a str) -> Result<&'a str> {
    let is_printable = text
        .chars()
        .all(|character| matches!(character, ' '..='~' | '…'));
    let text = Some(text).filter(|_| is_printable);
    text.ok_or(LineError::wrong(field, "printable ASCII"))
}

/// How an ancestor is related.
pub(super) fn relation(word: Option<&Text<'_>>) -> Result<Relation> {
    let relations = [Relation::Birth, Relation::Present];
    let found = word.and_then(|word| {
        let mut relations = relations.into_iter();
        relations.find(|&relation| names::relation(relation) == &**word)
    });
    found.ok_or(LineError::wrong(
        "tracer.lineage.relation",
        "birth or present",
    ))
}

/// A number that is written as a string.
pub(super) fn number<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain);
    number.ok_or(LineError::wrong(field, "a number in decimal digits"))
}

/// A time, in nanoseconds since 1970.
pub(super) fn time(field: &'static str, text: &str) -> Result<i64> {
    let time = text.parse::<Timestamp>().ok();
    let time = time.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    time.ok_or(LineError::wrong(
        field,
        "a time such as 2026-11-21T20:30:01.123456789Z",
    ))
}

/// As many bytes as `T` has, in hexadecimal digits.
pub(super) fn hex<T: TryFrom<Vec<u8>>>(field: &'static str, text: &str) -> Result<T> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|character| Some(u8::try_from(character.to_digit(16)?).unwrap_or_default()))
        .collect();
    let pairs = digits.filter(|digits| digits.len().is_multiple_of(2));
    let bytes = pairs.map(|digits| {
        let pairs = digits.chunks_exact(2);
        pairs.map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>()
    });
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(LineError::wrong(
        field,
        "bytes of the right length in hexadecimal digits",
    ))
}

/// A string of the outside world; `escaped` are the fields that are written with escapes.
pub(super) fn bytes(field: &'static str, text: &str, escaped: &[Text<'_>]) -> Result<Bytes> {
    bytes_if(field, text, escaped.iter().any(|it| &**it == field))
}

/// The same, if it is known whether it is escaped.
pub(super) fn bytes_if(field: &'static str, text: &str, escaped: bool) -> Result<Bytes> {
    if !escaped {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    let bytes = text::unescaped(text).map(Bytes::from);
    bytes.ok_or(LineError::wrong(
        field,
        r"escaped, though it is in tracer.escaped: bytes as \xHH, backslashes doubled",
    ))
}

/// A name of at most 16 bytes, as the kernel keeps it.
pub(super) fn comm(field: &'static str, bytes: &[u8]) -> Result<Name> {
    let mut name = [0; 16];
    match name.get_mut(..bytes.len()) {
        Some(place) if !bytes.contains(&0) => place.copy_from_slice(bytes),
        _ => return Err(LineError::wrong(field, "a name of at most 16 bytes")),
    }
    Ok(Name(name))
}

/// An end; what is not known of it is unspecified.
pub(super) fn address(end: &End<'_>, is_ipv4: bool) -> SocketAddr {
    let unspecified = if is_ipv4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    SocketAddr::new(end.ip.unwrap_or(unspecified), end.port.unwrap_or(0))
}

/// `error.code`.
pub(super) fn errno(code: &str) -> Result<Errno> {
    match names::errno_of(code) {
        Some(errno) => Ok(errno),
        None => number("error.code", code).map(Errno),
    }
}

/// `tracer.exit_signal`, of which `wait` tells seven bits.
pub(super) fn signal(name: &str) -> Result<u32> {
    const FIELD: &str = "tracer.exit_signal";
    let signal = match names::signal_of(name) {
        Some(signal) => signal,
        None => number(FIELD, name)?,
    };
    let signal = Some(signal).filter(|signal| (1..0x80).contains(signal));
    signal.ok_or(LineError::wrong(FIELD, "a signal"))
}

/// The type of a record, by its mnemonic or number.
pub(super) fn record_type(field: &'static str, name: &str) -> Result<u16> {
    static TYPES: LazyLock<HashMap<String, u16>> = LazyLock::new(|| {
        let all = (0..=u16::MAX).map(|number| (type_name(number), number));
        let named = all.filter(|(name, _)| !name.starts_with("TYPE"));
        named
            .map(|(name, number)| (name.into_owned(), number))
            .collect()
    });
    match TYPES.get(name) {
        Some(&number) => Ok(number),
        None => numbered(field, name, "TYPE"),
    }
}

/// The class of a question.
pub(super) fn class(name: &str) -> Result<u16> {
    let named = (0..256).find(|&number| class_name(number) == name);
    named.map_or_else(|| numbered("dns.question.class", name, "CLASS"), Ok)
}

/// A response code.
pub(super) fn response_code(name: &str) -> Result<u16> {
    let named = (0..32).find(|&number| code_name(number) == name);
    named.map_or_else(|| numbered("dns.response_code", name, "RCODE"), Ok)
}

fn numbered(field: &'static str, name: &str, prefix: &'static str) -> Result<u16> {
    let digits = name.strip_prefix(prefix).unwrap_or_default();
    number(field, digits).map_err(|_| {
        LineError::wrong(
            field,
            format!("a mnemonic, nor {prefix} and a number of 16 bits"),
        )
    })
}

/// What a hook shows, and of which family its sockets are, if it is for one alone. That of the same name in several
/// places stands for the plainest: they are printed alike.
pub(super) fn opening(hook: &str, protocol: Protocol) -> (Opening, Option<bool>) {
    let is_udp = protocol == Protocol::UDP;
    let point = hook.rsplit([':', '/']).next().unwrap_or_default();
    match point {
        "inet_sock_set_state" => (Opening::State, None),
        "task_file" => (Opening::Inventory, None),
        "security_sock_graft" | "inet_csk_accept" => (Opening::Accept, None),
        "sys_exit_accept" | "sys_exit_accept4" => (Opening::AcceptExit, None),
        "getpeername4" => (Opening::PeerName, Some(false)),
        "getpeername6" => (Opening::PeerName, Some(true)),
        "tcp_v4_connect" => (Opening::ConnectError, Some(false)),
        "tcp_v6_connect" => (Opening::ConnectError, Some(true)),
        "connect4" => (Opening::Attempt, Some(false)),
        "connect6" => (Opening::Attempt, Some(true)),
        "ip_send_skb" => (Opening::DatagramSent, Some(false)),
        "ip6_send_skb" => (Opening::DatagramSent, Some(true)),
        "skb_consume_udp" => (Opening::DatagramReceived, None),
        "ip_push_pending_frames" => (Opening::PacketSent, Some(false)),
        "ip6_push_pending_frames" => (Opening::PacketSent, Some(true)),
        "raw_sendmsg" => (Opening::PacketWritten, Some(false)),
        "rawv6_sendmsg" => (Opening::PacketWritten, Some(true)),
        "skb_free_datagram" => (Opening::PacketReceived, None),
        "skb_ingress" if is_udp => (Opening::DatagramReceived, None),
        "skb_ingress" => (Opening::PacketReceived, None),
        "skb_egress" if is_udp => (Opening::DatagramSent, None),
        "skb_egress" => (Opening::PacketSent, None),
        _ => (Opening::Connect, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RawFamily;
    use crate::observation::ConnState;

    #[test]
    fn each_hook_shows_what_it_is_attached_for() {
        let tcp = [
            ("fentry:tcp_connect", Opening::Connect, None),
            ("tp_btf:inet_sock_set_state", Opening::State, None),
            ("iter:task_file", Opening::Inventory, None),
            ("kprobe:security_sock_graft", Opening::Accept, None),
            ("kretprobe:inet_csk_accept", Opening::Accept, None),
            (
                "tracepoint:syscalls/sys_exit_accept",
                Opening::AcceptExit,
                None,
            ),
            ("cgroup:getpeername6", Opening::PeerName, Some(true)),
            ("fexit:tcp_v4_connect", Opening::ConnectError, Some(false)),
            ("cgroup:connect6", Opening::Attempt, Some(true)),
            ("nothing", Opening::Connect, None),
        ];
        for (hook, shown, family) in tcp {
            assert_eq!(opening(hook, Protocol::TCP), (shown, family), "{hook}");
        }
        let datagrams = [
            ("fentry:ip6_send_skb", Opening::DatagramSent, Some(true)),
            ("kprobe:skb_consume_udp", Opening::DatagramReceived, None),
            ("cgroup:skb_egress", Opening::DatagramSent, None),
            ("cgroup:skb_ingress", Opening::DatagramReceived, None),
        ];
        for (hook, shown, family) in datagrams {
            assert_eq!(opening(hook, Protocol::UDP), (shown, family), "{hook}");
        }
        let packets = [
            ("kretprobe:raw_sendmsg", Opening::PacketWritten, Some(false)),
            (
                "fentry:ip_push_pending_frames",
                Opening::PacketSent,
                Some(false),
            ),
            ("fentry:skb_free_datagram", Opening::PacketReceived, None),
            ("cgroup:skb_egress", Opening::PacketSent, None),
            ("cgroup:skb_ingress", Opening::PacketReceived, None),
        ];
        for (hook, shown, family) in packets {
            assert_eq!(opening(hook, Protocol(1)), (shown, family), "{hook}");
        }
    }

    #[test]
    fn words_and_numbers_come_back() {
        for &state in ConnState::VALUES {
            assert_eq!(
                word("state", names::state(state), names::state).ok(),
                Some(state)
            );
        }
        for &family in RawFamily::VALUES {
            let name = names::raw_family(family);
            assert_eq!(word("family", name, names::raw_family).ok(), Some(family));
        }
        let error = word("type", "seqpacket", names::raw_type).err();
        let error = error.map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some("type is not one of raw, dgram, packet")
        );
        for number in (0..=300).chain([32_768, 65_280, 65_535]) {
            let name = type_name(number);
            assert_eq!(record_type("type", &name).ok(), Some(number), "{name}");
            assert_eq!(class(&class_name(number)).ok(), Some(number));
            assert_eq!(response_code(&code_name(number)).ok(), Some(number));
        }
        for wrong in ["", "TYPE", "TYPE+1", "TYPE65536", "A ", "a"] {
            assert!(record_type("type", wrong).is_err(), "{wrong:?}");
        }
        for (name, number) in [("SIGKILL", 9), ("34", 34), ("64", 64)] {
            assert_eq!(signal(name).ok(), Some(number));
        }
        for wrong in ["0", "128", "", "-9", "SIGNAL"] {
            assert!(signal(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_outputs_print_as_it_is_must_be_printable() {
        for (text, is_plain, is_printable) in [
            ("ring", true, true),
            (r"a\.b", false, true),
            ("\"v=spf1\"", false, true),
            ("cut…", false, true),
            ("\u{1b}[2J", false, false),
            ("é", false, false),
        ] {
            assert_eq!(plain("it", text).is_ok(), is_plain, "{text}");
            assert_eq!(printable("it", text).is_ok(), is_printable, "{text}");
        }
        assert!(plain("it", &"x".repeat(129)).is_err());
    }
}
