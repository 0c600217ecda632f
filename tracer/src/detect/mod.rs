//! Detections: what took the authors of the five stories hours, told when it is clear.
//!
//! In: observations, in order, and the passing of time. Out: [`Finding`]s, each told once. A detector is one file. What
//! it remembers is keyed by the fingerprint of a lineage, never by a PID, and bounded; it reads no clock and does no
//! I/O, so that a file replays to the same detections.

mod allow;
mod beacon;
mod finding;
mod known_names;
mod lookalike_name;
mod miner_like;
mod names;
mod places;
mod port_scan;
mod raw_socket;
pub mod rule;
pub mod settings;
mod shell_on_socket;
pub mod sink;
mod suspicious_listener;
mod unexamined;
mod unusual_parent;
mod writable_dir;

use std::collections::VecDeque;

use hashlink::LruCache;

pub use self::finding::{Detection, EVIDENCE_MAX, Evidence};
use self::finding::{Finding, hash};
use self::names::{Names, Said};
use self::rule::Rule;
use self::settings::Settings;
use crate::event::BootTime;
use crate::observation::{Fact, Observation};
use crate::output::action::{Action, ActionSet};
use crate::process::image::Image;

/// For how many lineages and subjects it is known that they were told.
const TOLD_MAX: usize = 65_536;

/// What a detector looks at.
struct Scene<'a> {
    time: BootTime,
    fact: &'a Fact<'a>,
    /// What the names of the process say, if it executes something.
    said: Said,
}

/// Looks for one thing.
trait Detector: Send {
    /// What.
    fn rules(&self) -> &'static [&'static Rule];

    /// What it looks at.
    fn actions(&self) -> ActionSet;

    /// Something happened that it looks at.
    fn observe(&mut self, scene: &Scene<'_>, found: &mut Vec<Finding>);

    /// Time passes.
    fn advance(&mut self, _now: BootTime, _found: &mut Vec<Finding>) {}

    /// How much it has forgotten to stay within its bounds.
    fn evictions(&self) -> u64 {
        0
    }
}

/// All rules, in the order of their IDs.
pub const RULES: [&Rule; 10] = [
    &beacon::RULE,
    &writable_dir::RULE,
    &lookalike_name::RULE,
    &lookalike_name::MASQUERADE,
    &miner_like::RULE,
    &port_scan::RULE,
    &raw_socket::RULE,
    &shell_on_socket::RULE,
    &suspicious_listener::RULE,
    &unusual_parent::RULE,
];

/// The rule of that ID.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.into_iter().find(|rule| rule.id == id)
}

/// All detectors.
pub struct Engine {
    settings: Settings,
    names: Names,
    detectors: Vec<Box<dyn Detector>>,
    /// Which detectors look at what, by [`Action`].
    interested: [Vec<usize>; Action::ALL.len()],
    /// When a rule was last told of a lineage and a subject.
    told: LruCache<u64, BootTime, foldhash::fast::FixedState>,
    /// When a rule was last told of a lineage.
    told_of: LruCache<u64, BootTime, foldhash::fast::FixedState>,
    scratch: Vec<Finding>,
    found: VecDeque<Finding>,
    allowed: u64,
}

impl Engine {
    /// With the detectors that `settings` ask for.
    pub fn new(settings: Settings) -> Self {
        let detectors = detectors(&settings);
        let interested = Action::ALL.map(|action| {
            let detectors = detectors.iter().enumerate();
            let looking = detectors.filter(|(_, detector)| detector.actions().contains(action));
            looking.map(|(index, _)| index).collect()
        });
        Self {
            settings,
            names: Names::new(),
            detectors,
            interested,
            told: LruCache::with_hasher(TOLD_MAX, Default::default()),
            told_of: LruCache::with_hasher(TOLD_MAX, Default::default()),
            scratch: Vec::new(),
            found: VecDeque::new(),
            allowed: 0,
        }
    }

    /// What happens from now on happens elsewhere, or in another boot.
    fn forget(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    /// Takes other settings. What detectors have learned so far is forgotten, but not what was told.
    pub fn configure(&mut self, settings: Settings) {
        let told = std::mem::replace(&mut self.told, LruCache::with_hasher(0, Default::default()));
        let found = std::mem::take(&mut self.found);
        *self = Self {
            told,
            found,
            allowed: self.allowed,
            ..Self::new(settings)
        };
    }

    /// Whether any detector looks at that.
    pub fn wants(&self, action: Action) -> bool {
        !self.interested[action as usize].is_empty()
    }

    /// Something happened.
    pub fn observe(&mut self, action: Action, observation: &Observation<'_>) {
        let said = match &observation.fact {
            Fact::ProcessExecuted(process) => self.names.of(process),
            _ => Said::default(),
        };
        let scene = Scene {
            time: observation.time,
            fact: &observation.fact,
            said,
        };
        for &index in &self.interested[action as usize] {
            self.detectors[index].observe(&scene, &mut self.scratch);
        }
        if !self.scratch.is_empty() {
            self.judge();
        }
    }

    /// Time passes.
    pub fn advance(&mut self, now: BootTime) {
        for detector in &mut self.detectors {
            detector.advance(now, &mut self.scratch);
        }
        if !self.scratch.is_empty() {
            self.judge();
        }
    }

    /// How many findings were not told because they are allowed.
    pub fn allowed(&self) -> u64 {
        self.allowed
    }

    /// How much detectors have forgotten to stay within their bounds.
    pub fn evictions(&self) -> u64 {
        self.detectors
            .iter()
            .map(|detector| detector.evictions())
            .sum()
    }

    /// The next one to be told.
    fn take(&mut self) -> Option<Finding> {
        self.found.pop_front()
    }

    /// Whether that was found just now, of the same lineage.
    fn has_told(&mut self, rule: &Rule, process: Option<&Image>, time: BootTime) -> bool {
        const JUST_NOW_NS: u64 = 5_000_000_000;
        let told = self.told_of.get(&lineage_key(rule, process));
        told.is_some_and(|told| time.since(*told) <= JUST_NOW_NS)
    }

    /// Keeps what is neither allowed nor told already.
    fn judge(&mut self) {
        for finding in self.scratch.drain(..) {
            if !self.settings.is_enabled(finding.detection.rule) {
                continue;
            }
            if self.settings.allows(&finding) {
                self.allowed += 1;
                continue;
            }
            let lineage = finding.process.as_ref().map(|image| image.fingerprint());
            let key = hash((finding.detection.rule.id, lineage, finding.subject));
            let again_after = self.settings.again_after_ns();
            let is_new = self
                .told
                .get(&key)
                .is_none_or(|told| finding.time.since(*told) >= again_after);
            if is_new {
                self.told.insert(key, finding.time);
                let key = lineage_key(finding.detection.rule, finding.process.as_deref());
                self.told_of.insert(key, finding.time);
                self.found.push_back(finding);
            }
        }
    }
}

fn lineage_key(rule: &Rule, process: Option<&Image>) -> u64 {
    hash((rule.id, process.map(Image::fingerprint)))
}

fn detectors(settings: &Settings) -> Vec<Box<dyn Detector>> {
    let mut detectors: Vec<Box<dyn Detector>> = vec![
        Box::new(beacon::Beacons::new(&settings.beacon)),
        Box::new(writable_dir::WritableDir),
        Box::new(lookalike_name::Claims::default()),
        Box::new(miner_like::Miners::new(&settings.miner_like)),
        Box::new(port_scan::Scans::new(&settings.port_scan)),
        Box::new(raw_socket::RawSockets),
        Box::new(shell_on_socket::Shells::new()),
        Box::new(suspicious_listener::Listeners::default()),
        Box::new(unusual_parent::Parents),
    ];
    detectors.retain(|detector| {
        let mut rules = detector.rules().iter();
        rules.any(|rule| settings.is_enabled(rule))
    });
    detectors
}
