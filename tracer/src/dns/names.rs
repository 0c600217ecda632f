//! By which names addresses were asked for: what a connection's destination is called.
//!
//! In: the addresses that an answer gave to a name, and who asked. Out: for a later connection the name by
//! which its process knows the address; else its container; else anyone on the host. An address may be
//! kept for as long as its TTL says, but for a minute at least and an hour at most, and a minute longer,
//! since programs keep addresses longer than they may. Addresses are never looked up.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::arena::{Arena, Handle};
use crate::event::{BootTime, ProcessKey};
use crate::process::image::Image;

/// How many addresses are remembered, each once for a process, a container and the host.
const NAMES_MAX: usize = 16_384;
/// How many resolvers are known.
const RESOLVERS_MAX: usize = 64;

const SECOND_NS: u64 = 1_000_000_000;
/// Bounds of a TTL, in seconds.
const TTL: std::ops::RangeInclusive<u32> = 60..=3600;
/// How much longer than its TTL an address is believed to be used, in seconds.
const GRACE: u32 = 60;

/// The name of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// As it was asked, in presentation format.
    pub name: Arc<str>,
    /// Whose look-up it is known from.
    pub known_from: KnownFrom,
}

/// Whose look-up a name is known from, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnownFrom {
    /// The connecting process's own.
    Process,
    /// One of another process in its container.
    Container,
    /// One of any other process, e.g. of a resolver that asks for others.
    Host,
    /// None: it is what the client of a TLS handshake calls the server.
    ClientHello,
}

/// For whom a name is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Process(ProcessKey),
    /// By its ID.
    Container(Bytes),
    Host,
}

#[derive(Debug)]
struct Known {
    place: (Scope, IpAddr),
    name: Arc<str>,
    learner: Option<ProcessKey>,
    learned_at: BootTime,
    valid_until: BootTime,
}

/// The names of addresses.
#[derive(Debug)]
pub(crate) struct Names {
    known: Arena<Known, 1>,
    places: HashMap<(Scope, IpAddr), Handle, foldhash::fast::RandomState>,
    resolvers: Vec<ProcessKey>,
    evictions: u64,
}

/// What an answer says about the addresses of a name.
pub(super) struct Lesson<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) learner: Option<&'a Image>,
    pub(super) time: BootTime,
    /// In seconds.
    pub(super) ttl: u32,
}

impl Names {
    pub(crate) fn new() -> Self {
        Names {
            known: Arena::new(),
            places: HashMap::default(),
            resolvers: Vec::new(),
            evictions: 0,
        }
    }

    /// A process asks in the name of others. What it learned is nobody else's own look-up.
    pub(crate) fn mark_resolver(&mut self, process: ProcessKey) {
        if self.is_resolver(process) {
            return;
        }
        if self.resolvers.len() == RESOLVERS_MAX {
            self.resolvers.remove(0);
        }
        self.resolvers.push(process);
    }

    /// Whether a process asks in the name of others.
    pub(crate) fn is_resolver(&self, process: ProcessKey) -> bool {
        self.resolvers.contains(&process)
    }

    /// Names that had to make room although they were still valid, since the start.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// An address is that of a name.
    pub(super) fn learn(&mut self, address: IpAddr, lesson: &Lesson<'_>) {
        let container = lesson.learner.and_then(Image::container);
        let process = lesson.learner.map(|learner| Scope::Process(learner.key));
        let container = container.map(|container| Scope::Container(container.id.clone()));
        // The host's last: whatever is known is then known to the host, too.
        for scope in [process, container, Some(Scope::Host)]
            .into_iter()
            .flatten()
        {
            self.remember((scope, address), lesson);
        }
    }

    /// What `owner` calls an address to which it connected at a time, as far as anyone has asked.
    #[inline]
    pub(crate) fn of(
        &self,
        owner: Option<&Image>,
        address: IpAddr,
        at: BootTime,
    ) -> Option<Domain> {
        if self.places.is_empty() {
            return None;
        }
        self.nearest(owner, address, at)
    }

    #[inline(never)]
    fn nearest(&self, owner: Option<&Image>, address: IpAddr, at: BootTime) -> Option<Domain> {
        let place = (Scope::Host, address);
        if !self.places.contains_key(&place) {
            return None;
        }
        let own = owner.and_then(|owner| self.valid(&(Scope::Process(owner.key), address), at));
        if let Some(known) = own {
            return Some(known.domain(KnownFrom::Process));
        }
        let container = owner.and_then(Image::container);
        let shared = container
            .and_then(|it| self.valid(&(Scope::Container(it.id.clone()), address), at))
            .filter(|known| !known.learner.is_some_and(|it| self.is_resolver(it)));
        if let Some(known) = shared {
            return Some(known.domain(KnownFrom::Container));
        }
        Some(self.valid(&place, at)?.domain(KnownFrom::Host))
    }

    fn valid(&self, place: &(Scope, IpAddr), at: BootTime) -> Option<&Known> {
        let known = &self.known[*self.places.get(place)?];
        (known.learned_at <= at && at <= known.valid_until).then_some(known)
    }

    fn remember(&mut self, place: (Scope, IpAddr), lesson: &Lesson<'_>) {
        let seconds = lesson.ttl.clamp(*TTL.start(), *TTL.end()) + GRACE;
        let mut known = Known {
            place,
            name: Arc::clone(lesson.name),
            learner: lesson.learner.map(|learner| learner.key),
            learned_at: lesson.time,
            valid_until: BootTime(lesson.time.0.saturating_add(u64::from(seconds) * SECOND_NS)),
        };
        if let Some(before) = self.forget(&known.place) {
            let is_renewed = before.name == known.name && before.valid_until >= lesson.time;
            if is_renewed {
                known.learned_at = before.learned_at;
                known.valid_until = known.valid_until.max(before.valid_until);
            }
        } else if self.known.len() >= NAMES_MAX {
            self.evict(lesson.time);
        }
        let place = known.place.clone();
        let handle = self.known.push(0, known);
        self.places.insert(place, handle);
    }

    fn forget(&mut self, place: &(Scope, IpAddr)) -> Option<Known> {
        let handle = self.places.remove(place)?;
        self.known.remove(handle)
    }

    fn evict(&mut self, now: BootTime) {
        if let Some((handle, _)) = self.known.first(0)
            && let Some(known) = self.known.remove(handle)
        {
            self.places.remove(&known.place);
            self.evictions += u64::from(known.valid_until >= now);
        }
    }
}

impl Known {
    fn domain(&self, known_from: KnownFrom) -> Domain {
        Domain {
            name: Arc::clone(&self.name),
            known_from,
        }
    }
}

#[cfg(test)]
mod tests;
