//! Names that processes learned, and which of them an address gets.

use super::*;
use crate::event::CgroupId;
use crate::process::cgroup::Cgroup;

const SECOND: u64 = SECOND_NS;

fn at(seconds: u64) -> BootTime {
    BootTime(seconds * SECOND)
}

fn process(tgid: u32, container: Option<&str>) -> Image {
    let id = CgroupId {
        hierarchy: 0,
        node: tgid.into(),
    };
    let cgroup = container.map(|digit| format!("/docker/{}", digit.repeat(64)));
    Image {
        cgroup: cgroup.map(|path| Arc::new(Cgroup::new(id, path.as_bytes()))),
        ..Image::sample(tgid, b"curl")
    }
}

fn address() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// What the processes of these tests know.
struct Known {
    names: Names,
}

impl Known {
    fn nothing() -> Self {
        Known {
            names: Names::new(),
        }
    }

    fn learn(&mut self, learner: Option<&Image>, name: &str, seconds: u64, ttl: u32) {
        let lesson = Lesson {
            name: &name.into(),
            learner,
            time: at(seconds),
            ttl,
        };
        self.names.learn(address(), &lesson);
    }

    fn of(&self, owner: &Image, seconds: u64) -> Option<(String, KnownFrom)> {
        let domain = self.names.of(Some(owner), address(), at(seconds))?;
        Some((domain.name.to_string(), domain.known_from))
    }
}

fn known(name: &str, known_from: KnownFrom) -> Option<(String, KnownFrom)> {
    Some((name.to_owned(), known_from))
}

#[test]
fn the_nearest_look_up_names_an_address() {
    let (curl, neighbour) = (process(1, Some("a")), process(2, Some("a")));
    let (elsewhere, outside) = (process(3, Some("b")), process(4, None));
    let mut it = Known::nothing();
    it.learn(Some(&curl), "a.example", 1, 300);
    assert_eq!(it.of(&curl, 2), known("a.example", KnownFrom::Process));
    assert_eq!(
        it.of(&neighbour, 2),
        known("a.example", KnownFrom::Container)
    );
    assert_eq!(it.of(&elsewhere, 2), known("a.example", KnownFrom::Host));
    it.learn(Some(&outside), "b.example", 3, 300);
    assert_eq!(it.of(&curl, 4), known("a.example", KnownFrom::Process));
    assert_eq!(it.of(&elsewhere, 4), known("b.example", KnownFrom::Host));
    it.learn(None, "c.example", 5, 300);
    assert_eq!(it.of(&outside, 6), known("b.example", KnownFrom::Process));
    assert_eq!(it.of(&elsewhere, 6), known("c.example", KnownFrom::Host));
}

#[test]
fn what_a_resolver_learned_is_known_from_the_host_even_in_its_container() {
    let (resolver, client) = (process(1, Some("a")), process(2, Some("a")));
    let mut it = Known::nothing();
    it.learn(Some(&resolver), "a.example", 1, 300);
    it.names.mark_resolver(resolver.key);
    assert_eq!(it.of(&client, 2), known("a.example", KnownFrom::Host));
    assert!(it.names.is_resolver(resolver.key) && !it.names.is_resolver(client.key));
}

#[test]
fn a_name_is_forgotten_when_its_ttl_is_over_within_bounds() {
    let curl = process(1, None);
    for (ttl, last) in [(0, 120), (59, 120), (300, 360), (1_000_000, 3660)] {
        let mut it = Known::nothing();
        it.learn(Some(&curl), "a.example", 0, ttl);
        assert!(it.of(&curl, last).is_some(), "{ttl}");
        assert_eq!(it.of(&curl, last + 1), None, "{ttl}");
    }
}

#[test]
fn a_name_that_was_learned_after_the_connection_opened_is_not_its_own() {
    let curl = process(1, None);
    let mut it = Known::nothing();
    it.learn(Some(&curl), "a.example", 10, 60);
    assert_eq!(it.of(&curl, 9), None);
    // Asked again while it is known: the same name.
    it.learn(Some(&curl), "A.example", 20, 60);
    assert_eq!(it.of(&curl, 10), None);
    it.learn(Some(&curl), "A.example", 100, 60);
    assert!(it.of(&curl, 20).is_some());
}

#[test]
fn names_are_bounded_and_the_evicted_counted() {
    let mut names = Names::new();
    for number in 0..NAMES_MAX as u32 + 10 {
        let lesson = Lesson {
            name: &"a.example".into(),
            learner: None,
            time: at(1),
            ttl: 60,
        };
        names.learn(IpAddr::V4(number.into()), &lesson);
    }
    assert_eq!(names.known.len(), NAMES_MAX);
    assert_eq!(names.places.len(), NAMES_MAX);
    assert_eq!(names.evictions(), 10);
    for tgid in 0..RESOLVERS_MAX as u32 + 1 {
        names.mark_resolver(ProcessKey { tgid, start_ns: 1 });
    }
    assert_eq!(names.resolvers.len(), RESOLVERS_MAX);
}
