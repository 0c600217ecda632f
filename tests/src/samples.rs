//! One observation of every kind, fixed in every detail, for goldens, schemas and measurements.

mod lookups;

use std::sync::Arc;

use bytes::Bytes;
use tracer::clock::WallOffset;
use tracer::dns::Lookup;
use tracer::dns::names::{Domain, KnownFrom};
use tracer::event::{
    BootTime, CgroupId, Endpoints, Errno, FileId, FileStatus, FileVersion, FlowTotals, Name,
    Privileges, ProcessKey, Protocol, RawFamily, RawSocket, RawType, Session, SocketId, Task,
    Totals, Tty,
};
use tracer::host::Host;

use tracer::identity::BootId;
use tracer::kernel::netns::Names;
use tracer::observation::{
    ConnState, Connection, ConnectionId, Direction, Fact, FlowStage, Loss, LossUnit, Observation,
    Opening, Subflow,
};
use tracer::output::Context;
use tracer::output::names::{ByFamily, HookNames};
use tracer::output::users::Users;
use tracer::process::cause::{Cause, Certainty};
use tracer::process::cgroup::Cgroup;
use tracer::process::content::{Content, Facts, Origin, Package, PackageKind};
use tracer::process::fingerprint::Derived;
use tracer::process::image::{Brief, Image, Parent, Program, Provenance, Relation};

const SECOND: u64 = 1_000_000_000;

/// 2026-11-21T20:30:00Z, when the host of the samples was booted.
const BOOTED_AT: i64 = 1_795_293_000 * SECOND as i64;

/// The host of the samples, with the hooks of fentry mode.
pub fn context() -> Context {
    Context {
        host: Host {
            name: "node-1".into(),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            boot_id: BootId([0x42; 16]),
        },
        offset: WallOffset::new(BOOTED_AT),
        hooks: HookNames {
            connect: "fentry:tcp_connect".into(),
            accept: "fentry:security_sock_graft".into(),
            connect_error: ByFamily {
                ipv4: "fexit:tcp_v4_connect".into(),
                ipv6: "fexit:tcp_v6_connect".into(),
            },
            state: "tp_btf:inet_sock_set_state".into(),
            inventory: "iter:task_file".into(),
            datagram_sent: ByFamily {
                ipv4: "fentry:ip_send_skb".into(),
                ipv6: "fentry:ip6_send_skb".into(),
            },
            datagram_received: "fentry:skb_consume_udp".into(),
            packet_received: "fentry:skb_free_datagram".into(),
            ..HookNames::default()
        },
        users: Users::fixed(&[(0, "root"), (33, "www-data")]),
        netns: Names::fixed(4_026_531_840, &[(4_026_532_000, "blue")]),
    }
}

/// A process without ancestors.
pub fn image(tgid: u32, name: &str, executable: &str, arguments: &[u8]) -> Image {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Image {
        key: ProcessKey {
            tgid,
            start_ns: SECOND + u64::from(tgid) * 1_000,
        },
        key_rounded: false,
        name: Name(comm),
        euid: Some(0),
        kernel_thread: false,
        program: Arc::new(Program {
            executable: Bytes::copy_from_slice(executable.as_bytes()),
            arguments: Some(Bytes::copy_from_slice(arguments)),
            working_directory: Bytes::from_static(b"/root"),
            invoked_as: Name(comm),
            file: Some(FileStatus {
                version: FileVersion {
                    id: FileId {
                        device: 8 << 20 | 1,
                        inode: 1_000_000 + u64::from(tgid),
                    },
                    size: 314_159,
                    changed_ns: 1_700_000_000_123_456_789,
                },
                mode: 0o100_755,
                links: 1,
                owner: 0,
                group: 0,
            }),
            ..Program::default()
        }),
        cgroup: Some(cgroup(3, b"/system.slice/ssh.service")),
        session: Session::default(),
        namespace_pid: None,
        has_host_root: true,
        in_user_namespace: false,
        parent: Parent::Root,
        present_parent: None,
        provenance: Provenance::Kernel,
        depth: 0,
        cause: None,
        fingerprint: Derived::default(),
    }
}

fn cgroup(node: u64, path: &[u8]) -> Arc<Cgroup> {
    let id = CgroupId { hierarchy: 0, node };
    Arc::new(Cgroup::new(id, path))
}

/// The same process as a child of `parent`.
pub fn child_of(parent: &Arc<Image>, relation: Relation, child: Image) -> Arc<Image> {
    let depth = parent.depth + 1;
    Arc::new(Image {
        parent: Parent::Known(relation, parent.clone()),
        depth,
        ..child
    })
}

/// What an examination has found of an executed file.
fn examined(image: Image, facts: Facts) -> Image {
    let content = Content::new(FileVersion::default());
    content.learn(facts);
    let program = Program {
        content: Some(Arc::new(content)),
        ..(*image.program).clone()
    };
    Image {
        program: Arc::new(program),
        ..image
    }
}

/// A file as its package brought it, or not.
fn packaged(name: &'static [u8], intact: bool) -> Facts {
    let package = Package {
        kind: PackageKind::Deb,
        name: Bytes::from_static(name),
        version: Bytes::from_static(b"7.88.1-10+deb12u8"),
        architecture: Bytes::from_static(b"amd64"),
        intact: Some(intact),
    };
    Facts {
        sha256: Some([0xa5; 32]),
        build_id: Some([0x0f; 20].into()),
        origin: Origin::Package(Box::new(package)),
        users: None,
    }
}

/// `curl` in a shell in a session of `sshd`.
pub fn curl() -> Arc<Image> {
    let old = |image: Image| Image {
        provenance: Provenance::Procfs,
        ..image
    };
    let systemd = Arc::new(old(image(
        1,
        "systemd",
        "/usr/lib/systemd/systemd",
        b"/sbin/init\0",
    )));
    let sshd = old(image(812, "sshd", "/usr/sbin/sshd", b"sshd: root@pts/0\0"));
    let sshd = child_of(&systemd, Relation::Present, sshd);
    let bash = child_of(
        &sshd,
        Relation::Birth,
        old(image(4210, "bash", "/usr/bin/bash", b"-bash\0")),
    );
    let arguments = b"curl\0-s\0https://example.org\0";
    let image = image(4312, "curl", "/usr/bin/curl", arguments);
    let curl = Image {
        cgroup: Some(cgroup(4, b"/user.slice/user-0.slice/session-3.scope")),
        session: Session {
            login_uid: Some(33),
            id: Some(3),
            tty: Some(Tty(136 << 20 | 1)),
        },
        cause: Some(cause()),
        ..examined(image, packaged(b"curl", true))
    };
    child_of(&bash, Relation::Birth, curl)
}

/// The first process of a container of a pod.
pub fn server() -> Arc<Image> {
    let path = b"/kubepods.slice/kubepods-pod0d4a5b1c_1111_2222_3333_444455556666.slice/\
        cri-containerd-3f4b0c1d2e5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0.scope";
    let facts = Facts {
        sha256: Some([0x5a; 32]),
        origin: Origin::Unpackaged,
        ..Facts::default()
    };
    let image = image(4400, "server", "/bin/server", b"server\0");
    Arc::new(Image {
        cgroup: Some(cgroup(5, path)),
        namespace_pid: Some(1),
        has_host_root: false,
        ..examined(image, facts)
    })
}

/// A deleted program with the most awkward strings, whose parent nobody knows.
pub fn awkward() -> Arc<Image> {
    let mut name = [0; 16];
    name[..9].copy_from_slice(b"a\xff\\\x1b[31m\n");
    let program = Program {
        executable: Bytes::from_static(b"/tmp/\xfe\x80 \"x\""),
        arguments: Some(Bytes::from_static(b"a\xff\0\0back\\slash\x07\0cut")),
        arguments_truncated: true,
        arguments_masked: true,
        working_directory: Bytes::from_static("/tmp/\u{202e}dir".as_bytes()),
        deleted: true,
        upper_layer: true,
        privileges: Privileges {
            setuid: true,
            ..Privileges::default()
        },
        script: Bytes::from_static(b"/tmp/\xffscript"),
        invoked_as: Name(*b"script\0\0\0\0\0\0\0\0\0\0"),
        ..Program::default()
    };
    let plain = examined(
        Image {
            program: Arc::new(program),
            ..image(5001, "", "", b"")
        },
        packaged(b"curl\xff\x1b", false),
    );
    let reaper = image(900, "a\\b", "/usr/bin/reaper", b"reaper\0");
    let provenance = Provenance::Procfs;
    let (name, parent) = (Name(name), Parent::Unknown);
    let euid = Some(4_000_000_000);
    Arc::new(Image {
        name,
        parent,
        present_parent: Some(Arc::new(Brief::from(&reaper))),
        provenance,
        euid,
        cgroup: Some(cgroup(6, b"/lxc.payload.\xff\x1bname")),
        key_rounded: true,
        ..plain
    })
}

/// An outbound connection of `curl`, with its other end on the same host.
pub fn egress() -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial: 0,
        },
        socket: SocketId(0xffff_8880_1234_5678),
        protocol: Protocol::TCP,
        endpoints: Endpoints {
            netns: 4_026_531_840,
            local: "127.0.0.1:51234".parse().expect("an address"),
            remote: "127.0.0.1:443".parse().expect("an address"),
            ipv6_socket: false,
        },
        direction: Direction::Egress,
        owner: Some(curl().key),
        owner_provenance: Provenance::Kernel,
        opening: Opening::Connect,
        peer: Some(ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial: 1,
        }),
        opened_at: Some(BootTime(2 * SECOND)),
        existing: false,
        cause: Some(cause()),
        mptcp: false,
        domain: domain(KnownFrom::Process),
    }
}

/// A contact from outside that led, through a server on this host, to another one.
fn cause() -> Arc<Cause> {
    let link = |serial, peer: &str, process: Arc<Image>, sure, before| {
        let connection = ConnectionId {
            first_seen_ns: 2 * SECOND,
            serial,
        };
        let peer = peer.parse().expect("an address");
        Arc::new(Cause::new(
            connection,
            peer,
            (&*process).into(),
            sure,
            before,
        ))
    };
    let nginx = Arc::new(image(900, "nginx", "/usr/sbin/nginx", b""));
    let outer = link(
        2,
        "[2001:db8::2]:40000",
        nginx,
        (Certainty::Possible, 3),
        None,
    );
    let sure = (Certainty::Likely, 1);
    link(3, "127.0.0.1:50000", awkward(), sure, Some(outer))
}

/// What a destination of the samples is called.
fn domain(known_from: KnownFrom) -> Option<Domain> {
    let name = "example.org".into();
    Some(Domain { name, known_from })
}

/// An inbound connection over IPv6, from another host.
pub fn ingress() -> Connection {
    let endpoints = Endpoints {
        local: "[2001:db8::1]:22".parse().expect("an address"),
        remote: "[2001:db8::2]:40000".parse().expect("an address"),
        ipv6_socket: true,
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: 2 * SECOND,
        serial: 2,
    };
    let (direction, opening) = (Direction::Ingress, Opening::Accept);
    Connection {
        id,
        endpoints,
        direction,
        opening,
        peer: None,
        cause: None,
        domain: None,
        ..egress()
    }
}

/// A listening socket.
pub fn listener() -> Connection {
    let endpoints = Endpoints {
        local: "0.0.0.0:443".parse().expect("an address"),
        remote: "0.0.0.0:0".parse().expect("an address"),
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: SECOND,
        serial: 0,
    };
    Connection {
        id,
        endpoints,
        opening: Opening::State,
        ..ingress()
    }
}

/// A connection that was found open, and of which nobody knows who opened it.
pub fn existing() -> Connection {
    let id = ConnectionId {
        first_seen_ns: SECOND,
        serial: 1,
    };
    Connection {
        id,
        direction: Direction::Unknown,
        owner: None,
        owner_provenance: Provenance::Unknown,
        opening: Opening::Inventory,
        peer: None,
        cause: None,
        opened_at: None,
        domain: None,
        existing: true,
        endpoints: Endpoints {
            netns: 4_026_532_000,
            ..egress().endpoints
        },
        ..egress()
    }
}

/// A connection of which little is known.
pub fn unattributed() -> Connection {
    let endpoints = Endpoints {
        netns: 0,
        local: "0.0.0.0:0".parse().expect("an address"),
        ..egress().endpoints
    };
    let id = ConnectionId {
        first_seen_ns: 3 * SECOND,
        serial: 0,
    };
    let (owner_provenance, opening) = (Provenance::Unknown, Opening::Attempt);
    Connection {
        id,
        endpoints,
        owner_provenance,
        opening,
        owner: None,
        peer: None,
        cause: None,
        domain: domain(KnownFrom::Host),
        ..egress()
    }
}

/// A connection over Multipath TCP.
pub fn multipath() -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: 4 * SECOND,
            serial: 0,
        },
        mptcp: true,
        peer: None,
        ..egress()
    }
}

/// Its second path.
fn subflow() -> Subflow {
    Subflow {
        endpoints: Endpoints {
            local: "127.0.0.2:51235".parse().expect("an address"),
            ..egress().endpoints
        },
        totals: Some(Totals {
            sent: 8,
            received: 6_123,
            ..Totals::default()
        }),
    }
}

/// What the samples are about; they borrow from it.
pub struct Samples {
    curl: Arc<Image>,
    server: Arc<Image>,
    awkward: Arc<Image>,
    egress: Connection,
    ingress: Connection,
    listener: Connection,
    existing: [Connection; 2],
    holders: [Arc<Image>; 2],
    unattributed: Connection,
    multipath: Connection,
    subflows: [Subflow; 1],
    /// Over UDP, and over a protocol without ports, whose owner is not known.
    flows: [Connection; 2],
    raw_sockets: [RawSocket; 3],
    lookups: [Lookup; 4],
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            curl: curl(),
            server: server(),
            awkward: awkward(),
            egress: egress(),
            ingress: ingress(),
            listener: listener(),
            existing: [
                existing(),
                Connection {
                    owner: Some(curl().key),
                    owner_provenance: Provenance::Inferred,
                    existing: true,
                    opening: Opening::Inventory,
                    ..listener()
                },
            ],
            holders: [curl(), awkward()],
            unattributed: unattributed(),
            multipath: multipath(),
            subflows: [subflow()],
            raw_sockets: raw_sockets(),
            lookups: lookups::all(),
            flows: flows(),
        }
    }
}

impl Samples {
    /// One observation of every kind, and of some kinds a second with less that is known.
    pub fn observations(&self) -> Vec<Observation<'_>> {
        let facts = self
            .process_facts()
            .into_iter()
            .chain(self.connection_facts())
            .chain(self.socket_facts())
            .chain(self.lookup_facts())
            .chain(self.flow_facts());
        let timed = |(index, fact)| Observation {
            time: time(index),
            fact,
        };
        facts.enumerate().map(timed).collect()
    }

    fn process_facts(&self) -> Vec<Fact<'_>> {
        vec![
            Fact::ProcessForked(&self.curl),
            Fact::ProcessExecuted(&self.curl),
            Fact::ProcessExecuted(&self.awkward),
            Fact::ProcessExecuted(&self.server),
            Fact::ProcessExited {
                process: &self.curl,
                status: 7 << 8,
            },
            Fact::ProcessExited {
                process: &self.awkward,
                status: 9,
            },
        ]
    }

    fn connection_facts(&self) -> Vec<Fact<'_>> {
        let (connection, process) = (&self.egress, Some(&self.curl));
        let totals = Totals {
            sent: 78,
            received: 1_256_123,
            rtt_us: Some(43),
            retransmits: 2,
        };
        let duration_ns = Some(12_345_678);
        let (refused, reset) = (Some(Errno(111)), Some(Errno(104)));
        vec![
            Fact::ListenOpened {
                connection: &self.listener,
                process: Some(&self.awkward),
                holders: &[],
            },
            Fact::ConnectionOpened {
                connection,
                process,
                connect_duration_ns: Some(54_321),
            },
            Fact::ConnectionAccepted {
                connection: &self.ingress,
                process: Some(&self.awkward),
            },
            Fact::ConnectionFailed {
                connection,
                process,
                errno: refused,
                state: ConnState::REJ,
            },
            Fact::ConnectionFailed {
                connection: &self.unattributed,
                process: None,
                errno: None,
                state: ConnState::S0,
            },
            Fact::ConnectionClosed {
                connection,
                process,
                totals: Some(totals),
                subflows: &[],
                duration_ns,
                state: ConnState::SF,
                errno: None,
            },
            Fact::ConnectionClosed {
                connection: &self.ingress,
                process: None,
                totals: None,
                subflows: &[],
                duration_ns: None,
                state: ConnState::RSTO,
                errno: reset,
            },
            Fact::ConnectionClosed {
                connection: &self.multipath,
                process,
                totals: Some(totals),
                subflows: &self.subflows,
                duration_ns,
                state: ConnState::SF,
                errno: None,
            },
            Fact::ListenOpened {
                connection: &self.existing[1],
                process,
                holders: &self.holders[..1],
            },
            Fact::ConnectionExisting {
                connection: &self.existing[0],
                process: None,
                holders: &self.holders,
                totals: Some(totals),
            },
            Fact::ListenClosed {
                connection: &self.listener,
                process: None,
            },
            Fact::Lost(Loss {
                stage: "ring",
                kind: "connect",
                unit: LossUnit::Record,
                count: 17,
            }),
        ]
    }

    fn socket_facts(&self) -> Vec<Fact<'_>> {
        let [icmp, everything, unnamed] = &self.raw_sockets;
        let opened = |socket, process, cause| Fact::SocketOpened {
            socket,
            process,
            cause,
        };
        let cause = self.curl.cause.as_deref();
        vec![
            opened(icmp, Some(&self.curl), cause),
            opened(everything, Some(&self.awkward), None),
            opened(unnamed, Some(&self.server), None),
        ]
    }
}

/// One for ICMP, one that sees everything, and one of which little is known.
fn raw_sockets() -> [RawSocket; 3] {
    let icmp = RawSocket {
        socket: Some(SocketId(0xffff_8880_1234_9abc)),
        task: Task {
            tgid: 4312,
            tid: 4312,
            start_ns: Some(curl().key.start_ns),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: curl().name,
        },
        netns: 4_026_531_840,
        family: RawFamily::Ipv4,
        socket_type: RawType::Raw,
        protocol: 1,
    };
    let everything = RawSocket {
        netns: 4_026_532_000,
        family: RawFamily::Packet,
        protocol: 3,
        ..icmp
    };
    let unnamed = RawSocket {
        socket: None,
        netns: 0,
        family: RawFamily::Ipv6,
        protocol: 200,
        ..icmp
    };
    [icmp, everything, unnamed]
}

/// A flow of UDP that is sent, and one of ICMP that comes.
fn flows() -> [Connection; 2] {
    let udp = Connection {
        id: ConnectionId {
            first_seen_ns: 5 * SECOND,
            serial: 0,
        },
        protocol: Protocol::UDP,
        opening: Opening::DatagramSent,
        peer: None,
        ..egress()
    };
    let icmp = Connection {
        id: ConnectionId {
            first_seen_ns: 5 * SECOND,
            serial: 1,
        },
        protocol: Protocol(1),
        endpoints: Endpoints {
            local: "192.0.2.1:0".parse().expect("an address"),
            remote: "192.0.2.2:0".parse().expect("an address"),
            ..udp.endpoints
        },
        direction: Direction::Ingress,
        owner: None,
        owner_provenance: Provenance::Unknown,
        opening: Opening::PacketReceived,
        cause: None,
        domain: None,
        ..udp.clone()
    };
    [udp, icmp]
}

impl Samples {
    fn flow_facts(&self) -> Vec<Fact<'_>> {
        let [udp, icmp] = &self.flows;
        let first = FlowTotals {
            sent_packets: 1,
            sent_bytes: 33,
            ..FlowTotals::default()
        };
        let later = FlowTotals {
            sent_packets: 1_000,
            sent_bytes: 100_000,
            received_packets: 500,
            received_bytes: 5_000,
            ..first
        };
        let told = |stage, totals, duration_ns| Fact::DatagramFlow {
            connection: udp,
            process: Some(&self.curl),
            stage,
            totals,
            new: totals,
            duration_ns,
        };
        vec![
            told(FlowStage::Start, first, None),
            told(FlowStage::Info, later, Some(60_000_000_000)),
            told(FlowStage::End, later, Some(61_000_000_000)),
            Fact::DatagramFlow {
                connection: icmp,
                process: None,
                stage: FlowStage::End,
                totals: FlowTotals {
                    received_packets: 1,
                    received_bytes: 64,
                    ..FlowTotals::default()
                },
                new: first,
                duration_ns: Some(0),
            },
        ]
    }

    fn lookup_facts(&self) -> Vec<Fact<'_>> {
        let processes = [
            Some(&self.curl),
            Some(&self.awkward),
            None,
            Some(&self.curl),
        ];
        let durations = [12_345_678, 987_654, 10_500_000_000, 3_000];
        let facts = self.lookups.iter().zip(processes).zip(durations);
        let fact = |((lookup, process), duration_ns)| Fact::Lookup {
            lookup,
            process,
            duration_ns,
        };
        facts.map(fact).collect()
    }
}

fn time(index: usize) -> BootTime {
    BootTime(10 * SECOND + index as u64 * 1_234_567)
}
