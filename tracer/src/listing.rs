//! The sockets that there are now, and whose they are.
//!
//! In: what /proc lists, what the kernel's walk over open files finds, and what is known of who opened
//! them. Out: a table or JSON lines.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::clock::{self, WallOffset};
use crate::event::{BootTime, Close, Endpoints, HeldSocket, TcpState, Transport};
use crate::host::Host;
use crate::kernel::netns;
use crate::kernel::proc_net::{self, Listed};
use crate::observation::Connection;
use crate::output::Context;
use crate::output::json::Json;
use crate::output::names::{self, HookNames};
use crate::output::socket::{self, Socket};
use crate::output::users::Users;
use crate::process::image::{Image, Provenance};
use crate::state::State;

/// Which sockets somebody wants to see, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// TCP sockets; if neither these nor UDP ones are asked for, both.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Only those that listen.
    pub listening: bool,
    /// Also what no process has to do with any more or yet.
    pub all: bool,
    /// Only those in these states, by their words in JSON; any if there is none.
    pub states: Vec<String>,
    /// JSON lines rather than a table.
    pub json: bool,
    /// Network namespace of who asks; 0 if unknown.
    pub netns: u32,
}

impl Query {
    /// The protocols that are asked for.
    pub fn transports(&self) -> impl Iterator<Item = Transport> {
        let both = self.tcp == self.udp;
        let asked = [(Transport::Tcp, self.tcp), (Transport::Udp, self.udp)];
        asked
            .into_iter()
            .filter(move |(_, asked)| both || *asked)
            .map(|(transport, _)| transport)
    }

    fn admits(&self, socket: &Socket) -> bool {
        let word = names::socket_state(socket.state).1;
        if !self.states.is_empty() {
            return self.states.iter().any(|state| state == word);
        }
        let is_passing = matches!(socket.state, TcpState::TimeWait | TcpState::SynReceived);
        (!self.listening || socket.is_listening()) && (self.all || !is_passing)
    }
}

/// A socket that processes have open.
#[derive(Clone, Debug)]
struct Held {
    transport: Transport,
    close: Close,
    mptcp: bool,
    connection: Option<Connection>,
    owner: Option<Arc<Image>>,
    owner_provenance: Provenance,
    holders: Vec<Arc<Image>>,
}

/// Sockets that processes have open.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// By the inodes of their files.
    held: HashMap<u64, Held>,
    /// The ends of further subflows of Multipath TCP connections: each connection is listed once.
    further: HashSet<Endpoints>,
}

impl Holdings {
    /// Adds what a walk found, each socket once for each holder and descriptor.
    pub fn add(&mut self, transport: Transport, found: Vec<HeldSocket>, state: &State) {
        let mut by_inode: HashMap<u64, Vec<HeldSocket>> = HashMap::new();
        for socket in found {
            if socket.close.further {
                self.further.insert(socket.close.endpoints);
                continue;
            }
            by_inode.entry(socket.inode).or_default().push(socket);
        }
        let held = by_inode.into_iter().filter_map(|(inode, all)| {
            let first = all.first()?;
            let (close, mptcp) = (first.close, first.upper.is_some());
            let (owner, owner_provenance) = state.owner(&all);
            let holders = state.holders(&all);
            Some((
                inode,
                Held {
                    transport,
                    close,
                    mptcp,
                    connection: state.connection(&close),
                    owner,
                    owner_provenance,
                    holders,
                },
            ))
        });
        self.held.extend(held);
    }
}

/// What /proc lists in every network namespace that a process is in. To be read before the walk, so that
/// whoever is then found to hold a socket is one that has held it since.
pub fn listed(query: &Query) -> Vec<Listed> {
    let processes = netns::processes();
    let lists = query.transports().flat_map(|transport| {
        let processes = processes.iter();
        processes.flat_map(move |(&netns, &pid)| proc_net::read(pid, netns, transport))
    });
    lists.collect()
}

/// Every socket that processes have open, seen from the namespace `netns`.
pub fn held(netns: u32, holdings: &Holdings, now: BootTime) -> Vec<Socket> {
    let query = Query {
        netns,
        ..Query::default()
    };
    sockets(&query, &[], holdings, now)
}

/// What was asked for, as it is printed.
pub fn answer(query: &Query, listed: &[Listed], holdings: &Holdings) -> Vec<u8> {
    let now = clock::boot_time();
    let mut sockets = sockets(query, listed, holdings, now);
    sockets.retain(|socket| query.admits(socket));
    sockets.sort_by_key(|it| {
        let ends = (it.endpoints.local, it.endpoints.remote);
        (it.transport, !it.is_listening(), it.endpoints.netns, ends)
    });
    if query.json {
        json(&sockets, now)
    } else {
        socket::table(&sockets).into_bytes()
    }
}

/// Every socket once: what /proc lists, and of what processes hold the rest.
fn sockets(query: &Query, listed: &[Listed], holdings: &Holdings, now: BootTime) -> Vec<Socket> {
    let Holdings { held, further } = holdings;
    let listed = || {
        let listed = listed.iter();
        listed.filter(|listed| !further.contains(&listed.endpoints))
    };
    let of_lists = listed().map(|listed| {
        let socket = Socket {
            has_file: listed.inode != 0,
            queues: Some((listed.receive_queue, listed.send_queue)),
            ..unowned(query, listed.transport, listed.state, &listed.endpoints)
        };
        match held.get(&listed.inode) {
            Some(held) => owned(socket, held),
            None => socket,
        }
    });
    let inodes: HashSet<u64> = listed().map(|listed| listed.inode).collect();
    let rest = held.iter().filter(|(inode, held)| {
        let is_unbound = held.transport == Transport::Udp && held.close.endpoints.local.port() == 0;
        !is_unbound && !inodes.contains(*inode)
    });
    let rest = rest.map(|(_, held)| {
        let close = &held.close;
        let socket = unowned(query, held.transport, close.old_state, &close.endpoints);
        owned(socket, held)
    });
    let mut sockets: Vec<Socket> = of_lists.chain(rest).collect();
    let port = |it: &Socket| (it.endpoints.netns, it.endpoints.local.port());
    let listeners = sockets.iter();
    let listening: HashSet<_> = listeners
        .filter(|it| it.transport == Transport::Tcp && it.is_listening())
        .map(port)
        .collect();
    let mut names = netns::Names::of_host();
    for socket in &mut sockets {
        let name = names.of(socket.endpoints.netns, now);
        socket.netns_name = name.map(str::to_owned);
        socket.is_ingress = socket.transport == Transport::Tcp && listening.contains(&port(socket));
    }
    sockets
}

fn unowned(query: &Query, transport: Transport, state: TcpState, endpoints: &Endpoints) -> Socket {
    Socket {
        transport,
        state,
        endpoints: *endpoints,
        netns_name: None,
        is_in_own_netns: query.netns == endpoints.netns,
        is_ingress: false,
        has_file: true,
        queues: None,
        totals: None,
        connection: None,
        owner: None,
        mptcp: false,
        owner_provenance: Provenance::Unknown,
        holders: Vec::new(),
    }
}

fn owned(socket: Socket, held: &Held) -> Socket {
    Socket {
        mptcp: held.mptcp,
        totals: held.close.totals,
        connection: held.connection.clone(),
        owner: held.owner.clone(),
        owner_provenance: held.owner_provenance,
        holders: held.holders.clone(),
        ..socket
    }
}

fn json(sockets: &[Socket], now: BootTime) -> Vec<u8> {
    let mut json = Json::new(Context {
        host: Host::read(),
        offset: WallOffset::measure(),
        hooks: HookNames::default(),
        users: Users::of_host(),
        netns: netns::Names::of_host(),
    });
    let mut out = Vec::new();
    for socket in sockets {
        json.socket(socket, now, &mut out);
    }
    out
}
