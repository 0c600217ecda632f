//! What happens on the made-up host: a busy server, as the hooks of fentry mode see it.
//!
//! In: a seed. Out: records in the order in which the kernel would have reserved them, always the
//! same. Each activity writes down all its records when it begins, and these become due in time. So
//! connections overlap, commands run beside them, and memory of sockets is used again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_common::record::{CLOSE_FIN_RECEIVED, Task};

use crate::population::{
    self, BASH, Births, COMMANDS, CONTAINERD, CURL, GUNICORN, INIT, NGINX, POSTGRES, Program, SHIM,
    SSHD, SUPERVISOR, TINI,
};
use crate::random::Random;
use crate::ring::Ring;
use crate::wire::{self, End, FIN_WAIT2, LAST_ACK, Sock};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;

/// Mean time between the beginnings of two activities. An activity has three records or so, so that
/// there are some ten thousand records a second.
const PAUSE: u64 = 300 * MICROSECOND;

pub(crate) const HOST_NETNS: u32 = 4_026_531_840;
const CONTAINERS: u32 = 10;

const EHOSTUNREACH: u32 = 113;
const ECONNRESET: u32 = 104;
const ECONNREFUSED: u32 = 111;

/// Who listens where, and who takes connections from there.
struct Server {
    listener: Sock,
    acceptors: Vec<Task>,
}

/// Who connects, and in which network namespace.
struct Client {
    task: Task,
    netns: u32,
}

/// A record that becomes due, and the socket whose memory is free from then on.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: u64,
    /// In which order they were written down, for those of one time.
    number: u64,
    record: Vec<u8>,
    frees: Option<u64>,
}

/// The host, at some moment.
pub(crate) struct Host {
    random: Random,
    now: u64,
    due: BinaryHeap<Reverse<Due>>,
    written: u64,
    births: Births,
    servers: Vec<Server>,
    clients: Vec<Client>,
    shells: Vec<Task>,
    free_sockets: Vec<u64>,
    sockets: u64,
}

/// How often an activity begins, of a thousand times, and what does.
type Activity = (u64, fn(&mut Host));

const ACTIVITIES: [Activity; 10] = [
    (260, Host::local_connection),
    (210, Host::outbound_connection),
    (250, Host::inbound_connection),
    (25, Host::refused_connection),
    (5, Host::unreachable_peer),
    (30, Host::reset_connection),
    (140, Host::command),
    (50, Host::fetching_command),
    (25, Host::fork_without_exec),
    (5, Host::short_listener),
];

impl Host {
    /// A host whose servers, clients and shells are about to start.
    pub(crate) fn new(seed: u64) -> Self {
        let mut host = Self {
            random: Random::new(seed),
            now: 100 * SECOND,
            due: BinaryHeap::new(),
            written: 0,
            births: Births::new(),
            servers: Vec::new(),
            clients: Vec::new(),
            shells: Vec::new(),
            free_sockets: Vec::new(),
            sockets: 0,
        };
        host.start_services();
        (0..CONTAINERS).for_each(|number| host.start_container(number));
        host.start_sessions();
        host
    }

    /// Appends records until the ring has `count`.
    pub(crate) fn run(&mut self, count: usize, ring: &mut Ring) {
        while ring.len() < count {
            let is_due = |due: &Reverse<Due>| due.0.time <= self.now;
            if self.due.peek().is_some_and(is_due)
                && let Some(Reverse(due)) = self.due.pop()
            {
                ring.push(&due.record);
                self.free_sockets.extend(due.frees);
            } else {
                self.begin_activity();
                self.now += self.random.wait(PAUSE);
            }
        }
    }

    fn begin_activity(&mut self) {
        let mut dice = self.random.below(1_000);
        for (weight, begin) in ACTIVITIES {
            if dice < weight {
                return begin(self);
            }
            dice -= weight;
        }
    }

    fn tell(&mut self, time: u64, record: Vec<u8>) {
        self.tell_last(time, record, None);
    }

    /// Tells the close of a socket, after which its memory is used for others.
    fn tell_close(&mut self, time: u64, sock: &Sock, end: End) {
        self.tell_last(time, wire::close(time, sock, end), Some(sock.address));
    }

    fn tell_last(&mut self, time: u64, record: Vec<u8>, frees: Option<u64>) {
        let number = self.written;
        self.written += 1;
        self.due.push(Reverse(Due {
            time,
            number,
            record,
            frees,
        }));
    }
}

/// Processes.
impl Host {
    fn fork(&mut self, time: u64, parent: Task) -> Task {
        let (child, record) = self.births.fork(time, parent);
        self.tell(time, record);
        child
    }

    fn exec(&mut self, time: u64, task: Task, program: &Program) -> Task {
        let (task, record) = population::exec(time, task, program, &mut self.random);
        self.tell(time, record);
        task
    }

    /// A child that runs another program.
    fn spawn(&mut self, time: u64, parent: Task, program: &Program) -> Task {
        let child = self.fork(time, parent);
        self.exec(time + 300 * MICROSECOND, child, program)
    }

    fn exit(&mut self, time: u64, task: Task) {
        let status = if self.random.below(10) == 0 { 256 } else { 0 };
        self.tell(time, wire::exit(time, task, status));
    }

    /// Starts something that stays. Long before anything else happens, one after another.
    fn start(&mut self, parent: Task, program: &Program) -> Task {
        let task = self.spawn(self.now, parent, program);
        self.now += MILLISECOND;
        task
    }

    /// Forks something that stays.
    fn start_workers(&mut self, parent: Task, count: usize) -> Vec<Task> {
        let fork = |_| {
            self.now += MILLISECOND;
            self.fork(self.now, parent)
        };
        (0..count).map(fork).collect()
    }

    fn start_services(&mut self) {
        let nginx = self.start(INIT, &NGINX);
        let workers = self.start_workers(nginx, 8);
        for port in [80, 443] {
            self.start_server(nginx, HOST_NETNS, port, workers.clone());
        }
        self.add_clients(HOST_NETNS, &workers);
        let postgres = self.start(INIT, &POSTGRES);
        let backends = self.start_workers(postgres, 40);
        self.start_server(postgres, HOST_NETNS, 5432, vec![postgres]);
        self.add_clients(HOST_NETNS, &backends[..4]);
    }

    /// An application six generations below PID 1.
    fn start_container(&mut self, number: u32) {
        let netns = HOST_NETNS + 1 + number;
        let containerd = self.start(INIT, &CONTAINERD);
        let shim = self.start(containerd, &SHIM);
        let tini = self.start(shim, &TINI);
        let supervisor = self.start(tini, &SUPERVISOR);
        let gunicorn = self.start(supervisor, &GUNICORN);
        let workers = self.start_workers(gunicorn, 12);
        self.start_server(gunicorn, netns, 8000, workers.clone());
        self.add_clients(netns, &workers);
    }

    fn start_sessions(&mut self) {
        let sshd = self.start(INIT, &SSHD);
        self.start_server(sshd, HOST_NETNS, 22, vec![sshd]);
        for _ in 0..20 {
            let session = self.start(sshd, &SSHD);
            let shell = self.start(session, &BASH);
            let inner = self.start(shell, &BASH);
            self.shells.push(inner);
        }
    }

    fn add_clients(&mut self, netns: u32, tasks: &[Task]) {
        let client = |&task: &Task| Client { task, netns };
        self.clients.extend(tasks.iter().map(client));
    }

    /// A shell runs a command.
    fn command(&mut self) {
        let shell = *self.random.one_of(&self.shells);
        let program = self.random.one_of(&COMMANDS);
        let task = self.spawn(self.now, shell, program);
        let end = self.now + MILLISECOND + self.random.wait(10 * MILLISECOND);
        self.exit(end, task);
    }

    /// A shell runs a command that makes a connection.
    fn fetching_command(&mut self) {
        let shell = *self.random.one_of(&self.shells);
        let task = self.spawn(self.now, shell, &CURL);
        let peer = self.peer(443);
        let end = self.outbound(self.now + 5 * MILLISECOND, task, HOST_NETNS, peer);
        self.exit(end + MILLISECOND, task);
    }

    /// A worker does something in a child, without another program.
    fn fork_without_exec(&mut self) {
        let parent = self.random.one_of(&self.clients).task;
        let child = self.fork(self.now, parent);
        let end = self.now + MILLISECOND + self.random.wait(20 * MILLISECOND);
        self.exit(end, child);
    }
}

/// Connections.
impl Host {
    fn start_server(&mut self, owner: Task, netns: u32, port: u16, acceptors: Vec<Task>) {
        let listener = self.listener(netns, port);
        self.tell(self.now, wire::listen(self.now, owner, &listener));
        self.servers.push(Server {
            listener,
            acceptors,
        });
    }

    /// Takes both families.
    fn listener(&mut self, netns: u32, port: u16) -> Sock {
        Sock {
            address: self.socket(),
            netns,
            local: (Ipv6Addr::UNSPECIFIED, port).into(),
            remote: (Ipv6Addr::UNSPECIFIED, 0).into(),
            is_ipv6: true,
        }
    }

    /// Memory for a socket: what was freed last is used first.
    fn socket(&mut self) -> u64 {
        self.free_sockets.pop().unwrap_or_else(|| {
            self.sockets += 1;
            0xffff_8881_0000_0000 + self.sockets * 2_304
        })
    }

    fn ephemeral_port(&mut self) -> u16 {
        self.random.between(32_768, 60_999) as u16
    }

    /// Another host, mostly one of a few.
    fn peer(&mut self, port: u16) -> SocketAddr {
        let is_ipv4 = self.random.below(10) < 7;
        let number = match self.random.below(4) {
            0 => self.random.below(1 << 16),
            _ => self.random.below(32),
        };
        let [high, low] = [(number >> 8) as u8, number as u8];
        let ip: IpAddr = if is_ipv4 {
            Ipv4Addr::new(203, 0, high, low).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number as u16).into()
        };
        (ip, port).into()
    }

    /// This host's address towards `peer`.
    fn own_address(netns: u32, peer: IpAddr) -> IpAddr {
        let number = (netns - HOST_NETNS) as u16;
        match peer {
            IpAddr::V4(_) => Ipv4Addr::new(10, 244, 0, number as u8 + 2).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number + 2).into(),
        }
    }

    fn outbound_socket(&mut self, netns: u32, peer: SocketAddr) -> Sock {
        let local = (Self::own_address(netns, peer.ip()), self.ephemeral_port());
        Sock {
            address: self.socket(),
            netns,
            local: local.into(),
            remote: peer,
            // Some programs use an IPv6 socket for everything.
            is_ipv6: peer.is_ipv6() || self.random.below(8) == 0,
        }
    }

    /// How long a connection lasts: mostly a request, now and then a session.
    fn lifetime(&mut self) -> u64 {
        let mean = match self.random.below(20) {
            0 => 5 * SECOND,
            _ => 20 * MILLISECOND,
        };
        MILLISECOND + self.random.wait(mean)
    }

    /// An end in order, as one of both sides sees it.
    fn end(&mut self, old_state: u8) -> End {
        End {
            old_state,
            flags: CLOSE_FIN_RECEIVED,
            sent: self.random.wait(2_000),
            received: self.random.wait(20_000) + 1,
            rtt_us: 20 + self.random.wait(300) as u32,
            ..End::default()
        }
    }

    /// Returns when it ends.
    fn outbound(&mut self, time: u64, task: Task, netns: u32, peer: SocketAddr) -> u64 {
        let sock = self.outbound_socket(netns, peer);
        let established = time + 200 * MICROSECOND;
        let closed = established + self.lifetime();
        let end = self.end_in_order();
        self.tell(time, wire::connect(time, task, &sock));
        self.tell(established, wire::established(established, &sock));
        self.tell_close(closed, &sock, end);
        closed
    }

    /// Who closes first was in FIN_WAIT2 at last.
    fn end_in_order(&mut self) -> End {
        let old_state = *self.random.one_of(&[FIN_WAIT2, LAST_ACK]);
        self.end(old_state)
    }

    fn outbound_connection(&mut self) {
        let client = self.random.one_of(&self.clients);
        let (task, netns) = (client.task, client.netns);
        let port = *self.random.one_of(&[443, 5432, 6379, 9092]);
        let peer = self.peer(port);
        self.outbound(self.now, task, netns, peer);
    }

    /// The server's side of a connection from `peer`, and who accepts it.
    fn accepted(&mut self, server: usize, local: IpAddr, peer: SocketAddr) -> (Sock, Task) {
        let address = self.socket();
        let server = &self.servers[server];
        let sock = Sock {
            address,
            netns: server.listener.netns,
            local: (local, server.listener.local.port()).into(),
            remote: peer,
            is_ipv6: server.listener.is_ipv6,
        };
        (sock, *self.random.one_of(&server.acceptors))
    }

    fn inbound_connection(&mut self) {
        let server = self.random.below(self.servers.len() as u64) as usize;
        let port = self.ephemeral_port();
        let peer = self.peer(port);
        let local = Self::own_address(self.servers[server].listener.netns, peer.ip());
        let (sock, acceptor) = self.accepted(server, local, peer);
        let closed = self.now + self.lifetime();
        let end = self.end_in_order();
        self.tell(self.now, wire::accept(self.now, acceptor, &sock));
        self.tell_close(closed, &sock, end);
    }

    /// Both ends are on this host.
    fn local_connection(&mut self) {
        let (client, connecting, (accepted, acceptor)) = self.local_ends();
        let begin = self.now;
        let established = begin + 30 * MICROSECOND;
        let accepted_at = established + 20 * MICROSECOND;
        let closed = accepted_at + self.lifetime();
        let (first, last) = (self.end(FIN_WAIT2), self.end(LAST_ACK));
        self.tell(begin, wire::connect(begin, client, &connecting));
        self.tell(established, wire::established(established, &connecting));
        self.tell(accepted_at, wire::accept(accepted_at, acceptor, &accepted));
        self.tell_close(closed, &connecting, first);
        self.tell_close(closed + 10 * MICROSECOND, &accepted, last);
    }

    /// A client, its socket, and the other end with its acceptor.
    fn local_ends(&mut self) -> (Task, Sock, (Sock, Task)) {
        let server = self.random.below(self.servers.len() as u64) as usize;
        let netns = self.servers[server].listener.netns;
        let local: IpAddr = if self.random.below(4) == 0 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let port = self.servers[server].listener.local.port();
        let client = self.client_in(netns);
        let connecting = Sock {
            local: (local, self.ephemeral_port()).into(),
            is_ipv6: local.is_ipv6(),
            ..self.outbound_socket(netns, (local, port).into())
        };
        let accepted = self.accepted(server, local, connecting.local);
        (client, connecting, accepted)
    }

    fn client_in(&mut self, netns: u32) -> Task {
        loop {
            let client = self.random.one_of(&self.clients);
            if client.netns == netns {
                return client.task;
            }
        }
    }

    fn refused_connection(&mut self) {
        let client = self.random.one_of(&self.clients);
        let (task, netns) = (client.task, client.netns);
        let peer = self.peer(8081);
        let sock = self.outbound_socket(netns, peer);
        let refused = self.now + 100 * MICROSECOND;
        let end = End {
            old_state: wire::SYN_SENT,
            errno: ECONNREFUSED,
            ..End::default()
        };
        self.tell(self.now, wire::connect(self.now, task, &sock));
        self.tell_close(refused, &sock, end);
    }

    /// Fails before a SYN leaves, without a local port.
    fn unreachable_peer(&mut self) {
        let client = self.random.one_of(&self.clients);
        let (task, netns) = (client.task, client.netns);
        let peer = self.peer(443);
        let mut sock = self.outbound_socket(netns, peer);
        sock.local.set_port(0);
        let record = wire::connect_error(self.now, task, &sock, EHOSTUNREACH);
        self.tell_last(self.now, record, Some(sock.address));
    }

    /// A server closes with data unread: it sends a reset, and the client's socket gets one.
    fn reset_connection(&mut self) {
        let (client, connecting, (accepted, acceptor)) = self.local_ends();
        let begin = self.now;
        let established = begin + 30 * MICROSECOND;
        let closed = established + self.lifetime();
        let here = End {
            old_state: wire::ESTABLISHED,
            ..self.end(wire::ESTABLISHED)
        };
        let there = End {
            errno: ECONNRESET,
            ..here
        };
        self.tell(begin, wire::connect(begin, client, &connecting));
        self.tell(established, wire::established(established, &connecting));
        self.tell(established, wire::accept(established, acceptor, &accepted));
        self.tell(closed, wire::reset_sent(closed, &accepted));
        self.tell_close(closed, &accepted, here);
        self.tell_close(closed + 5 * MICROSECOND, &connecting, there);
    }

    /// Something listens for a moment, as tests and FTP clients do.
    fn short_listener(&mut self) {
        let client = self.random.one_of(&self.clients);
        let (task, netns) = (client.task, client.netns);
        let port = self.ephemeral_port();
        let listener = self.listener(netns, port);
        let closed = self.now + self.lifetime();
        let end = End {
            old_state: wire::LISTEN,
            ..End::default()
        };
        self.tell(self.now, wire::listen(self.now, task, &listener));
        self.tell_close(closed, &listener, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_records() {
        let ring = |seed| {
            let mut ring = Ring::default();
            Host::new(seed).run(5_000, &mut ring);
            ring.records().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(ring(1), ring(1));
        assert_ne!(ring(1), ring(2));
    }
}
