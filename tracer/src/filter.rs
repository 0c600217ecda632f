//! Which events are shown: the same filter for what happens now, history and replay.
//!
//! In: output records. Out: whether each is wanted. Losses are never filtered out.

use ipnet::IpNet;
use regex_lite::Regex;

use crate::event::{Endpoints, ProcessKey, RawFamily, RawSocket};
use crate::output::action::{Action, ActionSet};
use crate::output::record::{Record, is_ipv4};
use crate::process::image::Image;

/// What to show. Conditions of different kinds must all hold; of several of one kind, one must.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Processes with one of these PIDs.
    pub pids: Vec<u32>,
    /// Processes that have one of these PIDs, or an ancestor that has.
    pub trees: Vec<u32>,
    /// Processes with such a name.
    pub name: Option<Regex>,
    /// Processes in a container whose ID begins with one of these.
    pub containers: Vec<String>,
    /// Connections with one of these ports at either end, and listeners on them.
    pub ports: Vec<u16>,
    /// Connections whose other end is in one of these networks.
    pub peers: Vec<IpNet>,
    /// Connections and raw sockets over this family only.
    pub family: Option<Family>,
    /// Events of these kinds.
    pub actions: ActionSet,
    /// A process whose tree is not shown: the tracer itself.
    pub hidden: Option<ProcessKey>,
    /// A process whose tree alone is shown, even if it is part of a hidden one.
    pub only_tree: Option<ProcessKey>,
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Version 4, also over an IPv6 socket.
    Ipv4,
    /// Version 6.
    Ipv6,
}

impl Filter {
    /// A filter that only leaves out what the process `tracer` and its children do.
    pub fn hiding(tracer: ProcessKey) -> Self {
        let actions = Action::ALL
            .into_iter()
            .fold(ActionSet::NONE, ActionSet::with);
        Self {
            hidden: Some(tracer),
            actions,
            ..Self::default()
        }
    }

    /// Whether to show a record.
    pub fn admits(&self, record: &Record<'_>) -> bool {
        let process = record.process.map(AsRef::as_ref);
        if let Some(socket) = record.socket {
            return self.actions.contains(record.action)
                && self.admits_scope(process)
                && self.admits_process(process)
                && self.admits_socket(socket);
        }
        self.admits_event(record.action, process, record.endpoints())
    }

    /// Whether to show what a process did, or what happened between two ends.
    pub fn admits_event(
        &self,
        action: Action,
        process: Option<&Image>,
        endpoints: Option<&Endpoints>,
    ) -> bool {
        if action == Action::EventsLost {
            return true;
        }
        self.actions.contains(action)
            && self.admits_scope(process)
            && (!self.has_conditions() || self.meets_conditions(action, process, endpoints))
    }

    /// Whether it asks for more than actions and scope, which most do not.
    pub fn has_conditions(&self) -> bool {
        let Self {
            pids,
            trees,
            name,
            containers,
            ports,
            peers,
            family,
            ..
        } = self;
        !(pids.is_empty()
            && trees.is_empty()
            && containers.is_empty()
            && ports.is_empty()
            && peers.is_empty())
            || name.is_some()
            || family.is_some()
    }

    #[inline(never)]
    fn meets_conditions(
        &self,
        action: Action,
        process: Option<&Image>,
        endpoints: Option<&Endpoints>,
    ) -> bool {
        self.admits_process(process) && self.admits_endpoints(action, endpoints)
    }

    fn admits_scope(&self, process: Option<&Image>) -> bool {
        let is_in = |tree| process.is_some_and(|image| image.descends_from(tree));
        match (self.only_tree, self.hidden) {
            (Some(tree), _) => is_in(tree),
            (None, Some(tree)) => !is_in(tree),
            (None, None) => true,
        }
    }

    fn admits_process(&self, process: Option<&Image>) -> bool {
        if self.pids.is_empty()
            && self.trees.is_empty()
            && self.name.is_none()
            && self.containers.is_empty()
        {
            return true;
        }
        let Some(image) = process else { return false };
        let has = |list: &[u32], image: &Image| list.contains(&image.key.tgid);
        (self.pids.is_empty() || has(&self.pids, image))
            && (self.trees.is_empty() || image.lineage().any(|image| has(&self.trees, image)))
            && self
                .name
                .as_ref()
                .is_none_or(|name| name.is_match(&String::from_utf8_lossy(image.name.as_bytes())))
            && (self.containers.is_empty() || self.admits_container(image))
    }

    fn admits_container(&self, image: &Image) -> bool {
        let begins = |id: &[u8]| {
            let mut wanted = self.containers.iter();
            wanted.any(|prefix| id.starts_with(prefix.as_bytes()))
        };
        image
            .container()
            .is_some_and(|container| begins(&container.id))
    }

    fn admits_endpoints(&self, action: Action, endpoints: Option<&Endpoints>) -> bool {
        if self.ports.is_empty() && self.peers.is_empty() && self.family.is_none() {
            return true;
        }
        let Some(endpoints) = endpoints else {
            return false;
        };
        let family = if is_ipv4(action, endpoints) {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        self.family.is_none_or(|wanted| wanted == family)
            && self.admits_ports(endpoints)
            && self.admits_peer(endpoints)
    }

    /// A raw socket has no port and no peer, and a packet socket no one family.
    fn admits_socket(&self, socket: &RawSocket) -> bool {
        let family = match socket.family {
            RawFamily::Ipv4 => Some(Family::Ipv4),
            RawFamily::Ipv6 => Some(Family::Ipv6),
            RawFamily::Packet => None,
        };
        self.ports.is_empty()
            && self.peers.is_empty()
            && (self.family.is_none() || self.family == family)
    }

    fn admits_ports(&self, endpoints: &Endpoints) -> bool {
        let has = |port| self.ports.contains(&port);
        self.ports.is_empty() || has(endpoints.local.port()) || has(endpoints.remote.port())
    }

    fn admits_peer(&self, endpoints: &Endpoints) -> bool {
        let peer = endpoints.remote.ip();
        // A listener has no peer, not even one in 0.0.0.0/0.
        let is_known = !peer.is_unspecified();
        self.peers.is_empty() || is_known && self.peers.iter().any(|net| net.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dns::{Ending, Flags, Lookup, Question};
    use crate::event::{BootTime, CgroupId, Protocol, SocketId, Transport};
    use crate::observation::{
        Connection, ConnectionId, Direction, Fact, Loss, LossUnit, Observation, Opening,
    };
    use crate::process::cgroup::Cgroup;
    use crate::process::image::{Parent, Provenance, Relation};

    fn image(tgid: u32, name: &str, parent: Option<&Arc<Image>>) -> Arc<Image> {
        let known = |parent: &Arc<Image>| Parent::Known(Relation::Birth, parent.clone());
        Arc::new(Image {
            parent: parent.map_or(Parent::Root, known),
            ..Image::sample(tgid, name.as_bytes())
        })
    }

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    fn connection(local: &str, remote: &str) -> Connection {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Connection {
            id: ConnectionId {
                first_seen_ns: 1,
                serial: 0,
            },
            socket: SocketId(1),
            protocol: Protocol::TCP,
            endpoints: Endpoints {
                netns: 1,
                local,
                remote,
                ipv6_socket: false,
            },
            direction: Direction::Egress,
            owner: None,
            owner_provenance: Provenance::Kernel,
            opening: Opening::Connect,
            peer: None,
            opened_at: None,
            existing: false,
            cause: None,
            mptcp: false,
            domain: None,
        }
    }

    fn accepted<'a>(connection: &'a Connection, process: Option<&'a Arc<Image>>) -> Record<'a> {
        let fact = Fact::ConnectionAccepted {
            connection,
            process,
        };
        Record::of(&Observation {
            time: BootTime(1),
            fact,
        })
    }

    fn executed(process: &Arc<Image>) -> Record<'_> {
        Record::of(&Observation {
            time: BootTime(1),
            fact: Fact::ProcessExecuted(process),
        })
    }

    /// systemd, a tracer, the command that it runs, a helper of its own, and curl beside them.
    fn family() -> [Arc<Image>; 5] {
        let systemd = image(1, "systemd", None);
        let tracer = image(10, "tracer", Some(&systemd));
        let command = image(11, "sh", Some(&tracer));
        let helper = image(12, "helper", Some(&tracer));
        let curl = image(20, "curl", Some(&systemd));
        [systemd, tracer, command, helper, curl]
    }

    fn admitted(filter: &Filter) -> Vec<u32> {
        let family = family();
        let admitted = family
            .iter()
            .filter(|process| filter.admits(&executed(process)));
        admitted.map(|process| process.key.tgid).collect()
    }

    #[test]
    fn the_tracer_hides_itself_and_its_helpers_but_shows_the_command_asked_for() {
        let filter = Filter {
            hidden: Some(key(10)),
            ..Filter::default()
        };
        assert_eq!(admitted(&filter), [1, 20]);
        let filter = Filter {
            only_tree: Some(key(11)),
            ..filter
        };
        assert_eq!(admitted(&filter), [11]);
        assert_eq!(admitted(&Filter::default()), [1, 10, 11, 12, 20]);
    }

    #[test]
    fn processes_are_chosen_by_pid_tree_and_name() {
        assert_eq!(
            admitted(&Filter {
                pids: vec![10, 20],
                ..Filter::default()
            }),
            [10, 20]
        );
        assert_eq!(
            admitted(&Filter {
                trees: vec![10],
                ..Filter::default()
            }),
            [10, 11, 12]
        );
        let name = Regex::new("^(curl|s)").ok();
        assert_eq!(
            admitted(&Filter {
                name: name.clone(),
                ..Filter::default()
            }),
            [1, 11, 20]
        );
        assert_eq!(
            admitted(&Filter {
                name,
                trees: vec![10],
                ..Filter::default()
            }),
            [11]
        );
    }

    #[test]
    fn containers_are_chosen_by_the_beginning_of_their_id() {
        let id = CgroupId {
            hierarchy: 0,
            node: 1,
        };
        let path = format!("/docker/{}", "0123456789abcdef".repeat(4));
        let inside = Arc::new(Image {
            cgroup: Some(Arc::new(Cgroup::new(id, path.as_bytes()))),
            ..image(20, "curl", None).as_ref().clone()
        });
        let outside = image(20, "curl", None);
        let admitted = |prefix: &str| {
            let filter = Filter {
                containers: vec!["ffff".into(), prefix.into()],
                ..Filter::default()
            };
            [&inside, &outside].map(|image| filter.admits(&executed(image)))
        };
        assert_eq!(admitted("0123456"), [true, false]);
        assert_eq!(admitted("123456"), [false, false]);
    }

    #[test]
    fn connections_are_chosen_by_port_peer_and_family() {
        let v4 = connection("10.0.0.1:4000", "192.0.2.7:443");
        let v6 = connection("[::1]:4000", "[2001:db8::1]:22");
        let admitted = |filter: Filter| [&v4, &v6].map(|it| filter.admits(&accepted(it, None)));
        assert_eq!(
            admitted(Filter {
                ports: vec![443],
                ..Filter::default()
            }),
            [true, false]
        );
        assert_eq!(
            admitted(Filter {
                ports: vec![4000],
                ..Filter::default()
            }),
            [true, true]
        );
        let peers = vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::2/128".parse().unwrap(),
        ];
        assert_eq!(
            admitted(Filter {
                peers,
                ..Filter::default()
            }),
            [true, false]
        );
        let family = Some(Family::Ipv6);
        assert_eq!(
            admitted(Filter {
                family,
                ..Filter::default()
            }),
            [false, true]
        );
    }

    #[test]
    fn an_event_without_what_is_asked_for_is_not_shown() {
        let curl = image(20, "curl", None);
        let some = connection("10.0.0.1:4000", "192.0.2.7:443");
        let by_process = Filter {
            pids: vec![20],
            ..Filter::default()
        };
        assert!(!by_process.admits(&accepted(&some, None)));
        assert!(by_process.admits(&accepted(&some, Some(&curl))));
        assert!(
            !Filter {
                ports: vec![443],
                ..Filter::default()
            }
            .admits(&executed(&curl))
        );
        let listener = connection("0.0.0.0:80", "0.0.0.0:0");
        let peers = vec!["0.0.0.0/0".parse().unwrap()];
        assert!(
            !Filter {
                peers,
                ..Filter::default()
            }
            .admits(&accepted(&listener, None))
        );
    }

    #[test]
    fn a_raw_socket_is_chosen_by_process_and_family_and_has_no_port() {
        let curl = image(20, "curl", None);
        let admitted = |filter: &Filter| {
            [RawFamily::Ipv4, RawFamily::Ipv6, RawFamily::Packet].map(|family| {
                let socket = &RawSocket::sample(family);
                let (process, cause) = (Some(&curl), None);
                let fact = Fact::SocketOpened {
                    socket,
                    process,
                    cause,
                };
                let time = BootTime(1);
                filter.admits(&Record::of(&Observation { time, fact }))
            })
        };
        let of = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            admitted(&filter)
        };
        assert_eq!(of(|_| ()), [true; 3]);
        assert_eq!(of(|it| it.pids = vec![20]), [true; 3]);
        assert_eq!(of(|it| it.pids = vec![21]), [false; 3]);
        assert_eq!(of(|it| it.hidden = Some(key(20))), [false; 3]);
        assert_eq!(of(|it| it.actions = ActionSet::NONE), [false; 3]);
        assert_eq!(of(|it| it.ports = vec![0]), [false; 3]);
        let everywhere = |it: &mut Filter| it.peers = vec!["0.0.0.0/0".parse().unwrap()];
        assert_eq!(of(everywhere), [false; 3]);
        let ipv4 = |it: &mut Filter| it.family = Some(Family::Ipv4);
        assert_eq!(of(ipv4), [true, false, false]);
        let ipv6 = |it: &mut Filter| it.family = Some(Family::Ipv6);
        assert_eq!(of(ipv6), [false, true, false]);
    }

    #[test]
    fn look_ups_are_chosen_by_the_server_and_by_who_asks() {
        let lookup = Lookup {
            endpoints: connection("10.0.0.1:4000", "192.0.2.53:53").endpoints,
            transport: Transport::Udp,
            id: 1,
            question: Question {
                name: "example.org".into(),
                kind: 1,
                class: 1,
            },
            asked: Flags::default(),
            attempts: 1,
            by_resolver: false,
            ending: Ending::Unanswered,
        };
        let curl = image(20, "curl", None);
        let admitted = |filter: &Filter| {
            let fact = Fact::Lookup {
                lookup: &lookup,
                process: Some(&curl),
                duration_ns: 1,
            };
            let time = BootTime(1);
            filter.admits(&Record::of(&Observation { time, fact }))
        };
        let of = |pid, port, peer: &str, family| Filter {
            pids: vec![pid],
            ports: vec![port],
            peers: vec![peer.parse().unwrap()],
            family: Some(family),
            ..Filter::default()
        };
        assert!(admitted(&of(20, 53, "192.0.2.0/24", Family::Ipv4)));
        assert!(!admitted(&of(21, 53, "192.0.2.0/24", Family::Ipv4)));
        assert!(!admitted(&of(20, 54, "192.0.2.0/24", Family::Ipv4)));
        assert!(!admitted(&of(20, 53, "10.0.0.0/24", Family::Ipv4)));
        assert!(!admitted(&of(20, 53, "192.0.2.0/24", Family::Ipv6)));
    }

    #[test]
    fn a_loss_is_always_shown() {
        let loss = Loss {
            stage: "ring",
            kind: "exec",
            unit: LossUnit::Record,
            count: 1,
        };
        let lost = Record::of(&Observation {
            time: BootTime(1),
            fact: Fact::Lost(loss),
        });
        let actions = ActionSet::NONE;
        assert!(
            Filter {
                actions,
                pids: vec![1],
                ..Filter::default()
            }
            .admits(&lost)
        );
    }
}
