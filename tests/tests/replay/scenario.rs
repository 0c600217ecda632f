//! The language of scenarios: one event a line.
//!
//! ```text
//! existing-cgroup CGROUP PATH         was there at the start
//! existing PID NAME PARENT            in the start inventory; PARENT may be `-`; `reaper`, `start=`
//! processes-at-most COUNT             how many the table takes
//! detect                              detectors look at what happens
//! inventory-at TIME                   when the inventory was taken; 0ms unless told
//! TIME fork PARENT CHILD              the child starts at TIME
//! TIME exec PID PATH ARGUMENT…        the name becomes the last part of the path
//! TIME exit PID                       `status=`
//! TIME connect SOCKET PID LOCAL > REMOTE
//! TIME attempt SOCKET PID LOCAL > REMOTE
//! TIME connect-error SOCKET PID LOCAL > REMOTE ERRNO
//! TIME accept SOCKET PID LOCAL < REMOTE      `by-descriptor`, `by-peer-name`,
//!                                            `reset`: is in CLOSE, `handshaking`: in SYN_RECV
//! TIME listen SOCKET PID LOCAL
//! TIME established SOCKET LOCAL > REMOTE     with `<`: inbound
//! TIME subflow SOCKET UPPER LOCAL > REMOTE   of Multipath TCP; with `<`: inbound, `further`
//! TIME close SOCKET LOCAL > REMOTE STATE     `errno=`, `sent=`, `received=`, `no-totals`, `further`,
//!                                            `with-descriptor`: somebody still has it
//! TIME reset SOCKET
//! TIME raw-socket PID FAMILY TYPE PROTOCOL   `inet`, `inet6` or `packet`; `raw`, `dgram` or `packet`; a number
//! TIME cgroup-mkdir CGROUP PATH       CGROUP is a number
//! TIME cgroup-rmdir CGROUP
//! TIME cgroup-attach PID CGROUP       `path=`
//! TIME ask SOCKET PID LOCAL > SERVER ID NAME TYPE       by UDP; see `dns.rs`
//! TIME answer SOCKET LOCAL > SERVER ID NAME TYPE DATA…
//! TIME bytes SOCKET LOCAL > SERVER HEX       received by UDP
//! TIME hello SOCKET LOCAL > REMOTE NAME PROTOCOL…       begins a TLS handshake; see `hello.rs`
//! TIME advance
//! TIME held SOCKET PID DESCRIPTOR LOCAL > REMOTE STATE     who looks at the kernel's sockets finds this;
//!                                            `upper=`, `further`
//! TIME examined SOCKET LOCAL > REMOTE        and that this lies where SOCKET was; `gone`
//! TIME compare                        and has now seen all, since the first of what was found
//! ```
//!
//! An end that the kernel has cleared is `-`. Options of a PID: `comm=`, `start=` (a time), `euid=`,
//! `tid=`, `ids-only`; the first three are remembered for the PID. Of `existing`, `fork` and `exec`:
//! `cgroup=`, which is remembered too. Of `exec`: `input=`, `output=`, either `pipe:NUMBER` or `SOCKET:OWN-PORT:PEERS-PORT`;
//! `memfd`, `deleted`. Of ends: `netns=`, `mapped`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::dns;
use crate::hello;
use tracer::event::{
    AcceptSeen, BootTime, CgroupId, Close, Endpoints, Errno, Event, EventKind, ExaminedSocket,
    Exec, HeldSocket, Membership, Name, ProcessKey, SocketId, SocketMoment, Stream, Subflow, Task,
    TcpState, Totals,
};
use tracer::process::image::Program;
use tracer::process::inventory::ExistingProcess;
use tracer::state::{Limits, Snapshot};

use crate::raw_socket;

/// The errors that scenarios use.
pub(crate) const ERRNOS: [(&str, u32); 10] = [
    ("EPIPE", 32),
    ("EADDRNOTAVAIL", 99),
    ("ENETUNREACH", 101),
    ("ECONNABORTED", 103),
    ("ECONNRESET", 104),
    ("ETIMEDOUT", 110),
    ("ECONNREFUSED", 111),
    ("EHOSTUNREACH", 113),
    ("EINPROGRESS", 115),
    ("ECANCELED", 125),
];

const STATES: [(&str, TcpState); 9] = [
    ("ESTABLISHED", TcpState::Established),
    ("SYN_SENT", TcpState::SynSent),
    ("SYN_RECV", TcpState::SynReceived),
    ("FIN_WAIT1", TcpState::FinWait1),
    ("FIN_WAIT2", TcpState::FinWait2),
    ("CLOSE_WAIT", TcpState::CloseWait),
    ("LAST_ACK", TcpState::LastAck),
    ("LISTEN", TcpState::Listen),
    ("CLOSING", TcpState::Closing),
];

/// What happens, in order.
pub(crate) struct Scenario {
    /// In the order of the file.
    pub(crate) inventory: Vec<ExistingProcess>,
    /// The cgroups of the start.
    pub(crate) cgroups: Vec<(CgroupId, &'static [u8])>,
    /// When it was taken.
    pub(crate) inventory_at: BootTime,
    /// How large the tables may grow.
    pub(crate) limits: Limits,
    /// Whether detectors look at what happens.
    pub(crate) detect: bool,
    /// What comes after it.
    pub(crate) steps: Vec<Step>,
}

/// What reaches the state.
pub(crate) enum Step {
    /// From the ring.
    Event(Box<Event<'static>>),
    /// The ring is empty.
    Advance(BootTime),
    /// The kernel's own sockets.
    Compare(Snapshot),
}

/// Reads a scenario. An error names the line.
pub(crate) fn parse(text: &str) -> Result<Scenario, String> {
    let mut reader = Reader::default();
    let mut scenario = Scenario {
        inventory: Vec::new(),
        cgroups: Vec::new(),
        inventory_at: BootTime(0),
        limits: Limits::default(),
        detect: false,
        steps: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            reader
                .line(line, &mut scenario)
                .map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
        }
    }
    Ok(scenario)
}

/// What the scenario has told of a PID.
#[derive(Clone, Copy)]
struct Known {
    start_ns: u64,
    name: Name,
    euid: u32,
    cgroup: Option<CgroupId>,
}

#[derive(Default)]
struct Reader {
    processes: HashMap<u32, Known>,
    /// What has been found since the last comparison.
    found: Option<Snapshot>,
}

/// The words of a line, options apart.
pub(crate) struct Words<'a> {
    words: std::vec::IntoIter<&'a str>,
    options: Vec<&'a str>,
}

const FLAGS: [&str; 18] = [
    "ids-only",
    "mapped",
    "no-totals",
    "with-descriptor",
    "by-descriptor",
    "by-peer-name",
    "reset",
    "handshaking",
    "reaper",
    "gone",
    "further",
    "tcp",
    "cut",
    "tc",
    "encrypted",
    "wrong",
    "memfd",
    "deleted",
];

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let is_option = |word: &&str| {
            FLAGS.contains(word)
                || word
                    .split_once('=')
                    .is_some_and(|(key, _)| !key.contains('-'))
        };
        // The verb `reset` is no option.
        let (head, tail): (Vec<_>, Vec<_>) = line
            .split_whitespace()
            .enumerate()
            .partition(|(index, _)| *index < 2);
        let (options, words): (Vec<_>, Vec<_>) =
            tail.into_iter().map(|(_, word)| word).partition(is_option);
        let words: Vec<&str> = head
            .into_iter()
            .map(|(_, word)| word)
            .chain(words)
            .collect();
        Words {
            words: words.into_iter(),
            options,
        }
    }

    /// The word that comes next, if there is one.
    fn peek(&self) -> Option<&'a str> {
        self.words.as_slice().first().copied()
    }

    pub(crate) fn next(&mut self) -> Result<&'a str, String> {
        self.words
            .next()
            .ok_or_else(|| "something is missing".into())
    }

    pub(crate) fn number<T: FromStr>(&mut self) -> Result<T, String> {
        number(self.next()?)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.options.contains(&name)
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find_map(|option| {
            option
                .split_once('=')
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
        })
    }

    pub(crate) fn option_number<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.option(name).map(number).transpose()
    }
}

fn cgroup(word: &str) -> Result<CgroupId, String> {
    Ok(CgroupId {
        hierarchy: 0,
        node: number(word)?,
    })
}

fn cgroup_option(words: &Words<'_>) -> Result<Option<CgroupId>, String> {
    words.option("cgroup").map(cgroup).transpose()
}

fn membership(cgroup: Option<CgroupId>) -> Membership {
    Membership {
        cgroup,
        ..Membership::default()
    }
}

fn path(word: &str) -> &'static [u8] {
    word.as_bytes().to_vec().leak()
}

impl Reader {
    fn line(&mut self, line: &str, scenario: &mut Scenario) -> Result<(), String> {
        let mut words = Words::of(line);
        match words.next()? {
            "existing" => scenario.inventory.push(self.existing(&mut words)?),
            "existing-cgroup" => {
                let cgroup = cgroup(words.next()?)?;
                scenario.cgroups.push((cgroup, path(words.next()?)));
            }
            "processes-at-most" => {
                let count = words.next()?;
                scenario.limits.processes =
                    count.parse().map_err(|_| format!("no number: {count}"))?;
            }
            "detect" => scenario.detect = true,
            "inventory-at" => scenario.inventory_at = time(words.next()?)?,
            at => {
                let time = time(at)?;
                let verb = words.next()?;
                if matches!(verb, "held" | "examined") {
                    self.find(time, verb, &mut words)?;
                    return end(&mut words);
                }
                scenario.steps.push(match verb {
                    "advance" => Step::Advance(time),
                    "compare" => Step::Compare(Snapshot {
                        complete_at: time,
                        ..self.found.take().unwrap_or_default()
                    }),
                    _ => Step::Event(Box::new(Event {
                        time,
                        kind: self.event(time, verb, &mut words)?,
                    })),
                });
            }
        }
        end(&mut words)
    }

    /// Something that who looks at the kernel's sockets finds.
    fn find(&mut self, time: BootTime, verb: &str, words: &mut Words<'_>) -> Result<(), String> {
        let socket = socket(words)?;
        if verb == "examined" {
            let is_gone = words.flag("gone");
            let found = (!is_gone).then(|| ends(words)).transpose()?;
            let found = found.map(|(endpoints, _)| endpoints);
            let examined = ExaminedSocket { socket, found };
            self.found_since(time).examined.push(examined);
            return Ok(());
        }
        let holder = self.task(words)?;
        let descriptor = words.number()?;
        let held = HeldSocket {
            time,
            close: close_of(socket, words)?,
            holder,
            descriptor,
            inode: socket.0,
            upper: words.option("upper").map(socket_id).transpose()?,
        };
        self.found_since(time).held.push(held);
        Ok(())
    }

    fn found_since(&mut self, time: BootTime) -> &mut Snapshot {
        self.found.get_or_insert_with(|| Snapshot {
            begun_at: time,
            ..Snapshot::default()
        })
    }

    fn existing(&mut self, words: &mut Words<'_>) -> Result<ExistingProcess, String> {
        let tgid: u32 = words.number()?;
        let name = name(words.next()?);
        let parent = words.next()?;
        let start_ns = words
            .option("start")
            .map(time)
            .transpose()?
            .map_or(tgid.into(), |at| at.0);
        let euid = words.option_number("euid")?.unwrap_or(0);
        let cgroup = cgroup_option(words)?;
        self.processes.insert(
            tgid,
            Known {
                start_ns,
                name,
                euid,
                cgroup,
            },
        );
        let parent = match parent {
            "-" => None,
            parent => {
                let tgid = number(parent)?;
                let known = self
                    .processes
                    .get(&tgid)
                    .ok_or("its parent is listed after it")?;
                Some(ProcessKey {
                    tgid,
                    start_ns: known.start_ns,
                })
            }
        };
        Ok(ExistingProcess {
            key: ProcessKey { tgid, start_ns },
            key_rounded: false,
            parent,
            name,
            euid: Some(euid),
            kernel_thread: false,
            reaper: words.flag("reaper"),
            program: Arc::new(Program::default()),
            membership: membership(cgroup),
        })
    }

    fn event(
        &mut self,
        time: BootTime,
        verb: &str,
        words: &mut Words<'_>,
    ) -> Result<EventKind<'static>, String> {
        Ok(match verb {
            "fork" => self.fork(time, words)?,
            "exec" => EventKind::Exec(self.exec(words)?),
            "exit" => EventKind::Exit {
                task: self.task(words)?,
                status: words.option_number("status")?.unwrap_or(0),
            },
            "connect" => EventKind::Connect(self.moment(words)?),
            "attempt" => EventKind::Attempt(self.moment(words)?),
            "connect-error" => {
                let moment = self.moment(words)?;
                EventKind::ConnectError(moment, errno(words.next()?)?)
            }
            "accept" => {
                let seen = match (words.flag("by-descriptor"), words.flag("by-peer-name")) {
                    (true, _) => AcceptSeen::ByDescriptor,
                    (_, true) => AcceptSeen::ByPeerName,
                    _ => AcceptSeen::AtAccept,
                };
                EventKind::Accept(self.moment(words)?, seen)
            }
            "listen" => EventKind::Listen(self.listen(words)?),
            "established" => {
                let socket = socket(words)?;
                let (endpoints, inbound) = ends(words)?;
                EventKind::Established {
                    socket,
                    endpoints,
                    inbound,
                }
            }
            "subflow" => {
                let (socket, upper) = (socket(words)?, socket(words)?);
                let (endpoints, inbound) = ends(words)?;
                EventKind::Subflow(Subflow {
                    socket,
                    upper,
                    endpoints,
                    further: words.flag("further"),
                    inbound,
                })
            }
            "close" => EventKind::Close(close(words)?),
            "reset" => EventKind::ResetSent(socket(words)?),
            "raw-socket" => {
                let task = self.task(words)?;
                let wanted = [words.next()?, words.next()?, words.next()?];
                EventKind::SocketCreated(raw_socket::read(task, wanted)?)
            }
            "cgroup-mkdir" => EventKind::CgroupMkdir {
                cgroup: cgroup(words.next()?)?,
                path: path(words.next()?),
            },
            "cgroup-rmdir" => EventKind::CgroupRmdir(cgroup(words.next()?)?),
            "cgroup-attach" => self.cgroup_attach(words)?,
            "ask" => {
                let socket = socket(words)?;
                // `-`: the kernel names nobody.
                let is_known = words.peek() != Some("-");
                let task = is_known.then(|| self.task(words)).transpose()?;
                if !is_known {
                    words.next()?;
                }
                dns::ask(socket, task, words)?
            }
            "answer" => dns::answer(socket(words)?, words)?,
            "bytes" => dns::bytes(socket(words)?, words)?,
            "hello" => hello::read(socket(words)?, words)?,
            verb => return Err(format!("{verb} is unknown")),
        })
    }

    fn fork(
        &mut self,
        time: BootTime,
        words: &mut Words<'_>,
    ) -> Result<EventKind<'static>, String> {
        let parent = self.task(words)?;
        let tgid = words.number()?;
        let start_ns = time.0;
        let euid = parent.euid.unwrap_or(0);
        let of_parent = self.processes[&parent.tgid].cgroup;
        let cgroup = cgroup_option(words)?.or(of_parent);
        self.processes.insert(
            tgid,
            Known {
                start_ns,
                name: parent.name,
                euid,
                cgroup,
            },
        );
        Ok(EventKind::Fork {
            parent,
            child: ProcessKey { tgid, start_ns },
            membership: membership(cgroup),
        })
    }

    fn cgroup_attach(&mut self, words: &mut Words<'_>) -> Result<EventKind<'static>, String> {
        let task = self.task(words)?;
        let cgroup = cgroup(words.next()?)?;
        let known = self.processes.get_mut(&task.tgid).ok_or("no such PID")?;
        known.cgroup = Some(cgroup);
        let start_ns = known.start_ns;
        Ok(EventKind::CgroupAttach {
            process: ProcessKey {
                tgid: task.tgid,
                start_ns,
            },
            cgroup,
            path: words.option("path").map(path),
        })
    }

    fn exec(&mut self, words: &mut Words<'_>) -> Result<Exec<'static>, String> {
        let mut task = self.task(words)?;
        let path = words.next()?;
        task.name = name(path.rsplit('/').next().unwrap_or(path));
        self.processes
            .entry(task.tgid)
            .and_modify(|known| known.name = task.name);
        let cgroup = cgroup_option(words)?.or(self.processes[&task.tgid].cgroup);
        let components: Vec<u8> = path
            .split('/')
            .rev()
            .filter(|component| !component.is_empty())
            .flat_map(|component| [component.as_bytes(), b"\0"].concat())
            .collect();
        let args: Vec<u8> = words
            .words
            .by_ref()
            .flat_map(|word| [word.as_bytes(), b"\0"].concat())
            .collect();
        Ok(Exec {
            args: args.leak(),
            membership: membership(cgroup),
            streams: [
                stream(words.option("input"))?,
                stream(words.option("output"))?,
            ],
            memfd: words.flag("memfd"),
            deleted: words.flag("deleted"),
            ..Exec::of(task, components.leak())
        })
    }

    /// The PID that comes next, with what is known of it.
    fn task(&mut self, words: &mut Words<'_>) -> Result<Task, String> {
        let tgid: u32 = words.number()?;
        let start = words.option("start").map(time).transpose()?;
        let first = Known {
            start_ns: tgid.into(),
            name: name("unknown"),
            euid: 0,
            cgroup: None,
        };
        let known = self.processes.entry(tgid).or_insert(first);
        known.start_ns = start.map_or(known.start_ns, |at| at.0);
        known.name = words.option("comm").map_or(known.name, name);
        known.euid = words.option_number("euid")?.unwrap_or(known.euid);
        let readable = !words.flag("ids-only");
        Ok(Task {
            tgid,
            tid: words.option_number("tid")?.unwrap_or(tgid),
            start_ns: readable.then_some(known.start_ns),
            euid: readable.then_some(known.euid),
            kernel_thread: false,
            parent: None,
            name: known.name,
        })
    }

    fn moment(&mut self, words: &mut Words<'_>) -> Result<SocketMoment, String> {
        let socket = socket(words)?;
        let task = self.task(words)?;
        let (endpoints, _) = ends(words)?;
        let state = if words.flag("reset") {
            TcpState::Close
        } else if words.flag("handshaking") {
            TcpState::SynReceived
        } else {
            TcpState::Established
        };
        Ok(SocketMoment {
            socket,
            task,
            endpoints,
            state,
        })
    }

    fn listen(&mut self, words: &mut Words<'_>) -> Result<SocketMoment, String> {
        let socket = socket(words)?;
        let task = self.task(words)?;
        let local = words.next()?;
        let endpoints = endpoints(local, "-", words)?;
        Ok(SocketMoment {
            socket,
            task,
            endpoints,
            state: TcpState::Listen,
        })
    }
}

fn end(words: &mut Words<'_>) -> Result<(), String> {
    words
        .next()
        .map_or(Ok(()), |word| Err(format!("{word} is too much")))
}

fn close(words: &mut Words<'_>) -> Result<Close, String> {
    let socket = socket(words)?;
    close_of(socket, words)
}

fn close_of(socket: SocketId, words: &mut Words<'_>) -> Result<Close, String> {
    let (endpoints, _) = ends(words)?;
    let state = words.next()?;
    let known = STATES.iter().find(|(name, _)| *name == state);
    let totals = Totals {
        sent: words.option_number("sent")?.unwrap_or(0),
        received: words.option_number("received")?.unwrap_or(0),
        rtt_us: words.option_number("rtt")?,
        retransmits: words.option_number("retransmits")?.unwrap_or(0),
    };
    Ok(Close {
        socket,
        endpoints,
        old_state: known.ok_or(format!("{state} is no state"))?.1,
        errno: words.option("errno").map(errno).transpose()?,
        fin_received: false,
        held: words.flag("with-descriptor"),
        further: words.flag("further"),
        totals: (!words.flag("no-totals")).then_some(totals),
    })
}

/// Both ends, and whether the arrow between them points inwards.
pub(crate) fn ends(words: &mut Words<'_>) -> Result<(Endpoints, bool), String> {
    let local = words.next()?;
    let inbound = match words.next()? {
        ">" => false,
        "<" => true,
        arrow => return Err(format!("{arrow} is no arrow")),
    };
    let remote = words.next()?;
    Ok((endpoints(local, remote, words)?, inbound))
}

fn endpoints(local: &str, remote: &str, words: &Words<'_>) -> Result<Endpoints, String> {
    let end = |text: &str, other: &str| -> Result<SocketAddr, String> {
        let cleared = if other.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let text = if text == "-" { cleared } else { text };
        text.parse()
            .map_err(|_| format!("{text} is no address with port"))
    };
    let (local, remote) = (end(local, remote)?, end(remote, local)?);
    Ok(Endpoints {
        netns: words.option_number("netns")?.unwrap_or(1),
        local,
        remote,
        ipv6_socket: words.flag("mapped") || local.is_ipv6(),
    })
}

fn socket(words: &mut Words<'_>) -> Result<SocketId, String> {
    socket_id(words.next()?)
}

fn socket_id(socket: &str) -> Result<SocketId, String> {
    let number = socket
        .strip_prefix('s')
        .ok_or(format!("{socket} is no socket"))?;
    Ok(SocketId(self::number(number)?))
}

/// `pipe:7`, or `s1:990:7000`.
fn stream(text: Option<&str>) -> Result<Stream, String> {
    let Some((kind, rest)) = text.map(|text| text.split_once(':').unwrap_or((text, ""))) else {
        return Ok(Stream::Other);
    };
    if kind == "pipe" {
        return number(rest).map(Stream::Pipe);
    }
    let (own, peer) = rest.split_once(':').ok_or(format!("{kind} has no ports"))?;
    Ok(Stream::Socket(
        socket_id(kind)?,
        [number(own)?, number(peer)?],
    ))
}

fn errno(name: &str) -> Result<Errno, String> {
    let known = ERRNOS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, number)| Errno(*number))
        .ok_or(format!("{name} is no error"))
}

fn name(text: &str) -> Name {
    let mut name = Name::default();
    let length = text.len().min(15);
    name.0[..length].copy_from_slice(&text.as_bytes()[..length]);
    name
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn time(text: &str) -> Result<BootTime, String> {
    let ms = text
        .strip_suffix("ms")
        .ok_or(format!("{text} is no time"))?;
    let (whole, fraction) = ms.split_once('.').unwrap_or((ms, ""));
    let ns: u64 = number(&format!("{fraction:0<6}"))?;
    Ok(BootTime(number::<u64>(whole)? * 1_000_000 + ns))
}
