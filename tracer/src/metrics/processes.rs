//! Which names of processes have series of their own.
//!
//! In: names, which anyone can choose, as many as they like. Out: counters, of a bounded number of
//! series: names on the list of the user, at most [`MOST_NAMES`] at a time; the others share
//! `other`, those that are not known `unknown`. A name that has not been seen for an hour gives up
//! its place.

use hashbrown::{HashMap, HashSet};
use prometheus::{IntCounter, IntCounterVec};

use crate::event::{BootTime, Name};
use crate::observation::Direction;
use crate::output::{names, text};

/// Names that have series of their own at the same time.
pub(super) const MOST_NAMES: usize = 100;

/// How long an unused name keeps its place, in nanoseconds.
const EXPIRY_NS: u64 = 3_600_000_000_000;
/// How often to look for unused names while every place is taken, in nanoseconds.
const SWEEP_NS: u64 = 60_000_000_000;

/// The labels of a connection beside the process.
#[derive(Clone, Copy)]
pub(super) struct Labels {
    pub(super) direction: Direction,
    pub(super) is_success: bool,
    pub(super) is_ipv4: bool,
}

impl Labels {
    const COMBINATIONS: usize = 12;

    fn index(self) -> usize {
        self.direction as usize * 4 + usize::from(self.is_success) * 2 + usize::from(self.is_ipv4)
    }

    fn values(self, process: &str) -> [&str; 4] {
        [
            names::direction(self.direction),
            if self.is_success {
                "success"
            } else {
                "failure"
            },
            if self.is_ipv4 { "ipv4" } else { "ipv6" },
            process,
        ]
    }
}

/// The counters of one value of the label `process`, each made when it is first needed.
struct Series {
    process: String,
    counters: [Option<(Labels, IntCounter)>; Labels::COMBINATIONS],
    last_used: BootTime,
}

impl Series {
    fn new(process: String, now: BootTime) -> Self {
        Self {
            process,
            counters: [const { None }; Labels::COMBINATIONS],
            last_used: now,
        }
    }

    fn count(&mut self, family: &IntCounterVec, labels: Labels, now: BootTime) {
        self.last_used = now;
        let make = || {
            (
                labels,
                family.with_label_values(&labels.values(&self.process)),
            )
        };
        self.counters[labels.index()]
            .get_or_insert_with(make)
            .1
            .inc();
    }

    fn remove(&self, family: &IntCounterVec) {
        for (labels, _) in self.counters.iter().flatten() {
            // Two names can have the same text, so that the series is gone already.
            let _ = family.remove_label_values(&labels.values(&self.process));
        }
    }
}

/// Counts connections by process.
pub(super) struct ByProcess {
    family: IntCounterVec,
    folded: IntCounter,
    /// The names that may have series of their own; `None` for all.
    allowed: Option<HashSet<Name>>,
    named: HashMap<Name, Series>,
    other: Series,
    unknown: Series,
    last_sweep: BootTime,
}

impl ByProcess {
    /// `allowed` are the names that may have series of their own; `*` stands for all.
    pub(super) fn new(family: IntCounterVec, folded: IntCounter, allowed: &[String]) -> Self {
        let is_all = allowed.iter().any(|name| name == "*");
        let names = || allowed.iter().filter_map(|name| whole(name)).collect();
        Self {
            family,
            folded,
            allowed: (!is_all).then(names),
            named: HashMap::new(),
            other: Series::new("other".to_owned(), BootTime::default()),
            unknown: Series::new("unknown".to_owned(), BootTime::default()),
            last_sweep: BootTime::default(),
        }
    }

    /// Counts one connection of the process of that name, if it is known.
    pub(super) fn count(&mut self, process: Option<Name>, labels: Labels, now: BootTime) {
        let series = match process {
            None => &mut self.unknown,
            Some(name) if self.is_allowed(name) => {
                if let Some(series) = self.named.get_mut(&name) {
                    return series.count(&self.family, labels, now);
                }
                if self.has_room(now) {
                    self.named
                        .entry(name)
                        .or_insert_with(|| Series::new(label(name), now))
                } else {
                    &mut self.other
                }
            }
            Some(_) => &mut self.other,
        };
        series.count(&self.family, labels, now);
    }

    /// Whether a name may have series of its own, if there is room.
    fn is_allowed(&self, name: Name) -> bool {
        self.allowed
            .as_ref()
            .is_none_or(|allowed| allowed.contains(&name))
    }

    /// Whether another name may have series of its own from now on.
    fn has_room(&mut self, now: BootTime) -> bool {
        self.sweep(now);
        let has_room = self.named.len() < MOST_NAMES;
        if !has_room {
            self.folded.inc();
        }
        has_room
    }

    fn sweep(&mut self, now: BootTime) {
        if self.named.len() < MOST_NAMES || now.since(self.last_sweep) < SWEEP_NS {
            return;
        }
        self.last_sweep = now;
        let is_unused = |_: &Name, series: &mut Series| now.since(series.last_used) >= EXPIRY_NS;
        for (_, series) in self.named.extract_if(is_unused) {
            series.remove(&self.family);
        }
    }
}

/// The name of a process, if one can have that name.
fn whole(text: &str) -> Option<Name> {
    let mut name = Name::default();
    let longest = name.0.len() - 1;
    let fits = text.len() <= longest && !text.contains('\0');
    fits.then(|| {
        name.0[..text.len()].copy_from_slice(text.as_bytes());
        name
    })
}

/// A name as the label shows it.
fn label(name: Name) -> String {
    let mut label = Vec::new();
    text::write_terminal(name.as_bytes(), &mut label);
    String::from_utf8_lossy(&label).into_owned()
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;
    use crate::metrics::names::CONNECTIONS;

    const EGRESS: Labels = Labels {
        direction: Direction::Egress,
        is_success: true,
        is_ipv4: true,
    };

    fn by_process(allowed: &[&str]) -> ByProcess {
        let allowed: Vec<_> = allowed.iter().map(|&name| name.to_owned()).collect();
        let family = IntCounterVec::new(CONNECTIONS.opts(), CONNECTIONS.labels).unwrap();
        let folded = IntCounter::with_opts(Opts::new("folded", "help")).unwrap();
        ByProcess::new(family, folded, &allowed)
    }

    fn name(text: &str) -> Option<Name> {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Some(Name(name))
    }

    fn count(counts: &ByProcess, process: &str) -> u64 {
        counts
            .family
            .with_label_values(&EGRESS.values(process))
            .get()
    }

    #[test]
    fn only_names_on_the_list_have_series_of_their_own() {
        let mut counts = by_process(&["curl"]);
        for process in [name("curl"), name("curl"), name("nginx"), None] {
            counts.count(process, EGRESS, BootTime(1));
        }
        assert_eq!(
            ["curl", "other", "unknown"].map(|it| count(&counts, it)),
            [2, 1, 1]
        );
        assert_eq!(
            counts.folded.get(),
            0,
            "what is not on the list is not folded for want of room"
        );
    }

    #[test]
    fn names_are_bounded_and_what_is_folded_is_counted() {
        let mut counts = by_process(&["*"]);
        for number in 0..MOST_NAMES + 10 {
            counts.count(name(&format!("p{number}")), EGRESS, BootTime(1));
        }
        assert_eq!((count(&counts, "p99"), count(&counts, "other")), (1, 10));
        assert_eq!(counts.folded.get(), 10);
    }

    #[test]
    fn a_name_that_is_not_used_for_an_hour_makes_room() {
        let mut counts = by_process(&["*"]);
        for number in 0..MOST_NAMES {
            counts.count(name(&format!("p{number}")), EGRESS, BootTime(1));
        }
        counts.count(name("p1"), EGRESS, BootTime(EXPIRY_NS));
        counts.count(name("new"), EGRESS, BootTime(EXPIRY_NS + 1));
        assert_eq!((count(&counts, "new"), count(&counts, "p1")), (1, 2));
        assert_eq!(counts.named.len(), 2);
        assert_eq!(counts.folded.get(), 0);
    }
}
