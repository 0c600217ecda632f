//! What one would want next: a filter for tcpdump, rules for nft. Suggestions, which nobody applies here.
//!
//! In: who talked with whom. Out: command lines and a rule set, as text.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::event::Protocol;
use crate::observation::Direction;

/// A peer, and what was talked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Talk {
    /// The other end.
    pub(super) peer: IpAddr,
    /// Above IP, by IANA's number.
    pub(super) protocol: u8,
    /// The acceptor's, where there is one.
    pub(super) port: Option<u16>,
    /// Whether the peer began it.
    pub(super) inbound: bool,
}

impl Talk {
    pub(super) fn new(
        peer: IpAddr,
        protocol: Protocol,
        port: Option<u16>,
        direction: Direction,
    ) -> Self {
        let has_ports = [Protocol::TCP, Protocol::UDP].contains(&protocol);
        Self {
            peer: peer.to_canonical(),
            protocol: protocol.0,
            port: port.filter(|&port| has_ports && port != 0),
            inbound: direction == Direction::Ingress,
        }
    }

    fn protocol_name(&self) -> Option<&'static str> {
        match Protocol(self.protocol) {
            Protocol::TCP => Some("tcp"),
            Protocol::UDP => Some("udp"),
            _ => None,
        }
    }
}

/// What tcpdump(8) takes as its filter: packets of these talks, whichever way they go.
pub(super) fn tcpdump_filter(talks: &[Talk]) -> String {
    let mut terms: Vec<String> = Vec::new();
    for talk in talks {
        let ip = if talk.peer.is_ipv4() { "ip" } else { "ip6" };
        let (peer, number) = (talk.peer, talk.protocol);
        let term = match (talk.protocol_name(), talk.port) {
            (Some(name), Some(port)) => format!("(host {peer} and {name} port {port})"),
            (Some(name), None) => format!("(host {peer} and {name})"),
            (None, _) => format!("(host {peer} and {ip} proto {number})"),
        };
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    terms.join(" or ")
}

/// Rules for nft(8) that would refuse these talks, in a table of their own, so that they go without a trace.
pub(super) fn nft_rules(talks: &[Talk]) -> String {
    let chain = |name: &str, inbound: bool| {
        let mut rules = String::new();
        for talk in talks.iter().filter(|talk| talk.inbound == inbound) {
            // Writing to a string cannot fail.
            let _ = writeln!(rules, "    {}", rule(talk));
        }
        if rules.is_empty() {
            return rules;
        }
        format!(
            "  chain {name} {{\n    type filter hook {name} priority 0; policy accept;\n{rules}  }}\n"
        )
    };
    format!(
        "table inet tracer_report {{\n{}{}}}\n",
        chain("output", false),
        chain("input", true)
    )
}

fn rule(talk: &Talk) -> String {
    let family = if talk.peer.is_ipv4() { "ip" } else { "ip6" };
    let (end, verdict) = if talk.inbound {
        ("saddr", "drop")
    } else {
        ("daddr", "reject")
    };
    let (peer, number) = (talk.peer, talk.protocol);
    let what = match (talk.protocol_name(), talk.port) {
        (Some(name), Some(port)) => format!("{name} dport {port}"),
        _ => format!("meta l4proto {number}"),
    };
    format!("{family} {end} {peer} {what} counter {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(peer: &str, protocol: Protocol, port: u16, direction: Direction) -> Talk {
        Talk::new(peer.parse().unwrap(), protocol, Some(port), direction)
    }

    fn talks() -> Vec<Talk> {
        vec![
            talk("192.0.2.7", Protocol::TCP, 445, Direction::Egress),
            talk("2001:db8::1", Protocol::UDP, 53, Direction::Egress),
            talk("::ffff:192.0.2.9", Protocol::TCP, 3349, Direction::Ingress),
            talk("192.0.2.8", Protocol(1), 0, Direction::Egress),
            talk("2001:db8::2", Protocol(58), 7, Direction::Ingress),
        ]
    }

    #[test]
    fn the_filter_names_each_peer_with_protocol_and_port() {
        assert_eq!(
            tcpdump_filter(&talks()),
            "(host 192.0.2.7 and tcp port 445) or (host 2001:db8::1 and udp port 53) or \
             (host 192.0.2.9 and tcp port 3349) or (host 192.0.2.8 and ip proto 1) or \
             (host 2001:db8::2 and ip6 proto 58)"
        );
    }

    #[test]
    fn the_rules_refuse_what_went_out_and_drop_what_came_in() {
        assert_eq!(
            nft_rules(&talks()),
            "table inet tracer_report {\n  chain output {\n    \
             type filter hook output priority 0; policy accept;\n    \
             ip daddr 192.0.2.7 tcp dport 445 counter reject\n    \
             ip6 daddr 2001:db8::1 udp dport 53 counter reject\n    \
             ip daddr 192.0.2.8 meta l4proto 1 counter reject\n  }\n  chain input {\n    \
             type filter hook input priority 0; policy accept;\n    \
             ip saddr 192.0.2.9 tcp dport 3349 counter drop\n    \
             ip6 saddr 2001:db8::2 meta l4proto 58 counter drop\n  }\n}\n"
        );
    }

    #[test]
    fn both_directions_of_a_talk_need_one_filter() {
        let both = [
            talk("192.0.2.7", Protocol::TCP, 445, Direction::Egress),
            talk("192.0.2.7", Protocol::TCP, 445, Direction::Ingress),
        ];
        assert_eq!(tcpdump_filter(&both), "(host 192.0.2.7 and tcp port 445)");
    }
}
