//! Processes that are older than the tracer.
//!
//! In: what the kernel's list of tasks (or /proc) tells at start, in any order. Out: the same with
//! every parent before its children, and what the link to the parent is worth.

use std::sync::Arc;

use hashbrown::HashMap;

use super::image::{Program, Relation};
use crate::event::{Membership, Name, ProcessKey};

/// A process that was there when tracing began.
#[derive(Clone, Debug)]
pub struct ExistingProcess {
    /// Who.
    pub key: ProcessKey,
    /// The start times, this one's and the parent's, are known only in ticks.
    pub key_rounded: bool,
    /// Its parent at present; `None` if it has none or it is not known.
    pub parent: Option<ProcessKey>,
    /// `comm` of the thread group's leader.
    pub name: Name,
    /// Effective user ID; `None` if unknown.
    pub euid: Option<u32>,
    /// Whether it is a kernel thread.
    pub kernel_thread: bool,
    /// Whether it is the init of a PID namespace or a subreaper. Only to these does the kernel give
    /// the orphans of other processes.
    pub reaper: bool,
    /// What it runs, as far as it is known.
    pub program: Arc<Program>,
    /// What it belongs to.
    pub membership: Membership,
}

/// Whether this is the PID of the idle task, the first process or the first kernel thread. These
/// have no parent.
pub(super) fn is_root(tgid: u32) -> bool {
    tgid <= 2
}

impl ExistingProcess {
    /// How far the present parent can be believed to be the birth parent.
    fn relation_to_children(&self) -> Relation {
        if self.reaper || self.key.tgid == 1 {
            Relation::Present
        } else {
            Relation::Birth
        }
    }
}

/// A process, and the place of its parent among those before it.
pub(super) type Ordered = (ExistingProcess, Option<(Relation, usize)>);

/// Puts every parent before its children. A parent that is not listed, or that is its own
/// descendant because the list was not taken in one moment, is dropped.
pub(super) fn parents_first(processes: Vec<ExistingProcess>) -> Vec<Ordered> {
    let by_key: HashMap<ProcessKey, usize, foldhash::fast::RandomState> = processes
        .iter()
        .enumerate()
        .rev()
        .map(|(index, process)| (process.key, index))
        .collect();
    let mut place = vec![Place::Unvisited; processes.len()];
    let mut order = Vec::with_capacity(processes.len());
    for start in 0..processes.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(index) = next.filter(|&index| place[index] == Place::Unvisited) {
            place[index] = Place::OnPath;
            path.push(index);
            next = processes[index]
                .parent
                .and_then(|parent| by_key.get(&parent).copied());
        }
        // From here down, each one's parent is the one before it.
        while let Some(index) = path.pop() {
            let parent = next.and_then(|parent| match place[parent] {
                Place::Ordered(place) => Some((processes[parent].relation_to_children(), place)),
                Place::Unvisited | Place::OnPath => None,
            });
            place[index] = Place::Ordered(order.len());
            order.push((index, parent));
            next = Some(index);
        }
    }
    let mut processes: Vec<Option<ExistingProcess>> = processes.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|(index, parent)| Some((processes[index].take()?, parent)))
        .collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Unvisited,
    OnPath,
    Ordered(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing(tgid: u32, parent: u32) -> ExistingProcess {
        let key = |tgid| ProcessKey { tgid, start_ns: 1 };
        ExistingProcess {
            key: key(tgid),
            key_rounded: false,
            parent: (parent != 0).then(|| key(parent)),
            name: Name::default(),
            euid: Some(0),
            kernel_thread: false,
            reaper: false,
            program: Arc::default(),
            membership: Membership::default(),
        }
    }

    /// `child<parent` for each, in order.
    fn ordered(processes: Vec<ExistingProcess>) -> Vec<String> {
        let ordered = parents_first(processes);
        let name = |(process, parent): &Ordered| match parent {
            Some((_, place)) => format!("{}<{}", process.key.tgid, ordered[*place].0.key.tgid),
            None => process.key.tgid.to_string(),
        };
        ordered.iter().map(name).collect()
    }

    #[test]
    fn parents_come_before_children_from_any_order() {
        let family = || {
            vec![
                existing(4, 3),
                existing(3, 1),
                existing(2, 0),
                existing(1, 0),
            ]
        };
        assert_eq!(ordered(family()), ["1", "3<1", "4<3", "2"]);
        let reversed = family().into_iter().rev().collect();
        assert_eq!(ordered(reversed), ["1", "2", "3<1", "4<3"]);
    }

    #[test]
    fn unlisted_parent_is_no_parent() {
        assert_eq!(ordered(vec![existing(4, 3)]), ["4"]);
    }

    #[test]
    fn circle_of_parents_is_broken() {
        let circle = vec![
            existing(3, 5),
            existing(4, 3),
            existing(5, 4),
            existing(6, 6),
        ];
        assert_eq!(ordered(circle), ["4", "5<4", "3<5", "6"]);
    }

    #[test]
    fn only_a_reaper_can_have_got_its_children_from_others() {
        let reaper = ExistingProcess {
            reaper: true,
            ..existing(7, 1)
        };
        let family = vec![
            existing(1, 0),
            existing(3, 1),
            reaper,
            existing(8, 7),
            existing(4, 3),
        ];
        let relations: Vec<_> = parents_first(family)
            .into_iter()
            .map(|(process, parent)| (process.key.tgid, parent.map(|(relation, _)| relation)))
            .collect();
        let (birth, present) = (Some(Relation::Birth), Some(Relation::Present));
        assert_eq!(
            relations,
            [
                (1, None),
                (3, present),
                (7, present),
                (8, present),
                (4, birth)
            ]
        );
    }
}
