//! What is written comes back: the same documents, whatever files it lies in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::reader::{History, Kind};
use super::store::{self, Options};
use super::window::Window;
use super::{End, Item, What, Writer};
use crate::clock::WallOffset;
use crate::detect::rule::Severity;
use crate::detect::{Detection, EVIDENCE_MAX, Evidence, RULES};
use crate::dns::names::{Domain, KnownFrom};
use crate::dns::record::{Data, Record as DnsRecord};
use crate::dns::{Answer, Ending, Flags, Lookup, Question};
use crate::event::{
    BootTime, CgroupId, Endpoints, Errno, FileId, FileStatus, FileVersion, FlowTotals, Privileges,
    Protocol, RawFamily, RawSocket, Session, SocketId, Totals, Transport, Tty,
};
use crate::host::Host;
use crate::identity::BootId;
use crate::kernel::netns;
use crate::observation::{
    ConnState, Connection, ConnectionId, Direction, FlowStage, Loss, LossUnit, Opening, Subflow,
};
use crate::output::json::Json;
use crate::output::names::HookNames;
use crate::output::record::Record;
use crate::output::users::Users;
use crate::output::{Context, Format as _};
use crate::process::cause::{Cause, Certainty};
use crate::process::cgroup::Cgroup;
use crate::process::content::{Content, Facts, Origin, Package, PackageKind};
use crate::process::image::{Brief, Image, Parent, Program, Provenance, Relation};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-21T20:30:00Z.
const OFFSET: i64 = 1_795_293_000 * SECOND as i64;
const BEGIN: u64 = 100 * SECOND;
/// Longer than a file lasts.
const LATER: u64 = BEGIN + 7 * 3600 * SECOND;

fn context() -> Context {
    Context {
        host: Host {
            name: "host".into(),
            machine_id: None,
            boot_id: BootId([3; 16]),
        },
        offset: WallOffset::new(OFFSET),
        hooks: HookNames {
            connect: "fentry:tcp_connect".into(),
            ..HookNames::default()
        },
        users: Users::fixed(&[(0, "root")]),
        netns: netns::Names::fixed(1, &[]),
    }
}

fn writer(directory: &Path) -> (Writer, Arc<AtomicU64>) {
    let options = Options {
        directory: directory.to_owned(),
        size_limit: 1 << 30,
        age_limit: Duration::from_secs(3600),
        group: None,
    };
    let lost = Arc::new(AtomicU64::new(0));
    let writer = Writer::new(options, &mut context(), BootTime(BEGIN), Arc::clone(&lost));
    (writer, lost)
}

/// Writes batches into a new directory.
fn written(batches: Vec<Vec<Item>>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, lost) = writer(directory.path());
    for batch in batches {
        writer.batch(batch);
    }
    writer.finish();
    assert_eq!(lost.load(Ordering::Relaxed), 0);
    directory
}

fn open(directory: &TempDir, window: Window) -> History {
    let history = History::open(directory.path(), window).unwrap();
    assert_eq!(history.notes, [] as [&str; 0]);
    history
}

/// Everything of a kind, as JSON.
fn documents(directory: &TempDir, kind: Kind, window: Window) -> Vec<String> {
    let mut history = open(directory, window);
    let about = history.about();
    let mut documents = Vec::new();
    let mut add = |file: usize, item: Item| {
        documents.push(document(&item, about[file].context()));
        std::ops::ControlFlow::Continue(())
    };
    history.visit(kind, &mut add).unwrap();
    documents
}

fn document(item: &Item, context: Context) -> String {
    let mut line = Vec::new();
    let observation = item.observation().unwrap();
    Json::new(context).line(&Record::of(&observation), 0, &mut line);
    String::from_utf8(line).unwrap()
}

fn told(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| document(item, context())).collect()
}

/// Everything that can be known of a process.
fn image() -> Arc<Image> {
    let content = Content::new(FileVersion {
        id: FileId {
            device: 7,
            inode: u64::MAX,
        },
        size: 12_345,
        changed_ns: -5,
    });
    content.learn(Facts {
        sha256: Some([0xab; 32]),
        build_id: Some(Box::new([1, 2, 3])),
        origin: Origin::Package(Box::new(Package {
            kind: PackageKind::Deb,
            name: "curl".into(),
            version: "8.1\u{fc}".into(),
            architecture: "amd64".into(),
            intact: Some(false),
        })),
        users: None,
    });
    let file = FileStatus {
        version: *content.version(),
        mode: 0o104_755,
        links: 2,
        owner: 3,
        group: 4,
    };
    let program = Program {
        executable: b"/opt/\xff\"x\\/curl"[..].into(),
        file: Some(file),
        content: Some(Arc::new(content)),
        upper_layer: true,
        privileges: Privileges {
            setuid: true,
            setgid: false,
            capabilities: true,
        },
        script: "/opt/script".into(),
        deleted: true,
        arguments: Some(b"curl\0-s\0\xc3\xbc\0\0"[..].into()),
        arguments_masked: true,
        working_directory: "/root".into(),
        ..Program::default()
    };
    let shell = Arc::new(Image {
        program: Arc::new(Program {
            arguments: Some(b"sh\0\xff\0"[..].into()),
            ..Program::default()
        }),
        provenance: Provenance::Procfs,
        parent: Parent::Known(Relation::Present, Arc::new(Image::sample(1, b"init"))),
        depth: 1,
        ..Image::sample(10, b"sh")
    });
    let cgroup = format!(
        "/kubepods.slice/cri-containerd-{}.scope",
        "0123456789abcdef".repeat(4)
    );
    let id = CgroupId {
        hierarchy: 0,
        node: 1 << 63,
    };
    Arc::new(Image {
        key_rounded: true,
        euid: Some(0),
        program: Arc::new(program),
        cgroup: Some(Arc::new(Cgroup::new(id, cgroup.as_bytes()))),
        session: Session {
            login_uid: Some(0),
            id: Some(9),
            tty: Some(Tty(34_816)),
        },
        namespace_pid: Some(2),
        present_parent: Some(Arc::new(Brief::from(&*shell))),
        cause: Some(cause(8)),
        parent: Parent::Known(Relation::Birth, shell),
        depth: 2,
        ..Image::sample(20, b"c\xffurl")
    })
}

fn cause(first_seen_ns: u64) -> Arc<Cause> {
    let new = |serial, before| {
        let id = ConnectionId {
            first_seen_ns,
            serial,
        };
        let server = Brief::from(&Image::sample(30, b"server"));
        let peer = "[2001:db8::1]:99".parse().unwrap();
        Arc::new(Cause::new(
            id,
            peer,
            server,
            (Certainty::Possible, 2),
            before,
        ))
    };
    new(1, Some(new(2, None)))
}

fn connection(direction: Direction, number: u64, owner: Option<&Arc<Image>>) -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: BEGIN + number,
            serial: number as u32,
        },
        socket: SocketId(0),
        protocol: Protocol::TCP,
        endpoints: Endpoints {
            netns: 1,
            local: "10.0.0.1:60000".parse().unwrap(),
            remote: "192.0.2.7:443".parse().unwrap(),
            ipv6_socket: number.is_multiple_of(2),
        },
        direction,
        owner: owner.map(|owner| owner.key),
        owner_provenance: owner.map_or(Provenance::Unknown, |_| Provenance::Kernel),
        opening: Opening::Connect,
        peer: None,
        opened_at: Some(BootTime(BEGIN + number + 5)),
        existing: false,
        cause: owner.and_then(|owner| owner.cause.clone()),
        mptcp: false,
        domain: None,
    }
}

fn end() -> End {
    End {
        failed: false,
        totals: Some(Totals {
            sent: 5,
            received: 1 << 40,
            rtt_us: Some(77),
            retransmits: 3,
        }),
        subflows: Vec::new(),
        state: ConnState::SF,
        errno: None,
    }
}

fn item(time: u64, process: Option<&Arc<Image>>, what: What) -> Item {
    Item {
        time: BootTime(time),
        process: process.cloned(),
        what,
        over: None,
        beyond: None,
    }
}

fn ended(time: u64, process: Option<&Arc<Image>>, connection: Connection, end: End) -> Item {
    item(time, process, What::Ended(connection, Box::new(end)))
}

#[test]
fn connections_come_back_with_everything_that_is_known_of_them() {
    let owner = image();
    let items = || {
        let plain = connection(Direction::Egress, 1, Some(&owner));
        let rich = Connection {
            peer: Some(ConnectionId {
                first_seen_ns: BEGIN,
                serial: 4,
            }),
            cause: Some(cause(9)),
            mptcp: true,
            domain: Some(Domain {
                name: "example.org".into(),
                known_from: KnownFrom::Container,
            }),
            ..connection(Direction::Ingress, 2, Some(&owner))
        };
        let subflow = Subflow {
            endpoints: plain.endpoints,
            totals: end().totals,
        };
        let unknown = Connection {
            existing: true,
            opened_at: None,
            ..connection(Direction::Unknown, 3, None)
        };
        let refused = End {
            failed: true,
            totals: None,
            state: ConnState::REJ,
            errno: Some(Errno(111)),
            ..end()
        };
        vec![
            ended(BEGIN + 10, Some(&owner), plain, end()),
            ended(
                BEGIN + 11,
                Some(&owner),
                rich,
                End {
                    subflows: vec![subflow],
                    ..end()
                },
            ),
            ended(
                BEGIN + 12,
                None,
                unknown,
                End {
                    totals: None,
                    ..end()
                },
            ),
            ended(
                BEGIN + 13,
                Some(&owner),
                connection(Direction::Egress, 4, Some(&owner)),
                refused,
            ),
        ]
    };
    let directory = written(vec![items()]);
    assert_eq!(
        documents(&directory, Kind::Connections, Window::ALL),
        told(&items())
    );
}

#[test]
fn everything_else_comes_back_too() {
    let owner = image();
    let listener = Connection {
        endpoints: Endpoints {
            netns: 1,
            local: "[::]:22".parse().unwrap(),
            remote: "[::]:0".parse().unwrap(),
            ipv6_socket: true,
        },
        ..connection(Direction::Ingress, 1, Some(&owner))
    };
    let totals = FlowTotals {
        sent_packets: 1,
        sent_bytes: 2,
        received_packets: 3,
        received_bytes: 4,
        last: BootTime(BEGIN + 30),
    };
    let flow = Connection {
        protocol: Protocol::UDP,
        opening: Opening::DatagramSent,
        opened_at: Some(BootTime(BEGIN + 2)),
        ..connection(Direction::Egress, 2, Some(&owner))
    };
    let record = |kind, data| DnsRecord {
        name: "a.example".into(),
        kind,
        ttl: 60,
        data,
    };
    let answer = Answer {
        code: 3,
        flags: Flags {
            truncated: true,
            ..Flags::default()
        },
        records: vec![
            record(5, Data::Alias("b.example".into())),
            record(28, Data::Address("2001:db8::9".parse().unwrap())),
            record(16, Data::Text("\"text\"".into())),
        ],
        omitted: 7,
        malformed: false,
        incomplete: true,
    };
    let lookup = |ending| {
        let lookup = Lookup {
            endpoints: flow.endpoints,
            transport: Transport::Udp,
            id: 4711,
            question: Question {
                name: "a.example".into(),
                kind: 28,
                class: 1,
            },
            asked: Flags {
                recursion_desired: true,
                ..Flags::default()
            },
            attempts: 2,
            by_resolver: true,
            ending,
        };
        What::Lookup(Box::new(lookup), 99)
    };
    let loss = Loss {
        stage: "ring",
        kind: "exec",
        unit: LossUnit::Record,
        count: 5,
    };
    let raw = RawSocket::sample(RawFamily::Ipv6);
    let items = || {
        vec![
            (
                Kind::Processes,
                item(BEGIN + 20, Some(&owner), What::Executed),
            ),
            (Kind::Listeners, {
                let opened = BEGIN + 6;
                item(opened, Some(&owner), What::ListenOpened(listener.clone()))
            }),
            (Kind::Flows, {
                let what = What::Flow(flow.clone(), FlowStage::End, totals);
                item(BEGIN + 30, Some(&owner), what)
            }),
            (
                Kind::RawSockets,
                item(BEGIN + 40, Some(&owner), What::SocketOpened(raw)),
            ),
            (Kind::Losses, item(BEGIN + 60, None, What::Lost(loss))),
            (
                Kind::Exits,
                item(BEGIN + 70, Some(&owner), What::Exited { status: 9 }),
            ),
        ]
    };
    let lookups = || {
        vec![
            item(
                BEGIN + 50,
                Some(&owner),
                lookup(Ending::Answered(answer.clone())),
            ),
            item(BEGIN + 51, Some(&owner), lookup(Ending::Unanswered)),
            item(BEGIN + 52, None, lookup(Ending::Unknown)),
        ]
    };
    let mut batch: Vec<Item> = items().into_iter().map(|(_, item)| item).collect();
    batch.extend(lookups());
    let directory = written(vec![batch]);
    for (kind, item) in items() {
        assert_eq!(
            documents(&directory, kind, Window::ALL),
            told(&[item]),
            "{kind:?}"
        );
    }
    assert_eq!(
        documents(&directory, Kind::Lookups, Window::ALL),
        told(&lookups())
    );
}

fn detection(severity: Severity, evidence: Vec<Evidence>, total: u64) -> Detection {
    Detection {
        rule: RULES[severity as usize],
        severity,
        explanation: "\"c\\xffurl\" talked\u{1b} to 99 \u{fc}".to_owned(),
        evidence,
        evidence_total: total,
    }
}

#[test]
fn detections_come_back_with_the_contact_that_made_them_clear() {
    let owner = image();
    let of_process = Evidence::Process(owner.key, owner.key_rounded);
    let own = Connection {
        peer: Some(ConnectionId {
            first_seen_ns: BEGIN,
            serial: 4,
        }),
        cause: Some(cause(9)),
        mptcp: true,
        existing: true,
        domain: Some(Domain {
            name: "example.org".into(),
            known_from: KnownFrom::Container,
        }),
        ..connection(Direction::Egress, 1, Some(&owner))
    };
    let other = Arc::new(Image::sample(77, b"nc"));
    let of_another = connection(Direction::Ingress, 2, Some(&other));
    let listener = Connection {
        endpoints: Endpoints {
            netns: 1,
            local: "[::]:22".parse().unwrap(),
            remote: "[::]:0".parse().unwrap(),
            ipv6_socket: true,
        },
        ..connection(Direction::Ingress, 3, Some(&owner))
    };
    let many = (0..EVIDENCE_MAX as u64).map(|number| {
        let connection = connection(Direction::Egress, number, None);
        Evidence::Connection(connection.id)
    });
    let many: Vec<Evidence> = many.collect();
    let items = || {
        let item = |time, process, severity, evidence, total, connection| {
            let detection = detection(severity, evidence, total);
            let what = What::Detected(Box::new((detection, connection)));
            item(BEGIN + time, process, what)
        };
        let pair = |connection: &Connection| vec![of_process, Evidence::Connection(connection.id)];
        let (one, two, three) = (pair(&own), pair(&of_another), pair(&listener));
        let owner = Some(&owner);
        vec![
            item(10, owner, Severity::Low, vec![of_process], 1, None),
            item(11, owner, Severity::Medium, one, 2, Some(own.clone())),
            item(12, owner, Severity::High, two, 2, Some(of_another.clone())),
            item(13, owner, Severity::High, three, 2, Some(listener.clone())),
            item(14, None, Severity::Low, many.clone(), u64::MAX, None),
        ]
    };
    assert!(of_another.cause.is_none() && owner.cause.is_some());
    let directory = written(vec![items()]);
    assert_eq!(
        documents(&directory, Kind::Detections, Window::ALL),
        told(&items())
    );
    let since = |time: u64| Window {
        since: OFFSET + (BEGIN + time) as i64,
        until: i64::MAX,
    };
    assert_eq!(
        documents(&directory, Kind::Detections, since(13)),
        told(&items()[3..])
    );
}

#[test]
fn what_goes_on_stands_in_the_last_file_alone_and_what_ends_in_the_file_of_its_end() {
    let owner = image();
    let open = connection(Direction::Egress, 1, Some(&owner));
    let long = connection(Direction::Egress, 2, Some(&owner));
    let listener = connection(Direction::Ingress, 3, Some(&owner));
    let flow = |stage, last| {
        let connection = Connection {
            protocol: Protocol::UDP,
            ..connection(Direction::Egress, 4, Some(&owner))
        };
        let totals = FlowTotals {
            sent_packets: last,
            last: BootTime(last),
            ..FlowTotals::default()
        };
        item(last, Some(&owner), What::Flow(connection, stage, totals))
    };
    let directory = written(vec![
        vec![
            item(BEGIN, Some(&owner), What::Executed),
            item(BEGIN + 6, Some(&owner), What::Opened(open.clone())),
            item(BEGIN + 7, Some(&owner), What::Opened(long.clone())),
            item(
                BEGIN + 8,
                Some(&owner),
                What::ListenOpened(listener.clone()),
            ),
            flow(FlowStage::Start, BEGIN + 9),
        ],
        vec![
            flow(FlowStage::End, LATER),
            ended(LATER + 1, Some(&owner), long.clone(), end()),
            item(LATER + 2, Some(&owner), What::Exited { status: 0 }),
        ],
    ]);
    assert_eq!(store::files(directory.path()).unwrap().len(), 2);
    let begun = |ns: u64| OFFSET + ns as i64;
    let whole = Window {
        since: begun(BEGIN),
        until: i64::MAX,
    };
    let connections = || {
        told(&[
            ended(LATER + 1, Some(&owner), long.clone(), end()),
            item(BEGIN + 6, Some(&owner), What::Opened(open.clone())),
        ])
    };
    assert_eq!(
        documents(&directory, Kind::Connections, whole),
        connections()
    );
    let listeners = told(&[item(BEGIN + 8, Some(&owner), What::ListenOpened(listener))]);
    assert_eq!(documents(&directory, Kind::Listeners, whole), listeners);
    let flows = documents(&directory, Kind::Flows, whole);
    assert_eq!(flows, told(&[flow(FlowStage::End, LATER)]));
    // Of a time before its end, too, although that stands in a later file.
    let early = Window {
        since: begun(BEGIN),
        until: begun(BEGIN + 60 * SECOND),
    };
    assert_eq!(
        documents(&directory, Kind::Connections, early),
        connections()
    );
    let mut exits = Vec::new();
    let mut history = self::open(&directory, early);
    let mut add = |_, item: Item| {
        exits.push(item.over);
        std::ops::ControlFlow::Continue(())
    };
    history.visit(Kind::Processes, &mut add).unwrap();
    assert_eq!(exits, [Some((BootTime(LATER + 2), Some(0)))]);
}

#[test]
fn a_connection_that_began_after_the_window_is_not_in_it() {
    let owner = image();
    let items = vec![
        ended(
            BEGIN + 10 * SECOND,
            Some(&owner),
            connection(Direction::Egress, 9 * SECOND, Some(&owner)),
            end(),
        ),
        ended(
            BEGIN + 20 * SECOND,
            Some(&owner),
            connection(Direction::Egress, SECOND, Some(&owner)),
            end(),
        ),
    ];
    let directory = written(vec![items]);
    let count = |since: u64, until: u64| {
        let window = Window {
            since: OFFSET + (BEGIN + since * SECOND) as i64,
            until: OFFSET + (BEGIN + until * SECOND) as i64,
        };
        let history = History::open(directory.path(), window);
        let mut count = 0;
        let mut add = |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        history.unwrap().visit(Kind::Connections, &mut add).unwrap();
        count
    };
    assert_eq!(count(0, 30), 2);
    assert_eq!(count(2, 5), 1, "the one that lasted");
    assert_eq!(count(11, 15), 1, "likewise");
    assert_eq!(count(21, 30), 0);
    assert_eq!(count(9, 10), 2);
}

#[test]
fn ends_in_one_nanosecond_are_all_kept_with_their_identities() {
    let owner = image();
    let items = || -> Vec<Item> {
        let numbers = [1, 2, 3].into_iter();
        let ends = numbers.map(|number| {
            let connection = connection(Direction::Egress, number, Some(&owner));
            ended(BEGIN + 50, Some(&owner), connection, end())
        });
        ends.collect()
    };
    let directory = written(vec![items()]);
    let id = |document: &String| {
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        document["tracer"]["connection_id"].to_string()
    };
    let kept = documents(&directory, Kind::Connections, Window::ALL);
    let ids = |documents: &[String]| documents.iter().map(id).collect::<Vec<_>>();
    assert_eq!(ids(&kept), ids(&told(&items())));
}

#[test]
fn what_cannot_be_written_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken");
    std::fs::write(&path, "a file where a directory should be").unwrap();
    let (mut writer, lost) = writer(&path);
    let owner = image();
    for _ in 0..2 {
        writer.batch(vec![item(BEGIN, Some(&owner), What::Executed)]);
    }
    writer.finish();
    assert_eq!(lost.load(Ordering::Relaxed), 2);
}
