//! Finds the listener behind a local port.
//!
//! In: listeners as they come and go. Out: those that can have got a connection: the ones with its
//! own address before those with any.

use std::net::IpAddr;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::arena::Handle;
use crate::event::Endpoints;

#[derive(Clone, Copy, Debug)]
struct Listener {
    entry: Handle,
    address: IpAddr,
}

/// Those that share a port. Mostly there is but one, which needs no list.
#[derive(Debug)]
struct Sharing {
    first: Listener,
    others: Vec<Listener>,
}

impl Sharing {
    fn iter(&self) -> impl Iterator<Item = &Listener> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// Listeners by network namespace and port.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_port: HashMap<(u32, u16), Sharing, foldhash::fast::RandomState>,
}

impl Listeners {
    pub(super) fn add(&mut self, entry: Handle, endpoints: &Endpoints) {
        let listener = Listener {
            entry,
            address: endpoints.local.ip(),
        };
        match self.by_port.entry(key(endpoints)) {
            Entry::Occupied(mut sharing) => sharing.get_mut().others.push(listener),
            Entry::Vacant(place) => {
                place.insert(Sharing {
                    first: listener,
                    others: Vec::new(),
                });
            }
        }
    }

    pub(super) fn remove(&mut self, entry: Handle, endpoints: &Endpoints) {
        let Entry::Occupied(mut place) = self.by_port.entry(key(endpoints)) else {
            return;
        };
        let sharing = place.get_mut();
        if sharing.first.entry != entry {
            sharing.others.retain(|listener| listener.entry != entry);
        } else if sharing.others.is_empty() {
            place.remove();
        } else {
            sharing.first = sharing.others.remove(0);
        }
    }

    /// Those that fit the local end best; several if they share it.
    pub(super) fn find(&self, endpoints: &Endpoints) -> impl Iterator<Item = Handle> {
        let local = endpoints.local.ip();
        let sharing = self.by_port.get(&key(endpoints));
        let listeners = sharing.into_iter().flat_map(Sharing::iter);
        let best = listeners
            .clone()
            .filter_map(|listener| fit(listener.address, local))
            .max();
        listeners
            .filter(move |listener| best.is_some() && fit(listener.address, local) == best)
            .map(|listener| listener.entry)
    }
}

fn key(endpoints: &Endpoints) -> (u32, u16) {
    (endpoints.netns, endpoints.local.port())
}

/// How well a listener's address fits the local address of a connection, if at all.
fn fit(listener: IpAddr, local: IpAddr) -> Option<u8> {
    match (listener, local) {
        (listener, local) if listener == local => Some(2),
        (listener, local) if listener.is_unspecified() && listener.is_ipv4() == local.is_ipv4() => {
            Some(1)
        }
        // An IPv6 listener takes IPv4 connections, too, unless told otherwise.
        (IpAddr::V6(listener), IpAddr::V4(_)) if listener.is_unspecified() => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    fn ends(netns: u32, local: &str) -> Endpoints {
        let remote = "1.2.3.4:5".parse().unwrap();
        Endpoints {
            netns,
            local: local.parse().unwrap(),
            remote,
            ipv6_socket: false,
        }
    }

    #[test]
    fn own_address_comes_before_any_address_and_that_before_the_other_family() {
        let mut arena = Arena::<(), 1>::new();
        let mut listeners = Listeners::default();
        let mut add = |listeners: &mut Listeners, local| {
            let handle = arena.push(0, ());
            listeners.add(handle, &ends(1, local));
            handle
        };
        let find = |listeners: &Listeners, netns, local| -> Vec<Handle> {
            listeners.find(&ends(netns, local)).collect()
        };
        let dual = add(&mut listeners, "[::]:80");
        assert_eq!(find(&listeners, 1, "10.0.0.1:80"), [dual]);
        let any = add(&mut listeners, "0.0.0.0:80");
        assert_eq!(find(&listeners, 1, "10.0.0.1:80"), [any]);
        let own = add(&mut listeners, "10.0.0.1:80");
        let shared = add(&mut listeners, "10.0.0.1:80");
        assert_eq!(find(&listeners, 1, "10.0.0.1:80"), [own, shared]);
        assert_eq!(find(&listeners, 1, "10.0.0.2:80"), [any]);
        assert_eq!(find(&listeners, 1, "[fe80::1]:80"), [dual]);
        assert_eq!(find(&listeners, 2, "10.0.0.1:80"), []);
        assert_eq!(find(&listeners, 1, "10.0.0.1:81"), []);
        for handle in [own, shared] {
            listeners.remove(handle, &ends(1, "10.0.0.1:80"));
        }
        assert_eq!(find(&listeners, 1, "10.0.0.1:80"), [any]);
    }
}
