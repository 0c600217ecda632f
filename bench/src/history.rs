//! What the history costs: a day of a made-up host, written as the daemon writes it.
//!
//! In: how many connections the day had. Out: files of the history in a directory, as of a day that ends now; and
//! how fast one processor wrote them, and how large they are.
//!
//! Of ten connections six are accepted by a few servers from many clients, nearly four made by services that run all day,
//! and one of fifty is made by a process of its own, as of a job that cron starts. One of thirty fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tracer::clock::{self, WallOffset};
use tracer::dns::names::{Domain, KnownFrom};
use tracer::event::{
    BootTime, Endpoints, Errno, FileId, FileStatus, FileVersion, Name, ProcessKey, Protocol,
    Session, SocketId, Totals,
};
use tracer::history::store::{self, Options};
use tracer::history::{End, Item, What, Writer};
use tracer::host::Host;
use tracer::identity::BootId;
use tracer::kernel::netns;
use tracer::observation::{ConnState, Connection, ConnectionId, Direction, Opening};
use tracer::output::Context;
use tracer::output::names::HookNames;
use tracer::output::users::Users;
use tracer::process::fingerprint::Derived;
use tracer::process::image::{Image, Parent, Program, Provenance, Relation};

use crate::random::Random;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

const SERVERS: u64 = 12;
const CLIENTS: u64 = 30;
/// Programs that jobs run.
const JOBS: u64 = 40;
/// Addresses that connect, and that are connected to. Few have most of it.
const PEERS: u64 = 5_000;
const SERVICES: u64 = 200;

/// A peer that is met some times in the day only, by jobs.
pub(crate) const RARE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// Items in a batch, as the daemon makes them at load.
const BATCH: usize = 4096;

/// Writes the day.
pub(crate) fn write(directory: &Path, connections: u64) -> Result<Value> {
    ensure!(
        !directory.exists(),
        "{} exists: choose another directory",
        directory.display()
    );
    let options = Options {
        directory: directory.to_owned(),
        size_limit: u64::MAX,
        age_limit: Duration::from_secs(7 * 86_400),
        group: None,
    };
    let lost = Arc::new(AtomicU64::new(0));
    // The day ended just now.
    let begin = 10 * DAY;
    let now = WallOffset::measure().unix_nanoseconds(clock::boot_time());
    let offset = now - (begin + DAY) as i64;
    let mut context = context(offset);
    let mut writer = Writer::new(options, &mut context, BootTime(begin), Arc::clone(&lost));
    let mut host = MadeUp::new(begin);
    let (mut items, mut batch) = (0_u64, Vec::with_capacity(BATCH));
    let mut spent = 0;
    let mut hand_on = |batch: &mut Vec<Item>| {
        let before = thread_time();
        writer.batch(std::mem::take(batch));
        spent += thread_time() - before;
    };
    for number in 0..connections {
        let time = begin + (u128::from(DAY) * u128::from(number) / u128::from(connections)) as u64;
        items += host.connection(time, &mut batch);
        if batch.len() >= BATCH {
            hand_on(&mut batch);
        }
    }
    hand_on(&mut batch);
    let before = thread_time();
    writer.finish();
    spent += thread_time() - before;
    ensure!(lost.load(Ordering::Relaxed) == 0, "rows were lost");
    let bytes = bytes(directory)?;
    Ok(json!({
        "connections": connections,
        "items": items,
        "processes": host.jobs,
        "seconds": spent as f64 / SECOND as f64,
        "bytes": bytes,
        "files": store::files(directory)?.len(),
        "begin": wall(begin, offset)?,
        "last_ten_minutes": wall(begin + DAY - 600 * SECOND, offset)?,
    }))
}

/// Deletes half of it, as the daemon does when it has become too large.
pub(crate) fn retain(directory: &Path) -> Result<Value> {
    let before = bytes(directory)?;
    let options = Options {
        directory: directory.to_owned(),
        size_limit: before / 2,
        age_limit: Duration::from_secs(7 * 86_400),
        group: None,
    };
    let begin = std::time::Instant::now();
    store::retain(&options, std::time::SystemTime::now())?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(json!({"before": before, "after": bytes(directory)?, "seconds": seconds}))
}

/// A time of the day as people write it.
fn wall(time: u64, offset: i64) -> Result<String> {
    let time = Timestamp::from_nanosecond(i128::from(time) + i128::from(offset))?;
    Ok(time.to_string())
}

fn bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in directory.read_dir().context("reading the history")? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

fn context(offset: i64) -> Context {
    Context {
        host: Host {
            name: "made-up".into(),
            machine_id: None,
            boot_id: BootId([7; 16]),
        },
        offset: WallOffset::new(offset),
        hooks: HookNames {
            connect: "fentry:tcp_connect".into(),
            accept: "fexit:inet_csk_accept".into(),
            ..HookNames::default()
        },
        users: Users::fixed(&[(0, "root"), (1000, "app")]),
        netns: netns::Names::fixed(1, &[]),
    }
}

/// The host.
struct MadeUp {
    random: Random,
    cron: Arc<Image>,
    servers: Vec<Arc<Image>>,
    clients: Vec<Arc<Image>>,
    jobs: u64,
    serial: u32,
}

impl MadeUp {
    fn new(begin: u64) -> Self {
        let init = image(1, 1, "systemd", "/usr/lib/systemd/systemd", &[], None);
        let daemon = |pid, name: &str, path: &str, arguments: &[&str]| {
            image(
                pid,
                begin - DAY + u64::from(pid),
                name,
                path,
                arguments,
                Some(&init),
            )
        };
        let server = |number| {
            let (name, path) = (
                format!("server-{number}"),
                format!("/usr/sbin/server-{number}"),
            );
            daemon(100 + number as u32, &name, &path, &[&path, "--port", "443"])
        };
        let client = |number| {
            let (name, path) = (
                format!("client-{number}"),
                format!("/opt/client-{number}/bin/run"),
            );
            daemon(
                1000 + number as u32,
                &name,
                &path,
                &[&path, "--config", "/etc/client.toml"],
            )
        };
        Self {
            random: Random::new(1),
            cron: daemon(50, "cron", "/usr/sbin/cron", &["/usr/sbin/cron", "-f"]),
            servers: (0..SERVERS).map(server).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            jobs: 0,
            serial: 0,
        }
    }

    /// A connection that ends at `time`, and the process that made it, where that is one of its own.
    fn connection(&mut self, time: u64, batch: &mut Vec<Item>) -> u64 {
        let kind = self.random.below(1000);
        let lasted = 1_000_000 + self.random.wait(200_000_000);
        let opened = time - lasted;
        let before = batch.len();
        let failed = self.random.below(30) == 0 && kind >= 600;
        match kind {
            0..600 => {
                let server = self.random.below(SERVERS);
                let owner = Arc::clone(&self.servers[server as usize]);
                let peer = peer([203, 0], self.few(PEERS));
                let local =
                    SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 8000 + server as u16);
                let remote = SocketAddr::new(peer, self.port());
                let ends = (local, remote, Direction::Ingress);
                self.push(opened, time, &owner, ends, None, false, batch);
            }
            600..980 => {
                let client = self.random.below(CLIENTS);
                let owner = Arc::clone(&self.clients[client as usize]);
                let service = self.few(SERVICES);
                let ends = self.outwards(peer([198, 18], service), 443);
                self.push(opened, time, &owner, ends, Some(service), failed, batch);
            }
            _ => {
                let job = self.random.below(JOBS);
                let owner = self.job(job, opened - 5_000_000);
                batch.push(Item {
                    time: BootTime(opened - 4_000_000),
                    process: Some(Arc::clone(&owner)),
                    what: What::Executed,
                    over: None,
                    beyond: None,
                });
                let is_rare = self.jobs == 1 || job == 0 && self.random.below(100) == 0;
                let ends = if is_rare {
                    self.outwards(RARE.into(), 445)
                } else {
                    let service = self.few(SERVICES);
                    self.outwards(peer([198, 18], service), 443)
                };
                self.push(opened, time, &owner, ends, None, failed, batch);
                batch.push(Item {
                    time: BootTime(time + 1_000_000),
                    process: Some(owner),
                    what: What::Exited { status: 0 },
                    over: None,
                    beyond: None,
                });
            }
        }
        (batch.len() - before) as u64
    }

    /// A number of which the small ones are more frequent: half of them are of the first sixteenth.
    fn few(&mut self, count: u64) -> u64 {
        let fraction = self.random.below(1 << 20) as f64 / (1_u64 << 20) as f64;
        (fraction.powi(4) * count as f64) as u64
    }

    fn port(&mut self) -> u16 {
        self.random.between(32_768, 60_999) as u16
    }

    fn outwards(&mut self, ip: IpAddr, port: u16) -> (SocketAddr, SocketAddr, Direction) {
        let local = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), self.port());
        (local, SocketAddr::new(ip, port), Direction::Egress)
    }

    fn job(&mut self, job: u64, start: u64) -> Arc<Image> {
        self.jobs += 1;
        let pid = 10_000 + (self.jobs % 4_000_000) as u32;
        let (name, path) = (format!("job-{job}"), format!("/usr/lib/jobs/job-{job}"));
        image(
            pid,
            start,
            &name,
            &path,
            &[&path, "--once"],
            Some(&self.cron),
        )
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "each is a member of the same connection"
    )]
    fn push(
        &mut self,
        opened: u64,
        time: u64,
        owner: &Arc<Image>,
        (local, remote, direction): (SocketAddr, SocketAddr, Direction),
        domain: Option<u64>,
        failed: bool,
        batch: &mut Vec<Item>,
    ) {
        self.serial += 1;
        let is_ingress = direction == Direction::Ingress;
        let connection = Connection {
            id: ConnectionId {
                first_seen_ns: opened - if is_ingress { 40_000 } else { 0 },
                // Of those that are first seen while an earlier one is told.
                serial: if self.serial.is_multiple_of(16) {
                    self.serial / 16
                } else {
                    0
                },
            },
            socket: SocketId(0),
            protocol: Protocol::TCP,
            endpoints: Endpoints {
                netns: 1,
                local,
                remote,
                ipv6_socket: false,
            },
            direction,
            owner: Some(owner.key),
            owner_provenance: Provenance::Kernel,
            opening: if is_ingress {
                Opening::Accept
            } else {
                Opening::Connect
            },
            peer: None,
            opened_at: Some(BootTime(opened)),
            existing: false,
            cause: None,
            mptcp: false,
            domain: domain.map(|number| Domain {
                name: format!("service-{number}.example").into(),
                known_from: KnownFrom::Process,
            }),
        };
        let end = if failed {
            End {
                failed,
                totals: None,
                subflows: Vec::new(),
                state: ConnState::REJ,
                errno: Some(Errno(111)),
            }
        } else {
            batch.push(Item {
                time: BootTime(opened),
                process: Some(Arc::clone(owner)),
                what: What::Opened(connection.clone()),
                over: None,
                beyond: None,
            });
            End {
                failed,
                totals: Some(Totals {
                    sent: self.random.between(200, 5_000),
                    received: 300 + self.random.wait(20_000),
                    rtt_us: Some(self.random.between(100, 40_000) as u32),
                    retransmits: u32::from(self.random.below(50) == 0),
                }),
                subflows: Vec::new(),
                state: ConnState::SF,
                errno: None,
            }
        };
        batch.push(Item {
            time: BootTime(time),
            process: Some(Arc::clone(owner)),
            what: What::Ended(connection, Box::new(end)),
            over: None,
            beyond: None,
        });
    }
}

fn peer([a, b]: [u8; 2], number: u64) -> IpAddr {
    Ipv4Addr::new(a, b, (number >> 8) as u8, number as u8).into()
}

fn image(
    pid: u32,
    start: u64,
    name: &str,
    path: &str,
    arguments: &[&str],
    parent: Option<&Arc<Image>>,
) -> Arc<Image> {
    let mut comm = [0; 16];
    let length = name.len().min(15);
    comm[..length].copy_from_slice(&name.as_bytes()[..length]);
    let arguments: String = arguments
        .iter()
        .map(|argument| format!("{argument}\0"))
        .collect();
    let program = Program {
        executable: path.to_owned().into_bytes().into(),
        file: Some(FileStatus {
            version: FileVersion {
                id: FileId {
                    device: 1,
                    inode: path.len() as u64,
                },
                size: 100_000,
                changed_ns: 1,
            },
            mode: 0o100_755,
            links: 1,
            owner: 0,
            group: 0,
        }),
        arguments: Some(arguments.into_bytes().into()),
        working_directory: "/".into(),
        invoked_as: Name(comm),
        ..Program::default()
    };
    let known = |parent: &Arc<Image>| Parent::Known(Relation::Birth, Arc::clone(parent));
    Arc::new(Image {
        key: ProcessKey {
            tgid: pid,
            start_ns: start,
        },
        key_rounded: false,
        name: Name(comm),
        euid: Some(if pid < 100 { 0 } else { 1000 }),
        kernel_thread: false,
        program: Arc::new(program),
        cgroup: None,
        session: Session::default(),
        namespace_pid: None,
        has_host_root: true,
        in_user_namespace: false,
        parent: parent.map_or(Parent::Root, known),
        present_parent: None,
        provenance: Provenance::Kernel,
        depth: u32::from(parent.is_some()),
        cause: None,
        fingerprint: Derived::default(),
    })
}
