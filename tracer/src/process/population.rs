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

type ByKey<T> = HashMap<ProcessKey, T, foldhash::fast::RandomState>;

/// Everyone who is alive, holds a socket, or has such descendants.
#[derive(Debug)]
pub struct Family {
    members: ByKey<Member>,
    /// In the order of their births.
    children: ByKey<Vec<ProcessKey>>,
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
fn members(population: Population) -> ByKey<Member> {
    let mut residents = population.residents;
    // The youngest descendant has the latest image of those before it.
    residents.sort_by_key(|resident| Reverse(resident.image.key.start_ns));
    let members = residents.iter().map(|resident| {
        let image = Arc::clone(&resident.image);
        let life = match resident.exited_at {
            Some(at) => Life::Exited(Some(at)),
            None => Life::Living,
        };
        (image.key, Member { image, life })
    });
    let mut members: ByKey<Member> = members.collect();
    let life = if population.has_evicted {
        Life::Unknown
    } else {
        Life::Exited(None)
    };
    for resident in &residents {
        add_forgotten(&resident.image, life, &mut members);
    }
    members
}

/// Adds the ancestors of an image that are not there yet; those of whoever is there are, or will be.
fn add_forgotten(image: &Image, life: Life, members: &mut ByKey<Member>) {
    let mut parent = &image.parent;
    while let Parent::Known(_, image) = parent
        && !members.contains_key(&image.key)
    {
        let member = Member {
            image: Arc::clone(image),
            life,
        };
        members.insert(image.key, member);
        parent = &image.parent;
    }
}

fn children(members: &ByKey<Member>) -> ByKey<Vec<ProcessKey>> {
    let mut children: ByKey<Vec<ProcessKey>> = HashMap::default();
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
mod tests;
