//! Finds the other end of a connection, where that is a socket of this host, too.
//!
//! In: entries as their ends become complete, and as they go. Out: the entry with the reversed ends
//! in the same network namespace. The ends stand in the entries alone; here is but an index.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use super::endpoints::{Address, End, Ends};
use super::entry::Entries;
use crate::arena::Handle;

/// The ends of a connection, from one side. Plain numbers, because every connection is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    local: Side,
    remote: Side,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Side {
    address: Address,
    port_in_netns: u64,
}

impl Flow {
    /// Both sockets of a connection have the same one, reversed, whatever their families.
    #[inline]
    pub(super) fn of(ends: &Ends) -> Option<Flow> {
        (ends.netns != 0 && ends.are_complete()).then(|| Flow {
            local: Side::of(ends.local, ends.netns),
            remote: Side::of(ends.remote, ends.netns),
        })
    }

    #[inline]
    pub(super) fn reversed(self) -> Flow {
        Flow {
            local: self.remote,
            remote: self.local,
        }
    }
}

impl Side {
    #[inline]
    fn of(end: End, netns: u32) -> Side {
        Side {
            address: end.address,
            port_in_netns: u64::from(netns) << 32 | u64::from(end.port),
        }
    }
}

/// Entries by their ends: of several with the same ends, the latest.
#[derive(Debug, Default)]
pub(super) struct Peers {
    index: HashTable<Handle>,
    state: foldhash::fast::RandomState,
}

impl Peers {
    /// Enters an entry, which has these ends and keeps them until it is [taken out](Self::remove).
    /// Returns the one with the reversed ends, if there is one.
    pub(super) fn enter(
        &mut self,
        handle: Handle,
        flow: Flow,
        entries: &Entries,
    ) -> Option<Handle> {
        let Self { index, state } = self;
        let flow_of = |&handle: &Handle| Flow::of(&entries[handle].ends);
        let has = |flow| move |handle: &Handle| flow_of(handle) == Some(flow);
        let hash = hash(state, &flow);
        let other = index.find(hash, has(flow.reversed())).copied();
        let rehash = |handle: &Handle| flow_of(handle).map_or(0, |flow| self::hash(state, &flow));
        *index
            .entry(hash, has(flow), rehash)
            .or_insert(handle)
            .get_mut() = handle;
        other
    }

    /// The entry with these ends.
    pub(super) fn find(&self, flow: Flow, entries: &Entries) -> Option<Handle> {
        let has_flow = |&handle: &Handle| Flow::of(&entries[handle].ends) == Some(flow);
        let hash = hash(&self.state, &flow);
        self.index.find(hash, has_flow).copied()
    }

    /// Takes an entry out, unless a later one with the same ends has its place.
    pub(super) fn remove(&mut self, handle: Handle, flow: Flow) {
        let is_it = |&other: &Handle| other == handle;
        if let Ok(found) = self.index.find_entry(hash(&self.state, &flow), is_it) {
            found.remove();
        }
    }
}

/// The same for a flow and its reverse: both are looked for at once.
fn hash(state: &foldhash::fast::RandomState, flow: &Flow) -> u64 {
    let [local, remote] = [flow.local, flow.remote].map(|side| state.hash_one(side));
    local.wrapping_add(remote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Endpoints;

    fn flow(netns: u32, local: &str, remote: &str) -> Option<Flow> {
        let [local, remote] = [local, remote].map(|end| end.parse().unwrap());
        Flow::of(&Ends::from(&Endpoints {
            netns,
            local,
            remote,
            ipv6_socket: false,
        }))
    }

    #[test]
    fn both_sides_have_the_same_flow_reversed() {
        let client = flow(1, "127.0.0.1:4000", "127.0.0.1:80").unwrap();
        let server = flow(1, "127.0.0.1:80", "127.0.0.1:4000").unwrap();
        assert_ne!(client, server);
        assert_eq!(client.reversed(), server);
    }

    #[test]
    fn unknown_ends_are_no_flow() {
        assert_eq!(flow(1, "0.0.0.0:0", "127.0.0.1:80"), None);
        assert_eq!(flow(0, "127.0.0.1:4000", "127.0.0.1:80"), None);
    }
}
