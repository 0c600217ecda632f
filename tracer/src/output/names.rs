//! Words for the kernel's numbers and for our own terms, the same in every output.

use serde::{Deserialize, Serialize};

use crate::dns::names::KnownFrom;
use crate::dns::{Ending, Flags, Lookup};
use crate::event::{Errno, RawFamily, RawType, TcpState, Transport};
use crate::observation::{ConnState, Connection, Direction, LossUnit, Opening};
use crate::process::cause::Certainty;
use crate::process::content::{Facts, PackageKind};
use crate::process::image::{Image, Provenance, Relation};
use crate::process::population::Life;

/// Which hook serves each moment, as `tracer.hook` names it, e.g. `fentry:tcp_connect`. The loader
/// fills it in when it has attached the hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookNames {
    /// Outbound connections.
    pub connect: String,
    /// Accepted connections.
    pub accept: String,
    /// The exit of accept (tracepoint mode).
    pub accept_exit: String,
    /// The request for the peer's address (tracepoint mode).
    pub peer_name: ByFamily,
    /// Attempts that fail before they begin.
    pub connect_error: ByFamily,
    /// The request to connect (tracepoint mode).
    pub attempt: ByFamily,
    /// State changes and listening sockets.
    pub state: String,
    /// No hook: the walk over what processes hold.
    pub inventory: String,
    /// Datagrams that are sent.
    pub datagram_sent: ByFamily,
    /// Datagrams that come.
    pub datagram_received: String,
    /// Packets that ping sockets and raw ones send.
    pub packet_sent: ByFamily,
    /// Packets whose IP header the process writes.
    pub packet_written: ByFamily,
    /// Packets that come to such a socket.
    pub packet_received: String,
}

/// A hook for sockets of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByFamily {
    /// `AF_INET`.
    pub ipv4: String,
    /// `AF_INET6`.
    pub ipv6: String,
}

impl ByFamily {
    fn of(&self, ipv6: bool) -> &String {
        if ipv6 { &self.ipv6 } else { &self.ipv4 }
    }

    fn of_mut(&mut self, ipv6: bool) -> &mut String {
        if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 }
    }
}

impl HookNames {
    /// The hook that showed the opening of a connection; `None` if no such hook is attached.
    pub fn of(&self, connection: &Connection) -> Option<&str> {
        let ipv6 = connection.endpoints.ipv6_socket;
        let opening = connection.opening;
        let name = match opening {
            Opening::Connect => &self.connect,
            Opening::Accept => &self.accept,
            Opening::AcceptExit => &self.accept_exit,
            Opening::PeerName => self.peer_name.of(ipv6),
            Opening::ConnectError => self.connect_error.of(ipv6),
            Opening::Attempt => self.attempt.of(ipv6),
            Opening::State => &self.state,
            Opening::Inventory => &self.inventory,
            Opening::DatagramSent => self.datagram_sent.of(ipv6),
            Opening::DatagramReceived => &self.datagram_received,
            Opening::PacketSent => self.packet_sent.of(ipv6),
            Opening::PacketWritten => self.packet_written.of(ipv6),
            Opening::PacketReceived => &self.packet_received,
        };
        Some(name.as_str()).filter(|name| !name.is_empty())
    }

    /// The place of the hook that shows such an opening.
    pub fn of_mut(&mut self, opening: Opening, ipv6: bool) -> &mut String {
        match opening {
            Opening::Connect => &mut self.connect,
            Opening::Accept => &mut self.accept,
            Opening::AcceptExit => &mut self.accept_exit,
            Opening::PeerName => self.peer_name.of_mut(ipv6),
            Opening::ConnectError => self.connect_error.of_mut(ipv6),
            Opening::Attempt => self.attempt.of_mut(ipv6),
            Opening::State => &mut self.state,
            Opening::Inventory => &mut self.inventory,
            Opening::DatagramSent => self.datagram_sent.of_mut(ipv6),
            Opening::DatagramReceived => &mut self.datagram_received,
            Opening::PacketSent => self.packet_sent.of_mut(ipv6),
            Opening::PacketWritten => self.packet_written.of_mut(ipv6),
            Opening::PacketReceived => &mut self.packet_received,
        }
    }
}

/// `network.direction`.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
        Direction::Unknown => "unknown",
    }
}

/// `tracer.state`.
pub fn state(state: ConnState) -> &'static str {
    match state {
        ConnState::S0 => "S0",
        ConnState::REJ => "REJ",
        ConnState::S1 => "S1",
        ConnState::SF => "SF",
        ConnState::RSTO => "RSTO",
        ConnState::RSTR => "RSTR",
        ConnState::OTH => "OTH",
    }
}

/// `network.transport`.
pub fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// `tracer.socket.family`.
pub fn raw_family(family: RawFamily) -> &'static str {
    match family {
        RawFamily::Ipv4 => "inet",
        RawFamily::Ipv6 => "inet6",
        RawFamily::Packet => "packet",
    }
}

/// `tracer.socket.type`.
pub fn raw_type(socket_type: RawType) -> &'static str {
    match socket_type {
        RawType::Raw => "raw",
        RawType::Datagram => "dgram",
        RawType::Packet => "packet",
    }
}

/// The state of a socket: in a column of ss(8), and in the words of its filters.
pub fn socket_state(state: TcpState) -> (&'static str, &'static str) {
    let named = SOCKET_STATES.iter().find(|(known, ..)| *known == state);
    named.map_or(("UNKNOWN", "unknown"), |&(_, column, word)| (column, word))
}

/// States that a socket can be listed in.
pub const SOCKET_STATES: [(TcpState, &str, &str); 11] = [
    (TcpState::Established, "ESTAB", "established"),
    (TcpState::SynSent, "SYN-SENT", "syn-sent"),
    (TcpState::SynReceived, "SYN-RECV", "syn-recv"),
    (TcpState::FinWait1, "FIN-WAIT-1", "fin-wait-1"),
    (TcpState::FinWait2, "FIN-WAIT-2", "fin-wait-2"),
    (TcpState::TimeWait, "TIME-WAIT", "time-wait"),
    (TcpState::Close, "UNCONN", "closed"),
    (TcpState::CloseWait, "CLOSE-WAIT", "close-wait"),
    (TcpState::LastAck, "LAST-ACK", "last-ack"),
    (TcpState::Listen, "LISTEN", "listening"),
    (TcpState::Closing, "CLOSING", "closing"),
];

/// Every `provenance`.
pub fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Kernel => "kernel",
        Provenance::Procfs => "procfs",
        Provenance::Inferred => "inferred",
        Provenance::Unknown => "unknown",
    }
}

/// `tracer.provenance` of `destination.domain`.
pub fn known_from(known_from: KnownFrom) -> &'static str {
    match known_from {
        KnownFrom::Process => "process",
        KnownFrom::Container => "container",
        KnownFrom::Host => "host",
        KnownFrom::ClientHello => "client_hello",
    }
}

/// `event.outcome` of a look-up: a success is an answer without an error, even one without addresses.
pub fn lookup_outcome(lookup: &Lookup) -> &'static str {
    match &lookup.ending {
        Ending::Answered(answer) if answer.code == 0 => "success",
        Ending::Answered(_) | Ending::Unanswered => "failure",
        Ending::Unknown => "unknown",
    }
}

/// `dns.header_flags`, as RFC 1035 and RFC 4035 call them.
pub fn header_flags(flags: Flags) -> Vec<&'static str> {
    let flags = [
        (flags.authoritative, "AA"),
        (flags.truncated, "TC"),
        (flags.recursion_desired, "RD"),
        (flags.recursion_available, "RA"),
        (flags.authentic_data, "AD"),
        (flags.checking_disabled, "CD"),
    ];
    let set = flags.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, name)| name).collect()
}

/// `relation` of a link in a lineage.
pub fn relation(relation: Relation) -> &'static str {
    match relation {
        Relation::Birth => "birth",
        Relation::Present => "present",
    }
}

/// `tracer.life` of a process in a tree.
pub fn life(life: Life) -> &'static str {
    match life {
        Life::Living => "living",
        Life::Exited(_) => "exited",
        Life::Unknown => "unknown",
    }
}

/// `certainty` of a link in a cause.
pub fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Likely => "likely",
        Certainty::Possible => "possible",
    }
}

/// The `tracer.flags` that a process has, with what is known of its file by now.
pub fn process_flags(image: &Image, facts: Option<&Facts>) -> impl Iterator<Item = &'static str> {
    /// `S_IWOTH`, include/uapi/linux/stat.h.
    const WRITABLE_BY_OTHERS: u32 = 0o2;
    let program = &image.program;
    let mode = program.file.map_or(0, |file| file.mode);
    let disagreements = image.disagreements();
    let flags = [
        (program.memfd, "memfd"),
        (program.deleted, "deleted"),
        (program.upper_layer, "upper_layer"),
        (
            !program.memfd && mode & WRITABLE_BY_OTHERS != 0,
            "writable_by_others",
        ),
        (program.privileges.setuid, "setuid"),
        (program.privileges.setgid, "setgid"),
        (program.privileges.capabilities, "capabilities_gained"),
        (disagreements.name, "name_disagrees"),
        (disagreements.first_argument, "argv0_disagrees"),
        (program.executable_truncated, "executable_truncated"),
        (program.arguments_masked, "args_masked"),
        (program.script_truncated, "script_truncated"),
        (image.kernel_thread, "kernel_thread"),
        (image.key_rounded, "start_rounded"),
        (facts.is_some_and(Facts::is_unpackaged), "unpackaged"),
        (facts.is_some_and(Facts::is_altered), "altered"),
    ];
    flags
        .into_iter()
        .filter_map(|(set, flag)| set.then_some(flag))
}

/// `package.type`.
pub fn package_kind(kind: PackageKind) -> &'static str {
    match kind {
        PackageKind::Deb => "deb",
        PackageKind::Rpm => "rpm",
    }
}

/// `tracer.lost.unit`.
pub fn loss_unit(unit: LossUnit) -> &'static str {
    match unit {
        LossUnit::Record => "record",
        LossUnit::Event => "event",
        LossUnit::Packet => "packet",
    }
}

/// Name of an errno, as most architectures number them; `None` for numbers that have no name.
pub fn errno(errno: Errno) -> Option<&'static str> {
    let index = usize::try_from(errno.0).ok()?.checked_sub(1)?;
    ERRNO_NAMES
        .get(index)
        .copied()
        .filter(|name| !name.is_empty())
}

/// Name of a signal, as most architectures number them; `None` for real-time signals.
pub fn signal(number: u32) -> Option<&'static str> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    SIGNAL_NAMES.get(index).copied()
}

/// The errno of that name.
pub fn errno_of(name: &str) -> Option<Errno> {
    Some(Errno(number_of(&ERRNO_NAMES, name)?))
}

/// The signal of that name.
pub fn signal_of(name: &str) -> Option<u32> {
    number_of(&SIGNAL_NAMES, name)
}

fn number_of(names: &[&str], name: &str) -> Option<u32> {
    let place = names
        .iter()
        .position(|&it| it == name && !name.is_empty())?;
    u32::try_from(place + 1).ok()
}

/// From 1 on: include/uapi/asm-generic/errno-base.h and errno.h.
const ERRNO_NAMES: [&str; 133] = [
    "EPERM",
    "ENOENT",
    "ESRCH",
    "EINTR",
    "EIO",
    "ENXIO",
    "E2BIG",
    "ENOEXEC",
    "EBADF",
    "ECHILD",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EFAULT",
    "ENOTBLK",
    "EBUSY",
    "EEXIST",
    "EXDEV",
    "ENODEV",
    "ENOTDIR",
    "EISDIR",
    "EINVAL",
    "ENFILE",
    "EMFILE",
    "ENOTTY",
    "ETXTBSY",
    "EFBIG",
    "ENOSPC",
    "ESPIPE",
    "EROFS",
    "EMLINK",
    "EPIPE",
    "EDOM",
    "ERANGE",
    "EDEADLK",
    "ENAMETOOLONG",
    "ENOLCK",
    "ENOSYS",
    "ENOTEMPTY",
    "ELOOP",
    "",
    "ENOMSG",
    "EIDRM",
    "ECHRNG",
    "EL2NSYNC",
    "EL3HLT",
    "EL3RST",
    "ELNRNG",
    "EUNATCH",
    "ENOCSI",
    "EL2HLT",
    "EBADE",
    "EBADR",
    "EXFULL",
    "ENOANO",
    "EBADRQC",
    "EBADSLT",
    "",
    "EBFONT",
    "ENOSTR",
    "ENODATA",
    "ETIME",
    "ENOSR",
    "ENONET",
    "ENOPKG",
    "EREMOTE",
    "ENOLINK",
    "EADV",
    "ESRMNT",
    "ECOMM",
    "EPROTO",
    "EMULTIHOP",
    "EDOTDOT",
    "EBADMSG",
    "EOVERFLOW",
    "ENOTUNIQ",
    "EBADFD",
    "EREMCHG",
    "ELIBACC",
    "ELIBBAD",
    "ELIBSCN",
    "ELIBMAX",
    "ELIBEXEC",
    "EILSEQ",
    "ERESTART",
    "ESTRPIPE",
    "EUSERS",
    "ENOTSOCK",
    "EDESTADDRREQ",
    "EMSGSIZE",
    "EPROTOTYPE",
    "ENOPROTOOPT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EOPNOTSUPP",
    "EPFNOSUPPORT",
    "EAFNOSUPPORT",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "ECONNABORTED",
    "ECONNRESET",
    "ENOBUFS",
    "EISCONN",
    "ENOTCONN",
    "ESHUTDOWN",
    "ETOOMANYREFS",
    "ETIMEDOUT",
    "ECONNREFUSED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EALREADY",
    "EINPROGRESS",
    "ESTALE",
    "EUCLEAN",
    "ENOTNAM",
    "ENAVAIL",
    "EISNAM",
    "EREMOTEIO",
    "EDQUOT",
    "ENOMEDIUM",
    "EMEDIUMTYPE",
    "ECANCELED",
    "ENOKEY",
    "EKEYEXPIRED",
    "EKEYREVOKED",
    "EKEYREJECTED",
    "EOWNERDEAD",
    "ENOTRECOVERABLE",
    "ERFKILL",
    "EHWPOISON",
];

/// From 1 on: include/uapi/asm-generic/signal.h.
const SIGNAL_NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_that_the_kernel_gives_them() {
        for (number, name) in [
            (1, "EPERM"),
            (104, "ECONNRESET"),
            (111, "ECONNREFUSED"),
            (113, "EHOSTUNREACH"),
            (133, "EHWPOISON"),
        ] {
            assert_eq!(errno(Errno(number)), Some(name));
            assert_eq!(errno_of(name), Some(Errno(number)));
        }
        for number in [0, 41, 134, u32::MAX] {
            assert_eq!(errno(Errno(number)), None);
        }
        for (number, name) in [
            (1, "SIGHUP"),
            (9, "SIGKILL"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
        ] {
            assert_eq!(signal(number), Some(name));
            assert_eq!(signal_of(name), Some(number));
        }
        assert_eq!(signal(34), None);
        assert_eq!((errno_of(""), signal_of("34")), (None, None));
    }
}
