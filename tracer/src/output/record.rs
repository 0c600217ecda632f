//! The output record: an observation taken apart into what the formats show.
//!
//! In: an observation. Out: the same facts in one shape for all actions, with the connection's ends
//! put as initiator and acceptor.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::action::{Action, Aspect};
use crate::detect::Detection;
use crate::dns::Lookup;
use crate::event::{BootTime, Endpoints, Errno, FlowTotals, Protocol, RawSocket, Totals};
use crate::observation::{
    ConnState, Connection, Direction, Fact, FlowStage, Loss, Observation, Subflow,
};
use crate::process::cause::Cause;
use crate::process::image::Image;
use crate::tls::ClientHello;

/// One output event. What does not apply or is not known is `None`.
pub struct Record<'a> {
    /// When the kernel saw it.
    pub time: BootTime,
    /// What happened.
    pub action: Action,
    /// Whom it is about.
    pub process: Option<&'a Arc<Image>>,
    /// What it is about.
    pub connection: Option<&'a Connection>,
    /// The socket that can see or forge traffic.
    pub socket: Option<&'a RawSocket>,
    /// The name that was asked for.
    pub lookup: Option<&'a Lookup>,
    /// What a TLS client asks for.
    pub hello: Option<&'a ClientHello>,
    /// The rule that matched, and why.
    pub detection: Option<&'a Detection>,
    /// What led to it.
    pub cause: Option<&'a Cause>,
    /// Everyone who holds its socket, where that was looked for.
    pub holders: &'a [Arc<Image>],
    /// Zeek's letters.
    pub state: Option<ConnState>,
    /// What was carried.
    pub totals: Option<Totals>,
    /// Where a flow of datagrams stands, and what it has carried so far.
    pub flow: Option<(FlowStage, FlowTotals)>,
    /// Its further subflows.
    pub subflows: &'a [Subflow],
    /// How long it lasted, in nanoseconds.
    pub duration_ns: Option<u64>,
    /// Why it failed or ended.
    pub errno: Option<Errno>,
    /// How a process ended, as `wait` would tell.
    pub exit_status: Option<u32>,
    /// What was lost.
    pub loss: Option<Loss>,
}

impl<'a> Record<'a> {
    /// The record that an observation becomes.
    pub fn of(observation: &Observation<'a>) -> Self {
        let action = Action::of(&observation.fact);
        let empty = Self {
            cause: observation.fact.cause(),
            ..Self::empty(observation.time, action)
        };
        match observation.fact {
            Fact::ProcessForked(image) | Fact::ProcessExecuted(image) => Self {
                process: Some(image),
                ..empty
            },
            Fact::ProcessExited { process, status } => Self {
                process: Some(process),
                exit_status: Some(status),
                ..empty
            },
            Fact::ConnectionOpened {
                connection,
                process,
                ..
            }
            | Fact::ConnectionAccepted {
                connection,
                process,
            } => {
                let state = Some(ConnState::S1);
                Self {
                    connection: Some(connection),
                    process,
                    state,
                    ..empty
                }
            }
            Fact::ConnectionFailed {
                connection,
                process,
                errno,
                state,
            } => Self {
                connection: Some(connection),
                process,
                errno,
                state: Some(state),
                ..empty
            },
            Fact::ConnectionClosed {
                connection,
                process,
                totals,
                subflows,
                duration_ns,
                state,
                errno,
            } => {
                let (connection, state) = (Some(connection), Some(state));
                Self {
                    connection,
                    process,
                    totals,
                    subflows,
                    duration_ns,
                    state,
                    errno,
                    ..empty
                }
            }
            Fact::ConnectionExisting {
                connection,
                process,
                holders,
                totals,
            } => Self {
                connection: Some(connection),
                process,
                holders,
                totals,
                state: Some(ConnState::OTH),
                ..empty
            },
            Fact::ListenOpened {
                connection,
                process,
                holders,
            } => Self {
                connection: Some(connection),
                process,
                holders,
                ..empty
            },
            Fact::ListenClosed {
                connection,
                process,
            } => Self {
                connection: Some(connection),
                process,
                ..empty
            },
            Fact::DatagramFlow {
                connection,
                process,
                stage,
                totals,
                duration_ns,
                ..
            } => Self {
                connection: Some(connection),
                process,
                flow: Some((stage, totals)),
                duration_ns,
                ..empty
            },
            Fact::SocketOpened {
                socket, process, ..
            } => Self {
                socket: Some(socket),
                process,
                ..empty
            },
            Fact::Lookup {
                lookup,
                process,
                duration_ns,
            } => Self {
                lookup: Some(lookup),
                process,
                duration_ns: Some(duration_ns),
                errno: lookup.errno(),
                ..empty
            },
            Fact::ClientHello {
                hello,
                connection,
                process,
            } => Self {
                hello: Some(hello),
                connection,
                process,
                ..empty
            },
            Fact::Detected {
                detection,
                connection,
                process,
            } => Self {
                detection: Some(detection),
                connection,
                process,
                ..empty
            },
            Fact::Lost(loss) => Self {
                loss: Some(loss),
                ..empty
            },
        }
    }

    fn empty(time: BootTime, action: Action) -> Self {
        Self {
            time,
            action,
            process: None,
            connection: None,
            socket: None,
            lookup: None,
            hello: None,
            detection: None,
            cause: None,
            holders: &[],
            state: None,
            totals: None,
            flow: None,
            subflows: &[],
            duration_ns: None,
            errno: None,
            exit_status: None,
            loss: None,
        }
    }

    /// What the name of its action leaves open.
    pub fn aspect(&self) -> Aspect {
        match (self.state, self.flow) {
            (Some(ConnState::REJ), _) => Aspect::Refused,
            (_, Some((FlowStage::Info, _))) => Aspect::Ongoing,
            (_, Some((FlowStage::End, _))) => Aspect::Ended,
            _ => Aspect::Usual,
        }
    }

    /// Whether this is about a listening socket.
    pub fn is_listener(&self) -> bool {
        self.action.is_about_listener()
    }

    /// Whether the connection runs over IPv4; for a listener, whether its address is one.
    pub fn is_ipv4(&self) -> bool {
        self.endpoints()
            .is_some_and(|endpoints| is_ipv4(self.action, endpoints))
    }

    /// `network.protocol`, as far as a port tells: what goes to UDP's port 443 is probably QUIC.
    pub fn probable_protocol(&self) -> Option<&'static str> {
        let is_udp = self.connection?.protocol == Protocol::UDP;
        (is_udp && self.ends().destination.port == Some(443)).then_some("quic")
    }

    /// `network.protocol`, where it is known or probable.
    pub fn protocol(&self) -> Option<&'static str> {
        match self.hello {
            Some(_) => Some("tls"),
            None => self.probable_protocol(),
        }
    }

    /// Between which ends it happened.
    pub fn endpoints(&self) -> Option<&'a Endpoints> {
        let of_lookup = self.lookup.map(|lookup| &lookup.endpoints);
        let of_connection = || Some(&self.connection?.endpoints);
        let of_hello = || Some(&self.hello?.endpoints);
        of_lookup.or_else(of_connection).or_else(of_hello)
    }

    /// The code that a process exited with, unless a signal ended it.
    pub fn exit_code(&self) -> Option<u32> {
        self.exit_status
            .filter(|status| status & 0x7f == 0)
            .map(|status| status >> 8 & 0xff)
    }

    /// The signal that ended a process.
    pub fn exit_signal(&self) -> Option<u32> {
        self.exit_status
            .map(|status| status & 0x7f)
            .filter(|&signal| signal != 0)
    }

    /// Initiator and acceptor of the connection.
    pub fn ends(&self) -> Ends {
        if let Some(lookup) = self.lookup {
            return Ends::of(Direction::Egress, &lookup.endpoints, None);
        }
        let Some(connection) = self.connection else {
            if let Some(hello) = self.hello {
                return Ends::of(Direction::Unknown, &hello.endpoints, None);
            }
            return Ends::default();
        };
        if self.is_listener() {
            let local = connection.endpoints.local;
            return Ends {
                destination: End {
                    ip: Some(local.ip()),
                    port: Some(local.port()),
                    carried: None,
                },
                ..Ends::default()
            };
        }
        let carried = match self.flow {
            Some((_, totals)) => Some(totals.into()),
            None => self.totals.map(Into::into),
        };
        Ends::of(connection.direction, &connection.endpoints, carried)
    }
}

/// What each end of a connection or a flow has sent.
#[derive(Clone, Copy, Debug)]
pub struct BothWays {
    local: Carried,
    remote: Carried,
}

impl From<Totals> for BothWays {
    fn from(totals: Totals) -> Self {
        let carried = |bytes| Carried {
            bytes,
            packets: None,
        };
        Self {
            local: carried(totals.sent),
            remote: carried(totals.received),
        }
    }
}

impl From<FlowTotals> for BothWays {
    fn from(totals: FlowTotals) -> Self {
        let carried = |bytes, packets| Carried {
            bytes,
            packets: Some(packets),
        };
        Self {
            local: carried(totals.sent_bytes, totals.sent_packets),
            remote: carried(totals.received_bytes, totals.received_packets),
        }
    }
}

/// Whether a connection runs over IPv4; for a listener, whether its address is one.
pub fn is_ipv4(action: Action, endpoints: &Endpoints) -> bool {
    if action.is_about_listener() {
        endpoints.local.is_ipv4()
    } else {
        endpoints.is_ipv4()
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The initiator.
    pub source: End,
    /// The acceptor.
    pub destination: End,
}

impl Ends {
    /// Those of a socket whose owner's part in the connection is known.
    pub fn of(direction: Direction, endpoints: &Endpoints, carried: Option<BothWays>) -> Self {
        let local = End::new(endpoints.local, carried.map(|both| both.local));
        let remote = End::new(endpoints.remote, carried.map(|both| both.remote));
        match direction {
            Direction::Egress | Direction::Unknown => Self {
                source: local,
                destination: remote,
            },
            Direction::Ingress => Self {
                source: remote,
                destination: local,
            },
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
    /// What it sent.
    pub carried: Option<Carried>,
}

/// What one end of a connection or a flow has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Payload, in bytes; in a flow without ports all that follows the IP header.
    pub bytes: u64,
    /// Datagrams, where it is these.
    pub packets: Option<u64>,
}

impl End {
    /// An unspecified address or port is one that the kernel does not know, or no longer.
    fn new(address: SocketAddr, carried: Option<Carried>) -> Self {
        Self {
            ip: Some(address.ip()).filter(|ip| !ip.is_unspecified()),
            port: Some(address.port()).filter(|&port| port != 0),
            carried,
        }
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        self.ip.is_none() && self.port.is_none() && self.carried.is_none()
    }

    /// Address and port, where both are known.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip?, self.port?))
    }
}
