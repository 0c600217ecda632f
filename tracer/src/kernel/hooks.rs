//! The hooks: every moment, and in which order its ways are tried.
//!
//! DESIGN: a moment has an ordered list of ways to see it; the loader takes the first that the
//! kernel accepts. A way is a set of programs that only together show the moment.

use std::fmt;

use tracer_common::layout::backed_up;

/// A mode that can be forced with `--hook-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookMode {
    /// fentry and fexit.
    Fentry,
    /// kprobe and kretprobe.
    Kprobe,
    /// Tracepoints and cgroup programs only.
    Tracepoint,
}

impl HookMode {
    /// All of them, cheapest first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];

    /// As typed and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for HookMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// `tp_btf`: a tracepoint by its BTF type.
    BtfTracepoint(&'static str),
    /// The entry of a kernel function.
    Fentry(&'static str),
    /// The return of a kernel function that has this many parameters.
    Fexit(&'static str, u32),
    /// The entry of a kernel function, by a breakpoint or ftrace.
    Kprobe(&'static str),
    /// The return of a kernel function, likewise.
    Kretprobe(&'static str),
    /// A socket operation, or packets, at the root cgroup.
    Cgroup(&'static str),
    /// A tracepoint by category and name.
    Tracepoint(&'static str, &'static str),
}

impl Point {
    /// The kernel function whose existence and signature it depends on.
    pub const fn function(self) -> Option<&'static str> {
        match self {
            Self::Fentry(name)
            | Self::Fexit(name, _)
            | Self::Kprobe(name)
            | Self::Kretprobe(name) => Some(name),
            Self::BtfTracepoint(_) | Self::Cgroup(_) | Self::Tracepoint(..) => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BtfTracepoint(name) => write!(f, "tp_btf:{name}"),
            Self::Fentry(name) => write!(f, "fentry:{name}"),
            Self::Fexit(name, _) => write!(f, "fexit:{name}"),
            Self::Kprobe(name) => write!(f, "kprobe:{name}"),
            Self::Kretprobe(name) => write!(f, "kretprobe:{name}"),
            Self::Cgroup(name) => write!(f, "cgroup:{name}"),
            Self::Tracepoint(category, name) => write!(f, "tracepoint:{category}/{name}"),
        }
    }
}

/// A kernel program and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Copies of it that attach after it, for when the kernel skips it.
    pub backups: &'static [&'static str],
    /// Where they attach.
    pub point: Point,
}

impl Hook {
    /// Every program of it, in the order in which they attach.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.program).chain(self.backups.iter().copied())
    }

    /// Whether no softirq enters it.
    pub fn is_among_tasks(&self) -> bool {
        self.counter_of_backups()
            .is_some_and(|hook| hook != backed_up::STATE)
    }

    /// Where the kernel side counts what its backups saw.
    pub fn counter_of_backups(&self) -> Option<u32> {
        match self.point {
            _ if self.backups.is_empty() => None,
            Point::BtfTracepoint("sched_process_fork") => Some(backed_up::FORK),
            Point::BtfTracepoint("sched_process_exit") => Some(backed_up::EXIT),
            Point::BtfTracepoint("sched_process_exec") => Some(backed_up::EXEC),
            _ => Some(backed_up::STATE),
        }
    }
}

/// What can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// A process forks.
    Fork,
    /// A process executes a program.
    Exec,
    /// A process exits.
    Exit,
    /// A process opens an outbound connection.
    Connect,
    /// A process accepts a connection.
    Accept,
    /// An attempt over IPv4 fails before it begins.
    ConnectErrorV4,
    /// An attempt over IPv6 fails before it begins.
    ConnectErrorV6,
    /// Outcome, listen and close.
    State,
    /// This host resets a connection.
    Reset,
    /// Cgroups come and go, processes are moved between them.
    Cgroup,
    /// Sockets exchange datagrams.
    Datagram,
    /// Connections to name servers carry messages.
    DnsStream,
    /// A process opens a raw or a packet socket.
    RawSocket,
    /// Connections begin with a TLS handshake: seen only if that is asked for.
    ClientHello,
}

impl Moment {
    /// In the order in which they are attached: cgroups and processes first, so that whoever acts is
    /// known; `State` last of those that it may have to stand in for.
    pub const ALL: [Self; 14] = [
        Self::Cgroup,
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Connect,
        Self::Accept,
        Self::ConnectErrorV4,
        Self::ConnectErrorV6,
        Self::State,
        Self::Reset,
        Self::Datagram,
        Self::DnsStream,
        Self::RawSocket,
        Self::ClientHello,
    ];

    /// Those that are to be seen: all but what has to be asked for.
    pub fn wanted(tls: bool) -> impl Iterator<Item = Self> {
        let moments = Self::ALL.into_iter();
        moments.filter(move |moment| tls || *moment != Self::ClientHello)
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "process forks",
            Self::Exec => "process executes",
            Self::Exit => "process exits",
            Self::Connect => "connection opens",
            Self::Accept => "connection accepted",
            Self::ConnectErrorV4 => "IPv4 connect fails early",
            Self::ConnectErrorV6 => "IPv6 connect fails early",
            Self::State => "outcome, listen, close",
            Self::Reset => "reset sent",
            Self::Cgroup => "cgroups change",
            Self::Datagram => "datagrams",
            Self::DnsStream => "DNS over TCP",
            Self::RawSocket => "raw socket opens",
            Self::ClientHello => "TLS client hello",
        }
    }

    /// Whether the daemon is of no use without it.
    pub const fn is_essential(self) -> bool {
        !matches!(
            self,
            Self::ConnectErrorV4
                | Self::ConnectErrorV6
                | Self::Reset
                | Self::Cgroup
                | Self::Datagram
                | Self::DnsStream
                | Self::RawSocket
                | Self::ClientHello
        )
    }
}

/// One way to see a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// In which mode; `None` if in every mode.
    pub mode: Option<HookMode>,
    /// All of these have to be attached.
    pub hooks: &'static [Hook],
}

impl Way {
    /// Whether it may be taken where this mode is asked for.
    pub fn is_allowed(&self, mode: Option<HookMode>) -> bool {
        mode.is_none() || self.mode.is_none() || self.mode == mode
    }

    /// Whether state changes or packets stand in for a hook of its own.
    pub fn is_stand_in(&self) -> bool {
        self.mode == Some(HookMode::Tracepoint)
    }

    /// Where `moment` is seen; where it has no hooks of its own, by what stands in.
    pub fn points(&self, moment: Moment) -> Vec<Point> {
        match (self.hooks, moment) {
            ([], Moment::DnsStream) => PACKETS.to_vec(),
            ([], _) => vec![STATE_POINT],
            (hooks, _) => hooks.iter().map(|hook| hook.point).collect(),
        }
    }
}

/// A table of ways: the mode (`None`: every mode), then its hooks.
macro_rules! ways {
    ($($mode:expr => [$($program:literal $(or $backup:literal)* at $point:expr),*],)*) => {
        &[$(Way {
            mode: $mode,
            hooks: &[$(Hook { program: $program, backups: &[$($backup),*], point: $point }),*],
        }),*]
    };
}

const FENTRY: Option<HookMode> = Some(HookMode::Fentry);
const KPROBE: Option<HookMode> = Some(HookMode::Kprobe);
const TRACEPOINT: Option<HookMode> = Some(HookMode::Tracepoint);

const FORK: &[Way] = ways! {
    None => [
        "sched_process_fork" or "sched_process_fork_2" or "sched_process_fork_3"
            at Point::BtfTracepoint("sched_process_fork")
    ],
};

const EXEC: &[Way] = ways! {
    None => [
        "sched_process_exec" or "sched_process_exec_2" or "sched_process_exec_3"
            at Point::BtfTracepoint("sched_process_exec")
    ],
};

const EXIT: &[Way] = ways! {
    None => [
        "sched_process_exit" or "sched_process_exit_2" or "sched_process_exit_3"
            at Point::BtfTracepoint("sched_process_exit")
    ],
};

const CONNECT: &[Way] = ways! {
    FENTRY => ["tcp_connect_fentry" at Point::Fentry("tcp_connect")],
    KPROBE => ["tcp_connect_kprobe" at Point::Kprobe("tcp_connect")],
    // The state change to SYN_SENT stands in.
    TRACEPOINT => [],
};

const ACCEPT: &[Way] = ways! {
    FENTRY => ["security_sock_graft_fentry" at Point::Fentry("security_sock_graft")],
    FENTRY => ["inet_csk_accept_fexit_2" at Point::Fexit("inet_csk_accept", 2)],
    FENTRY => ["inet_csk_accept_fexit_4" at Point::Fexit("inet_csk_accept", 4)],
    KPROBE => ["security_sock_graft_kprobe" at Point::Kprobe("security_sock_graft")],
    KPROBE => ["inet_csk_accept_kretprobe" at Point::Kretprobe("inet_csk_accept")],
    TRACEPOINT => [
        "cgroup_getpeername4" at Point::Cgroup("getpeername4"),
        "cgroup_getpeername6" at Point::Cgroup("getpeername6"),
        "sys_exit_accept" at Point::Tracepoint("syscalls", "sys_exit_accept"),
        "sys_exit_accept4" at Point::Tracepoint("syscalls", "sys_exit_accept4"),
        "sys_enter_getpeername" at Point::Tracepoint("syscalls", "sys_enter_getpeername"),
        "sys_exit_getpeername" at Point::Tracepoint("syscalls", "sys_exit_getpeername")
    ],
};

const CONNECT_ERROR_V4: &[Way] = ways! {
    FENTRY => ["tcp_v4_connect_fexit" at Point::Fexit("tcp_v4_connect", 3)],
    KPROBE => [
        "tcp_v4_connect_kretprobe" at Point::Kretprobe("tcp_v4_connect"),
        "tcp_v4_connect_kprobe" at Point::Kprobe("tcp_v4_connect")
    ],
    TRACEPOINT => ["cgroup_connect4" at Point::Cgroup("connect4")],
};

const CONNECT_ERROR_V6: &[Way] = ways! {
    FENTRY => ["tcp_v6_connect_fexit" at Point::Fexit("tcp_v6_connect", 3)],
    KPROBE => [
        "tcp_v6_connect_kretprobe" at Point::Kretprobe("tcp_v6_connect"),
        "tcp_v6_connect_kprobe" at Point::Kprobe("tcp_v6_connect")
    ],
    TRACEPOINT => ["cgroup_connect6" at Point::Cgroup("connect6")],
};

const STATE_POINT: Point = Point::BtfTracepoint("inet_sock_set_state");
const STATE: &[Way] = ways! {
    None => [
        "inet_sock_set_state" or "inet_sock_set_state_2" or "inet_sock_set_state_3" at STATE_POINT
    ],
};
const STATE_FOR_CONNECT: &[Way] = ways! {
    None => [
        "inet_sock_set_state_c" or "inet_sock_set_state_c2" or "inet_sock_set_state_c3" at STATE_POINT
    ],
};
const STATE_FOR_ACCEPT: &[Way] = ways! {
    None => [
        "inet_sock_set_state_a" or "inet_sock_set_state_a2" or "inet_sock_set_state_a3" at STATE_POINT
    ],
};
const STATE_FOR_BOTH: &[Way] = ways! {
    None => [
        "inet_sock_set_state_ca" or "inet_sock_set_state_ca2" or "inet_sock_set_state_ca3" at STATE_POINT
    ],
};

const RESET: &[Way] = ways! {
    None => ["tcp_send_reset" at Point::BtfTracepoint("tcp_send_reset")],
};

const CGROUP: &[Way] = ways! {
    None => [
        "cgroup_mkdir" at Point::BtfTracepoint("cgroup_mkdir"),
        "cgroup_rmdir" at Point::BtfTracepoint("cgroup_rmdir"),
        "cgroup_attach_task" at Point::BtfTracepoint("cgroup_attach_task")
    ],
};

const DATAGRAM: &[Way] = ways! {
    FENTRY => [
        "sk_common_release_fentry" at Point::Fentry("sk_common_release"),
        "ip_send_skb_fentry" at Point::Fentry("ip_send_skb"),
        "ip6_send_skb_fentry" at Point::Fentry("ip6_send_skb"),
        "ip_push_pending_frames_fentry" at Point::Fentry("ip_push_pending_frames"),
        "ip6_push_pending_frames_fentry" at Point::Fentry("ip6_push_pending_frames"),
        "raw_sendmsg_fexit" at Point::Fexit("raw_sendmsg", 3),
        "rawv6_sendmsg_fexit" at Point::Fexit("rawv6_sendmsg", 3),
        "skb_consume_udp_fentry" at Point::Fentry("skb_consume_udp"),
        "skb_free_datagram_fentry" at Point::Fentry("skb_free_datagram")
    ],
    KPROBE => [
        "sk_common_release_kprobe" at Point::Kprobe("sk_common_release"),
        "ip_send_skb_kprobe" at Point::Kprobe("ip_send_skb"),
        "ip6_send_skb_kprobe" at Point::Kprobe("ip6_send_skb"),
        "ip_push_pending_frames_kprobe" at Point::Kprobe("ip_push_pending_frames"),
        "ip6_push_pending_frames_kprobe" at Point::Kprobe("ip6_push_pending_frames"),
        "raw_sendmsg_kretprobe" at Point::Kretprobe("raw_sendmsg"),
        "raw_sendmsg_kprobe" at Point::Kprobe("raw_sendmsg"),
        "rawv6_sendmsg_kretprobe" at Point::Kretprobe("rawv6_sendmsg"),
        "rawv6_sendmsg_kprobe" at Point::Kprobe("rawv6_sendmsg"),
        "skb_consume_udp_kprobe" at Point::Kprobe("skb_consume_udp"),
        "skb_free_datagram_kprobe" at Point::Kprobe("skb_free_datagram")
    ],
    TRACEPOINT => [
        "sock_send_length" at Point::BtfTracepoint("sock_send_length"),
        "sock_recv_length" at Point::BtfTracepoint("sock_recv_length"),
        "cgroup_sock_create" at Point::Cgroup("sock_create"),
        "cgroup_sock_release" at Point::Cgroup("sock_release"),
        "cgroup_skb_egress" at Point::Cgroup("skb_egress"),
        "cgroup_skb_ingress" at Point::Cgroup("skb_ingress")
    ],
    // Before 6.3.
    TRACEPOINT => [
        "cgroup_sendmsg4" at Point::Cgroup("sendmsg4"),
        "cgroup_sendmsg6" at Point::Cgroup("sendmsg6"),
        "cgroup_recvmsg4" at Point::Cgroup("recvmsg4"),
        "cgroup_recvmsg6" at Point::Cgroup("recvmsg6"),
        "cgroup_connect4_udp" at Point::Cgroup("connect4"),
        "cgroup_connect6_udp" at Point::Cgroup("connect6"),
        "cgroup_sock_create" at Point::Cgroup("sock_create"),
        "cgroup_sock_release" at Point::Cgroup("sock_release"),
        "cgroup_skb_egress" at Point::Cgroup("skb_egress"),
        "cgroup_skb_ingress" at Point::Cgroup("skb_ingress")
    ],
};

/// Where all packets are seen, in tracepoint mode.
const PACKETS: [Point; 2] = [Point::Cgroup("skb_ingress"), Point::Cgroup("skb_egress")];

const DNS_STREAM: &[Way] = ways! {
    // Since 5.19.
    FENTRY => [
        "tcp_recvmsg_fexit_5" at Point::Fexit("tcp_recvmsg", 5),
        "tcp_sendmsg_locked_fentry" at Point::Fentry("tcp_sendmsg_locked")
    ],
    // Since 7.2.
    FENTRY => [
        "tcp_recvmsg_fexit_4" at Point::Fexit("tcp_recvmsg", 4),
        "tcp_sendmsg_locked_fentry" at Point::Fentry("tcp_sendmsg_locked")
    ],
    FENTRY => [
        "tcp_recvmsg_fexit_6" at Point::Fexit("tcp_recvmsg", 6),
        "tcp_sendmsg_locked_fentry" at Point::Fentry("tcp_sendmsg_locked")
    ],
    // A kretprobe has no arguments: packets cost less than a pair of probes for each call.
    KPROBE => [
        "dns_stream_ingress" at Point::Cgroup("skb_ingress"),
        "dns_stream_egress" at Point::Cgroup("skb_egress")
    ],
};
const DNS_STREAM_AMONG_PACKETS: &[Way] = ways! {
    // The programs on datagrams see these packets, too.
    TRACEPOINT => [],
};

const RAW_SOCKET: &[Way] = ways! {
    FENTRY => [
        "security_socket_post_create_fentry" at Point::Fentry("security_socket_post_create")
    ],
    KPROBE => [
        "security_socket_post_create_kprobe" at Point::Kprobe("security_socket_post_create")
    ],
    // The exit first: what is asked for before it is attached would never be taken out again.
    TRACEPOINT => [
        "sys_exit_socket" at Point::Tracepoint("syscalls", "sys_exit_socket"),
        "sys_enter_socket" at Point::Tracepoint("syscalls", "sys_enter_socket")
    ],
};

const CLIENT_HELLO: &[Way] = ways! {
    FENTRY => ["client_hello_fentry" at Point::Fentry("tcp_sendmsg_locked")],
    KPROBE => ["client_hello_kprobe" at Point::Kprobe("tcp_sendmsg_locked")],
    TRACEPOINT => ["client_hello_egress" at Point::Cgroup("skb_egress")],
};

/// The ways to see `moment`, best first. `stand_in` matters for those whose hooks stand in.
pub const fn ways(moment: Moment, stand_in: StandIn) -> &'static [Way] {
    match moment {
        Moment::Fork => FORK,
        Moment::Exec => EXEC,
        Moment::Exit => EXIT,
        Moment::Connect => CONNECT,
        Moment::Accept => ACCEPT,
        Moment::ConnectErrorV4 => CONNECT_ERROR_V4,
        Moment::ConnectErrorV6 => CONNECT_ERROR_V6,
        Moment::State => match (stand_in.connect, stand_in.accept) {
            (false, false) => STATE,
            (true, false) => STATE_FOR_CONNECT,
            (false, true) => STATE_FOR_ACCEPT,
            (true, true) => STATE_FOR_BOTH,
        },
        Moment::Reset => RESET,
        Moment::Cgroup => CGROUP,
        Moment::Datagram => DATAGRAM,
        Moment::DnsStream if stand_in.packets => DNS_STREAM_AMONG_PACKETS,
        Moment::DnsStream => DNS_STREAM,
        Moment::RawSocket => RAW_SOCKET,
        Moment::ClientHello => CLIENT_HELLO,
    }
}

/// What has to stand in for moments that nothing else shows: state changes, or packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandIn {
    /// State changes for connections that open.
    pub connect: bool,
    /// State changes for connections that are accepted: which ones have been established and have no owner yet.
    pub accept: bool,
    /// The packets among which datagrams are seen, for DNS over TCP.
    pub packets: bool,
}

impl StandIn {
    /// Takes in which way `moment` is seen.
    pub fn learn(&mut self, moment: Moment, way: Option<&Way>) {
        let is_stand_in = way.is_some_and(Way::is_stand_in);
        match moment {
            Moment::Connect => self.connect = is_stand_in,
            Moment::Accept => self.accept = is_stand_in,
            Moment::Datagram => self.packets = is_stand_in,
            _ => {}
        }
    }
}
