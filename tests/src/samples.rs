//! One observation of every kind, fixed in every detail, for goldens, schemas and measurements.

mod connections;
mod detections;
mod hellos;
mod lookups;
mod processes;
mod raw_sockets;

use std::sync::Arc;

use tracer::clock::WallOffset;
use tracer::detect::Detection;
use tracer::dns::Lookup;
use tracer::event::{BootTime, Errno, FlowTotals, RawSocket, Totals};
use tracer::host::Host;
use tracer::identity::BootId;
use tracer::kernel::netns::Names;
use tracer::observation::{
    ConnState, Connection, Fact, FlowStage, Loss, LossUnit, Observation, Opening, Subflow,
};
use tracer::output::Context;
use tracer::output::names::{ByFamily, HookNames};
use tracer::output::users::Users;
use tracer::process::image::{Image, Provenance};
use tracer::tls::ClientHello;

pub use connections::ingress;
use connections::{egress, existing, flows, listener, multipath, subflow, unattributed};
use processes::{awkward, server};
pub use processes::{child_of, curl, image};

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
    hellos: [ClientHello; 3],
    detections: [Detection; 2],
    /// One without an owner, and one whose destination is named by nobody but its own client.
    greeted: [Connection; 2],
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
            raw_sockets: raw_sockets::all(),
            lookups: lookups::all(),
            hellos: hellos::all(),
            detections: detections::all(),
            greeted: [hellos::unowned(), hellos::named()],
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
            .chain(self.flow_facts())
            .chain(self.hello_facts())
            .chain(self.detection_facts());
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

    fn detection_facts(&self) -> Vec<Fact<'_>> {
        let [contact, process] = &self.detections;
        vec![
            Fact::Detected {
                detection: contact,
                connection: Some(&self.egress),
                process: Some(&self.curl),
            },
            Fact::Detected {
                detection: process,
                connection: None,
                process: Some(&self.awkward),
            },
        ]
    }

    fn hello_facts(&self) -> Vec<Fact<'_>> {
        let [usual, odd, unknown] = &self.hellos;
        let [unowned, named] = &self.greeted;
        let told = |hello, connection, process| Fact::ClientHello {
            hello,
            connection,
            process,
        };
        vec![
            told(usual, Some(&self.egress), Some(&self.curl)),
            told(odd, Some(unowned), None),
            told(unknown, None, None),
            Fact::ConnectionClosed {
                connection: named,
                process: Some(&self.awkward),
                totals: None,
                subflows: &[],
                duration_ns: None,
                state: ConnState::SF,
                errno: None,
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
