//! Everyone who is known at one moment, and who descends from whom.
//!
//! In: a snapshot of the process table. Out: a [`Family`]: also those whom the table has forgotten, as long as
//! a lineage names them. The table has no index of children; this one is made in a pass over the snapshot.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use super::image::{Image, Parent};
use super::table::TICK_NS;
use crate::event::{BootTime, ProcessKey};

/// Everyone in the process table at one moment.
#[derive(Clone, Debug, Default)]
pub struct Population {
    /// In no order.
    pub residents: Vec<Resident>,
    /// Whether somebody had to make room for others: who is not in the table may then be alive.
    pub has_evicted: bool,
}

/// A process that the table has.
#[derive(Clone, Debug)]
pub struct Resident {
    /// As it is, or was at its exit.
    pub image: Arc<Image>,
    /// When it ended, if it has.
    pub exited_at: Option<BootTime>,
}

/// Whether a process is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is.
    Living,
    /// It has ended; when, if that is still known.
    Exited(Option<BootTime>),
    /// Nobody knows any more.
    Unknown,
}

/// A process of a family.
#[derive(Clone, Debug)]
pub struct Member {
    /// The latest that is known.
    pub image: Arc<Image>,
    /// Whether it is alive.
    pub life: Life,
}

/// Whom somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Who has this PID, or had it last.
    Pid(u32),
    /// This process and no other that has or had its PID.
    Process {
        /// Its PID.
        tgid: u32,
        /// Its start, in nanoseconds of `CLOCK_BOOTTIME`.
        start_ns: u64,
        /// The start is known only in ticks.
        rounded: bool,
    },
}

impl Wanted {
    /// Its PID.
    pub fn pid(self) -> u32 {
        match self {
            Self::Pid(pid) => pid,
            Self::Process { tgid, .. } => tgid,
        }
    }
}

/// Why there is nothing to tell about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nobody is known by that PID.
    #[error("no process with PID {0} is known")]
    Unknown(u32),
    /// It has ended, and so has whoever descended from it.
    #[error("the process with PID {0} has ended")]
    Ended(u32),
}

/// Everyone who is alive, holds a socket, or has such descendants.
#[derive(Debug)]
pub struct Family {
    members: HashMap<ProcessKey, Member, foldhash::fast::RandomState>,
    /// In the order of their births.
    children: HashMap<ProcessKey, Vec<ProcessKey>, foldhash::fast::RandomState>,
    /// Those of the members whom this is about.
    needed: HashSet<ProcessKey, foldhash::fast::RandomState>,
}

impl Family {
    /// The family of a population, of whom `owners` are kept although they have ended.
    pub fn of(population: Population, owners: impl IntoIterator<Item = ProcessKey>) -> Self {
        let members = members(population);
        let mut family = Self {
            children: children(&members),
            members,
            needed: HashSet::default(),
        };
        let alive = family.members.iter();
        let alive = alive.filter(|(_, member)| member.life == Life::Living);
        let needed: Vec<ProcessKey> = alive.map(|(&key, _)| key).chain(owners).collect();
        for key in needed {
            family.need(key);
        }
        family
    }

    /// A process and its ancestors are what this is about.
    fn need(&mut self, key: ProcessKey) {
        let mut next = Some(key);
        while let Some(key) = next
            && let Some(member) = self.members.get(&key)
            && self.needed.insert(key)
        {
            next = parent(&member.image);
        }
    }

    /// Whom somebody asked for.
    pub fn find(&self, wanted: Wanted) -> Result<&Member, Missing> {
        let pid = wanted.pid();
        let found = match wanted {
            Wanted::Pid(_) => self.latest(pid).ok_or(Missing::Unknown(pid))?,
            Wanted::Process {
                tgid,
                start_ns,
                rounded,
            } => {
                let key = ProcessKey { tgid, start_ns };
                self.same(key, rounded).ok_or(Missing::Ended(pid))?
            }
        };
        if self.needed.contains(&found.image.key) {
            Ok(found)
        } else {
            Err(Missing::Ended(pid))
        }
    }

    fn latest(&self, pid: u32) -> Option<&Member> {
        let namesakes = self.members.values();
        namesakes
            .filter(|member| member.image.key.tgid == pid)
            .max_by_key(|member| member.image.key.start_ns)
    }

    /// The member of that key; where only ticks are known of one of the two, the one that can be it.
    fn same(&self, key: ProcessKey, rounded: bool) -> Option<&Member> {
        let tick = |start_ns: u64| start_ns - start_ns % TICK_NS;
        let is_same = |member: &&Member| {
            let other = member.image.key;
            other.tgid == key.tgid
                && (rounded || member.image.key_rounded)
                && tick(other.start_ns) == tick(key.start_ns)
        };
        let exactly = self.members.get(&key);
        exactly.or_else(|| self.members.values().find(is_same))
    }

    /// From the parent up to the first that is known.
    pub fn ancestors(&self, of: &Member) -> Vec<&Member> {
        let mut seen: HashSet<ProcessKey> = HashSet::from_iter([of.image.key]);
        let mut ancestors = Vec::new();
        let mut next = parent(&of.image);
        // Lineages of different moments are joined here, so that a circle is not impossible.
        while let Some(key) = next
            && seen.insert(key)
            && let Some(member) = self.members.get(&key)
        {
            ancestors.push(member);
            next = parent(&member.image);
        }
        ancestors
    }

    /// In the order of their births.
    pub fn children(&self, of: ProcessKey) -> impl Iterator<Item = &Member> {
        let children = self.children.get(&of).into_iter().flatten();
        children
            .filter(|key| self.needed.contains(*key))
            .filter_map(|key| self.members.get(key))
    }
}

fn parent(image: &Image) -> Option<ProcessKey> {
    match &image.parent {
        Parent::Known(_, parent) => Some(parent.key),
        Parent::Root | Parent::Unknown | Parent::Cut => None,
    }
}

/// The residents, and whoever else is named in their lineages.
fn members(population: Population) -> HashMap<ProcessKey, Member, foldhash::fast::RandomState> {
    let Population {
        mut residents,
        has_evicted,
    } = population;
    // The youngest descendant has the latest image of those before it.
    residents.sort_by_key(|resident| Reverse(resident.image.key.start_ns));
    let mut members: HashMap<_, _, _> = residents
        .iter()
        .map(|resident| {
            let life = match resident.exited_at {
                Some(at) => Life::Exited(Some(at)),
                None => Life::Living,
            };
            let image = Arc::clone(&resident.image);
            (image.key, Member { image, life })
        })
        .collect();
    let life = if has_evicted {
        Life::Unknown
    } else {
        Life::Exited(None)
    };
    for resident in &residents {
        let mut image = &resident.image;
        while let Parent::Known(_, parent) = &image.parent
            && !members.contains_key(&parent.key)
        {
            let image_of_parent = Arc::clone(parent);
            members.insert(
                parent.key,
                Member {
                    image: image_of_parent,
                    life,
                },
            );
            image = parent;
        }
    }
    members
}

fn children(
    members: &HashMap<ProcessKey, Member, foldhash::fast::RandomState>,
) -> HashMap<ProcessKey, Vec<ProcessKey>, foldhash::fast::RandomState> {
    let mut children: HashMap<ProcessKey, Vec<ProcessKey>, _> = HashMap::default();
    for (&key, member) in members {
        if let Some(parent) = parent(&member.image) {
            children.entry(parent).or_default().push(key);
        }
    }
    for siblings in children.values_mut() {
        siblings.sort_unstable_by_key(|key| (key.start_ns, key.tgid));
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image::Relation;

    fn child(tgid: u32, start_ns: u64, parent: Option<&Arc<Image>>) -> Arc<Image> {
        let parent = parent.map_or(Parent::Root, |parent| {
            Parent::Known(Relation::Birth, Arc::clone(parent))
        });
        Arc::new(Image {
            key: ProcessKey { tgid, start_ns },
            parent,
            ..Image::sample(tgid, b"x")
        })
    }

    fn population(residents: &[(&Arc<Image>, Option<u64>)]) -> Population {
        let resident = |&(image, exited_at): &(&Arc<Image>, Option<u64>)| Resident {
            image: Arc::clone(image),
            exited_at: exited_at.map(BootTime),
        };
        Population {
            residents: residents.iter().map(resident).collect(),
            has_evicted: false,
        }
    }

    fn pids<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<u32> {
        let members = members.into_iter();
        members.map(|member| member.image.key.tgid).collect()
    }

    #[test]
    fn who_is_forgotten_stays_as_long_as_a_living_one_descends_from_it() {
        let init = child(1, 1, None);
        let forgotten = child(2, 2, Some(&init));
        let [elder, younger] = [child(9, 3, Some(&forgotten)), child(4, 4, Some(&forgotten))];
        let childless = child(5, 5, Some(&init));
        let family = Family::of(
            population(&[
                (&younger, None),
                (&init, None),
                (&elder, None),
                (&childless, Some(6)),
            ]),
            [],
        );
        assert_eq!(pids(family.children(init.key)), [2]);
        assert_eq!(pids(family.children(forgotten.key)), [9, 4]);
        let found = family.find(Wanted::Pid(2)).unwrap();
        assert_eq!(found.life, Life::Exited(None));
        let found = family.find(Wanted::Pid(4)).unwrap();
        assert_eq!(pids(family.ancestors(found)), [2, 1]);
    }

    #[test]
    fn who_has_ended_and_left_nothing_has_ended_unless_it_owns_a_socket() {
        let init = child(1, 1, None);
        let ended = child(5, 5, Some(&init));
        let all = || population(&[(&init, None), (&ended, Some(6))]);
        let missing = Family::of(all(), []).find(Wanted::Pid(5)).err();
        assert_eq!(missing, Some(Missing::Ended(5)));
        let family = Family::of(all(), [ended.key]);
        let life = family.find(Wanted::Pid(5)).unwrap().life;
        assert_eq!(life, Life::Exited(Some(BootTime(6))));
    }

    #[test]
    fn a_pid_means_its_latest_process_and_an_identity_that_one_alone() {
        let first = child(7, 10, None);
        let second = child(7, 20, None);
        let heir = child(8, 11, Some(&first));
        let all = population(&[(&second, None), (&heir, None)]);
        let family = Family::of(all, []);
        let start = |wanted| family.find(wanted).map(|it| it.image.key.start_ns);
        let process = |tgid, start_ns| Wanted::Process {
            tgid,
            start_ns,
            rounded: false,
        };
        assert_eq!(start(Wanted::Pid(7)), Ok(20));
        assert_eq!(start(process(7, 10)), Ok(10));
        assert_eq!(start(process(7, 15)), Err(Missing::Ended(7)));
        assert_eq!(start(Wanted::Pid(6)), Err(Missing::Unknown(6)));
    }

    #[test]
    fn a_start_in_ticks_means_the_process_that_began_in_that_tick() {
        let exact = child(7, 3 * TICK_NS + 5, None);
        let family = Family::of(population(&[(&exact, None)]), []);
        let found = |start_ns| {
            let rounded = true;
            family.find(Wanted::Process {
                tgid: 7,
                start_ns,
                rounded,
            })
        };
        assert!(found(3 * TICK_NS).is_ok());
        assert!(found(2 * TICK_NS).is_err());
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let old = child(1, 1, None);
        let other = child(2, 2, Some(&old));
        let circle = child(1, 1, Some(&other));
        let family = Family::of(population(&[(&circle, None), (&other, None)]), []);
        let found = family.find(Wanted::Pid(1)).unwrap();
        assert_eq!(pids(family.ancestors(found)), [2]);
    }

    #[test]
    fn who_is_not_in_a_table_that_was_full_may_be_alive() {
        let evicted = child(1, 1, None);
        let heir = child(2, 2, Some(&evicted));
        let family = Family::of(
            Population {
                has_evicted: true,
                ..population(&[(&heir, None)])
            },
            [],
        );
        let life = family.find(Wanted::Pid(1)).unwrap().life;
        assert_eq!(life, Life::Unknown);
    }
}
