//! Community IDs: one hash for both ends of a flow, as other tools compute it.
//!
//! A connection has two or more events, and on loopback two sockets, all with the same ID, which
//! costs a SHA-1: the last ones are kept.

use std::net::SocketAddr;

use community_id::calculate_community_id;

const PLACES: usize = 1024;
const TCP: u8 = 6;

/// `1:` and the Base64 of a SHA-1.
pub(super) type Text = [u8; 30];

#[derive(Clone, Copy)]
struct Kept {
    ends: (SocketAddr, SocketAddr),
    text: Text,
}

/// The community IDs of the last flows.
pub(super) struct CommunityIds {
    places: Vec<Option<Kept>>,
}

impl CommunityIds {
    pub(super) fn new() -> Self {
        Self {
            places: vec![None; PLACES],
        }
    }

    /// The ID of the TCP connection between two ends, in whichever order.
    pub(super) fn of(&mut self, one: SocketAddr, other: SocketAddr) -> Option<&Text> {
        let ends = (one, other);
        let place = &mut self.places[place(one.port(), other.port())];
        if place.is_none_or(|kept| kept.ends != ends) {
            *place = compute(ends).map(|text| Kept { ends, text });
        }
        place.as_ref().map(|kept| &kept.text)
    }
}

/// One port is mostly ephemeral, and of the other there are few.
fn place(one: u16, other: u16) -> usize {
    usize::from(one ^ other) % PLACES
}

fn compute(ends: (SocketAddr, SocketAddr)) -> Option<Text> {
    let (one, other) = ends;
    let ports = (Some(one.port()), Some(other.port()));
    let id = calculate_community_id(0, one.ip(), other.ip(), ports.0, ports.1, TCP, false);
    id.ok()?.as_bytes().try_into().ok()
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
        assert_eq!(ids.of(one, other), Some(b"1:LQU9qZlK+B5F3KDmev6m5PMibrg="));
        assert_eq!(ids.of(other, one), Some(b"1:LQU9qZlK+B5F3KDmev6m5PMibrg="));
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
            .map(|&flow| ids.of(flow, server).copied())
            .collect();
        let again: Vec<_> = flows
            .iter()
            .map(|&flow| ids.of(flow, server).copied())
            .collect();
        assert_eq!(first, again);
        let distinct: std::collections::HashSet<_> = first.into_iter().flatten().collect();
        assert_eq!(distinct.len(), flows.len());
    }
}
