//! What kinds of event there are, and how the Elastic Common Schema classifies each.

use crate::observation::Fact;

/// `event.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "each is described by the fact of the same name"
)]
#[repr(u8)]
pub enum Action {
    ProcessFork,
    ProcessExec,
    ProcessExit,
    ConnectionOpened,
    ConnectionAccepted,
    ConnectionFailed,
    ConnectionExisting,
    ConnectionClosed,
    ListenOpened,
    ListenClosed,
    DatagramFlow,
    SocketOpened,
    DnsLookup,
    TlsClientHello,
    Detection,
    EventsLost,
}

impl Action {
    /// Every action, in the order of their declaration.
    pub const ALL: [Action; 16] = [
        Action::ProcessFork,
        Action::ProcessExec,
        Action::ProcessExit,
        Action::ConnectionOpened,
        Action::ConnectionAccepted,
        Action::ConnectionFailed,
        Action::ConnectionExisting,
        Action::ConnectionClosed,
        Action::ListenOpened,
        Action::ListenClosed,
        Action::DatagramFlow,
        Action::SocketOpened,
        Action::DnsLookup,
        Action::TlsClientHello,
        Action::Detection,
        Action::EventsLost,
    ];

    /// The action that a fact becomes.
    pub fn of(fact: &Fact<'_>) -> Self {
        match fact {
            Fact::ProcessForked(_) => Self::ProcessFork,
            Fact::ProcessExecuted(_) => Self::ProcessExec,
            Fact::ProcessExited { .. } => Self::ProcessExit,
            Fact::ConnectionOpened { .. } => Self::ConnectionOpened,
            Fact::ConnectionAccepted { .. } => Self::ConnectionAccepted,
            Fact::ConnectionFailed { .. } => Self::ConnectionFailed,
            Fact::ConnectionExisting { .. } => Self::ConnectionExisting,
            Fact::ConnectionClosed { .. } => Self::ConnectionClosed,
            Fact::ListenOpened { .. } => Self::ListenOpened,
            Fact::ListenClosed { .. } => Self::ListenClosed,
            Fact::DatagramFlow { .. } => Self::DatagramFlow,
            Fact::SocketOpened { .. } => Self::SocketOpened,
            Fact::Lookup { .. } => Self::DnsLookup,
            Fact::ClientHello { .. } => Self::TlsClientHello,
            Fact::Detected { .. } => Self::Detection,
            Fact::Lost(_) => Self::EventsLost,
        }
    }

    /// As it stands in `event.action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProcessFork => "process_fork",
            Self::ProcessExec => "process_exec",
            Self::ProcessExit => "process_exit",
            Self::ConnectionOpened => "connection_opened",
            Self::ConnectionAccepted => "connection_accepted",
            Self::ConnectionFailed => "connection_failed",
            Self::ConnectionExisting => "connection_existing",
            Self::ConnectionClosed => "connection_closed",
            Self::ListenOpened => "listen_opened",
            Self::ListenClosed => "listen_closed",
            Self::DatagramFlow => "datagram_flow",
            Self::SocketOpened => "socket_opened",
            Self::DnsLookup => "dns_lookup",
            Self::TlsClientHello => "tls_client_hello",
            Self::Detection => "detection",
            Self::EventsLost => "events_lost",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Whether it is about a listening socket.
    pub fn is_about_listener(self) -> bool {
        matches!(self, Self::ListenOpened | Self::ListenClosed)
    }

    /// `event.kind`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::EventsLost => "pipeline_error",
            Self::Detection => "alert",
            _ => "event",
        }
    }

    /// `event.category`; empty for what is not about the host's activity.
    pub fn category(self) -> &'static [&'static str] {
        match self {
            Self::ProcessFork | Self::ProcessExec | Self::ProcessExit => &["process"],
            Self::Detection => &["intrusion_detection"],
            Self::EventsLost => &[],
            _ => &["network"],
        }
    }

    /// `event.type`.
    pub fn types(self, aspect: Aspect) -> &'static [&'static str] {
        match self {
            Self::DatagramFlow => match aspect {
                Aspect::Ongoing => &["connection", "info"],
                Aspect::Ended => &["connection", "end"],
                _ => &["connection", "start"],
            },
            Self::ProcessFork | Self::ListenOpened => &["start"],
            Self::ProcessExec => &["change"],
            Self::ProcessExit | Self::ListenClosed => &["end"],
            Self::ConnectionOpened | Self::ConnectionAccepted => &["connection", "start"],
            Self::ConnectionExisting => &["connection", "info"],
            Self::SocketOpened | Self::Detection => &["info"],
            Self::ConnectionFailed if aspect == Aspect::Refused => &["connection", "denied"],
            Self::ConnectionFailed | Self::ConnectionClosed => &["connection", "end"],
            Self::DnsLookup | Self::TlsClientHello => &["protocol"],
            Self::EventsLost => &[],
        }
    }

    /// `event.outcome`, for actions that always succeed or always fail.
    pub fn outcome(self) -> Option<&'static str> {
        match self {
            Self::ConnectionOpened | Self::ConnectionAccepted | Self::SocketOpened => {
                Some("success")
            }
            Self::ConnectionFailed => Some("failure"),
            _ => None,
        }
    }
}

/// What the name of an action leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aspect {
    /// Nothing.
    Usual,
    /// An attempt was refused, rather than failing otherwise.
    Refused,
    /// A flow goes on.
    Ongoing,
    /// A flow has ended.
    Ended,
}

impl Aspect {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Usual, Self::Refused, Self::Ongoing, Self::Ended];
}

/// A set of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionSet(u16);

impl ActionSet {
    /// No action.
    pub const NONE: ActionSet = ActionSet(0);

    /// With `action`.
    #[must_use]
    pub fn with(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u8)
    }

    /// Whether it has `action`.
    pub fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }
}

impl Default for ActionSet {
    /// Everything but forks.
    fn default() -> Self {
        let shown = Action::ALL
            .into_iter()
            .filter(|&action| action != Action::ProcessFork);
        shown.fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_name() {
        for (index, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, index);
            assert_eq!(Action::from_name(action.name()), Some(action));
        }
        assert_eq!(Action::from_name("connection"), None);
    }

    #[test]
    fn forks_are_not_shown_unless_asked_for() {
        let shown = |action| ActionSet::default().contains(action);
        assert!(!shown(Action::ProcessFork));
        assert_eq!(
            Action::ALL
                .into_iter()
                .filter(|&action| shown(action))
                .count(),
            15
        );
        assert!(
            ActionSet::NONE
                .with(Action::ProcessFork)
                .contains(Action::ProcessFork)
        );
    }
}
