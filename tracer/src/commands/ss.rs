//! `tracer ss`: the sockets that there are now, and whose they are.
//!
//! In: the kernel's walks over open files and tasks, and what /proc lists. Out: a table or JSON lines. No
//! hook is attached: who opened a socket is concluded from who holds it.

use std::fmt::Display;

use aya::Ebpf;
use hashbrown::{HashMap, HashSet};

use super::live::require_privileges;
use super::print;
use crate::cli::{ReportFormat, SsArgs};
use crate::clock::{self, WallOffset};
use crate::event::{BootTime, HeldSocket, TcpState, Transport};
use crate::failure::Failure;
use crate::host::Host;
use crate::kernel::loader::{self, Unattached};
use crate::kernel::proc_net::{self, Listed};
use crate::kernel::{inventory, iterator, netns, sockets};
use crate::output::Context;
use crate::output::json::Json;
use crate::output::names::HookNames;
use crate::output::socket::{self, Socket};
use crate::output::users::Users;
use crate::state::{Limits, State};

pub(super) fn ss(args: &SsArgs) -> Result<(), Failure> {
    require_privileges()?;
    let mut sockets = Gathered::gather(args)?.sockets();
    sockets.retain(|socket| is_wanted(socket, args));
    sockets.sort_by_key(|it| {
        let ends = (it.endpoints.local, it.endpoints.remote);
        (it.transport, !it.is_listening(), it.endpoints.netns, ends)
    });
    match args.output {
        ReportFormat::Text => print(socket::table(&sockets).as_bytes()),
        ReportFormat::Json => print(&json(&sockets)),
    }
}

fn is_wanted(socket: &Socket, args: &SsArgs) -> bool {
    let is_passing = matches!(socket.state, TcpState::TimeWait | TcpState::SynReceived);
    if !args.state.is_empty() {
        return args.state.contains(&socket.state);
    }
    (!args.listening || socket.is_listening()) && (args.all || !is_passing)
}

fn json(sockets: &[Socket]) -> Vec<u8> {
    let mut json = Json::new(Context {
        host: Host::read(),
        offset: WallOffset::measure(),
        hooks: HookNames::default(),
        users: Users::of_host(),
        netns: netns::Names::of_host(),
    });
    let (now, mut out) = (clock::boot_time(), Vec::new());
    for socket in sockets {
        json.socket(socket, now, &mut out);
    }
    out
}

/// What the kernel said.
struct Gathered {
    /// Whoever lives, to tell holders from their records.
    state: State,
    /// Sockets that processes have open, by the inodes of their files.
    held: HashMap<u64, (Transport, Vec<HeldSocket>)>,
    /// The upper socket's files of Multipath TCP connections.
    multipath: HashSet<u64>,
    /// Sockets of namespaces that a process is in, held or not.
    listed: Vec<Listed>,
    own_netns: Option<u32>,
    names: netns::Names,
    at: BootTime,
}

impl Gathered {
    /// Sockets first: whoever holds one then has been there since.
    fn gather(args: &SsArgs) -> Result<Self, Failure> {
        let Unattached { mut ebpf, btf } = loader::load_only().map_err(Failure::unsupported)?;
        let both = args.tcp == args.udp;
        let mut held: HashMap<u64, (Transport, Vec<HeldSocket>)> = HashMap::new();
        let (mut multipath, mut further) = (HashSet::new(), HashSet::new());
        let mut listed = Vec::new();
        for (transport, is_asked) in [(Transport::Tcp, args.tcp), (Transport::Udp, args.udp)] {
            if !both && !is_asked {
                continue;
            }
            let found = sockets::held_once(&mut ebpf, &btf, transport).map_err(refused)?;
            for socket in found {
                if socket.upper.is_some() {
                    multipath.insert(socket.inode);
                }
                if socket.close.further {
                    further.insert(socket.close.endpoints);
                    continue;
                }
                let all = held
                    .entry(socket.inode)
                    .or_insert_with(|| (transport, Vec::new()));
                all.1.push(socket);
            }
            for (netns, pid) in netns::processes() {
                listed.extend(proc_net::read(pid, netns, transport));
            }
        }
        // One connection, whatever paths it has.
        listed.retain(|listed| !further.contains(&listed.endpoints));
        Ok(Self {
            state: processes(&mut ebpf, &btf)?,
            held,
            multipath,
            listed,
            own_netns: netns::own(),
            names: netns::Names::of_host(),
            at: clock::boot_time(),
        })
    }

    /// Every socket once: what /proc lists, and of what processes hold the rest.
    fn sockets(mut self) -> Vec<Socket> {
        let mut sockets: Vec<Socket> = self
            .listed
            .iter()
            .map(|listed| self.listed(listed))
            .collect();
        let listed: HashSet<u64> = self.listed.iter().map(|listed| listed.inode).collect();
        let rest = self
            .held
            .iter()
            .filter(|(inode, _)| !listed.contains(*inode));
        sockets.extend(rest.filter_map(|(_, (transport, held))| self.held(*transport, held)));
        let port = |it: &Socket| (it.endpoints.netns, it.endpoints.local.port());
        let listening: HashSet<_> = sockets
            .iter()
            .filter(|it| it.transport == Transport::Tcp && it.is_listening())
            .map(port)
            .collect();
        for socket in &mut sockets {
            let name = self.names.of(socket.endpoints.netns, self.at);
            socket.netns_name = name.map(str::to_owned);
            socket.is_ingress =
                socket.transport == Transport::Tcp && listening.contains(&port(socket));
        }
        sockets
    }

    fn listed(&self, listed: &Listed) -> Socket {
        let held = self.held.get(&listed.inode);
        let (owner, holders) =
            held.map_or_else(Default::default, |(_, held)| self.state.holders(held));
        Socket {
            transport: listed.transport,
            state: listed.state,
            endpoints: listed.endpoints,
            netns_name: None,
            is_in_own_netns: self.own_netns == Some(listed.endpoints.netns),
            is_ingress: false,
            has_file: listed.inode != 0,
            mptcp: self.multipath.contains(&listed.inode),
            queues: Some((listed.receive_queue, listed.send_queue)),
            owner,
            holders,
        }
    }

    fn held(&self, transport: Transport, held: &[HeldSocket]) -> Option<Socket> {
        let first = held.first()?;
        let close = &first.close;
        let (owner, holders) = self.state.holders(held);
        let is_unbound = transport == Transport::Udp && close.endpoints.local.port() == 0;
        (!is_unbound).then(|| Socket {
            transport,
            state: close.old_state,
            endpoints: close.endpoints,
            netns_name: None,
            is_in_own_netns: self.own_netns == Some(close.endpoints.netns),
            is_ingress: false,
            has_file: true,
            mptcp: first.upper.is_some(),
            queues: None,
            owner,
            holders,
        })
    }
}

/// Who lives.
fn processes(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<State, Failure> {
    let taken_at = clock::boot_time();
    let iterator = iterator::load(ebpf, btf, "existing_tasks", "task").map_err(refused)?;
    let inventory = inventory::from_iterator(iterator)
        .map_err(|error| Failure::failed(format_args!("cannot list the processes: {error}")))?;
    let mut state = State::new(Limits::default());
    state.inventory(taken_at, inventory.processes);
    Ok(state)
}

fn refused(reason: impl Display) -> Failure {
    Failure::unsupported(format_args!(
        "the kernel refuses its iterators over tasks and files: {reason}; see `tracer doctor`"
    ))
}
