//! Community IDs: one hash for both ends of a flow, as other tools compute it.
//!
//! A connection has two or more events, and on loopback two sockets, all with the same ID, which
//! costs a SHA-1: the last ones are kept.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::event::Protocol;

const PLACES: usize = 1024;

/// The seed of flows that nobody sets apart.
const SEED: [u8; 2] = [0, 0];
const VERSION: &[u8; 2] = b"1:";

/// `1:` and the Base64 of a SHA-1.
pub(in crate::output) type Text = [u8; 30];

#[derive(Clone, Copy)]
struct Kept {
    ends: (Protocol, SocketAddr, SocketAddr),
    text: Text,
}

/// The community IDs of the last flows.
pub(in crate::output) struct CommunityIds {
    places: Vec<Option<Kept>>,
}

impl CommunityIds {
    pub(in crate::output) fn new() -> Self {
        Self {
            places: vec![None; PLACES],
        }
    }

    /// The ID of the flow between two ends, in whichever order.
    pub(in crate::output) fn of(
        &mut self,
        protocol: Protocol,
        one: SocketAddr,
        other: SocketAddr,
    ) -> Option<&Text> {
        let ends = (protocol, one, other);
        let place = &mut self.places[place(one.port(), other.port())];
        if place.is_none_or(|kept| kept.ends != ends) {
            *place = compute(protocol, one, other).map(|text| Kept { ends, text });
        }
        place.as_ref().map(|kept| &kept.text)
    }
}

/// One port is mostly ephemeral, and of the other there are few.
fn place(one: u16, other: u16) -> usize {
    usize::from(one ^ other) % PLACES
}

/// By the specification's version 1: the smaller end first. Both are of one family.
fn compute(protocol: Protocol, one: SocketAddr, other: SocketAddr) -> Option<Text> {
    let (low, high) = if (one.ip(), one.port()) <= (other.ip(), other.port()) {
        (one, other)
    } else {
        (other, one)
    };
    let mut hash = Sha1::new();
    hash.update(SEED);
    update_with_address(&mut hash, low.ip());
    update_with_address(&mut hash, high.ip());
    // Filled up by a zero.
    hash.update([protocol.0, 0]);
    hash.update(low.port().to_be_bytes());
    hash.update(high.port().to_be_bytes());
    let mut text = [0; size_of::<Text>()];
    let (version, digest) = text.split_at_mut(VERSION.len());
    version.copy_from_slice(VERSION);
    STANDARD.encode_slice(hash.finalize(), digest).ok()?;
    Some(text)
}

fn update_with_address(hash: &mut Sha1, address: IpAddr) {
    match address {
        IpAddr::V4(address) => hash.update(address.octets()),
        IpAddr::V6(address) => hash.update(address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// From the baseline of the specification (`tcp.pcap`).
    #[test]
    fn a_flow_has_the_id_that_the_specification_gives_it() {
        let (one, other) = (
            address("128.232.110.120:34855"),
            address("66.35.250.204:80"),
        );
        let mut ids = CommunityIds::new();
        assert_eq!(
            ids.of(Protocol::TCP, one, other),
            Some(b"1:LQU9qZlK+B5F3KDmev6m5PMibrg=")
        );
        assert_eq!(
            ids.of(Protocol::TCP, other, one),
            Some(b"1:LQU9qZlK+B5F3KDmev6m5PMibrg=")
        );
    }

    #[test]
    fn every_flow_has_the_id_that_others_compute() {
        let hosts = ["10.0.0.9", "10.0.0.10", "fe80::1", "2001:db8::7"];
        let ports = [1, 80, 256, 65_535];
        let mut ids = CommunityIds::new();
        for (one, other) in hosts
            .into_iter()
            .flat_map(|one| hosts.map(|other| (one, other)))
        {
            for (from, to) in ports
                .into_iter()
                .flat_map(|from| ports.map(|to| (from, to)))
            {
                let (one, other): (IpAddr, IpAddr) = (one.parse().unwrap(), other.parse().unwrap());
                if one.is_ipv4() != other.is_ipv4() {
                    continue;
                }
                let ours = ids.of(
                    Protocol::TCP,
                    SocketAddr::new(one, from),
                    SocketAddr::new(other, to),
                );
                let theirs = community_id::calculate_community_id(
                    0,
                    one,
                    other,
                    Some(from),
                    Some(to),
                    6,
                    false,
                );
                assert_eq!(ours.unwrap(), theirs.unwrap().as_bytes());
            }
        }
    }

    #[test]
    fn flows_that_share_a_place_keep_their_own_ids() {
        let mut ids = CommunityIds::new();
        let server = address("[::1]:443");
        let flows: Vec<_> = (0..8)
            .map(|n| address(&format!("[::1]:{}", 40_000 + n * 1024)))
            .collect();
        let first: Vec<_> = flows
            .iter()
            .map(|&flow| ids.of(Protocol::TCP, flow, server).copied())
            .collect();
        let again: Vec<_> = flows
            .iter()
            .map(|&flow| ids.of(Protocol::TCP, flow, server).copied())
            .collect();
        assert_eq!(first, again);
        let distinct: std::collections::HashSet<_> = first.into_iter().flatten().collect();
        assert_eq!(distinct.len(), flows.len());
    }
}
