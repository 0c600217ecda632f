//! Who was born of whom: the processes of a report and their ancestors, as a forest.
//!
//! In: images and what became of them. Out: nodes, each under the process that forked it, as far as that is known.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::event::{BootTime, ProcessKey};
use crate::history::{Item, What};
use crate::identity::BootId;
use crate::process::image::{Image, Parent, Relation};

/// At most so many processes are drawn.
const NODES_MAX: usize = 5000;

/// A process, in one boot.
pub(super) type Who = (BootId, ProcessKey);

/// A process in the forest.
pub(super) struct Node {
    /// As it was last seen.
    pub(super) image: Arc<Image>,
    /// The file of the history that tells of it.
    pub(super) file: usize,
    /// When it became what it is, if that was seen.
    pub(super) executed: Option<BootTime>,
    /// When it ended, and how.
    pub(super) over: Option<(BootTime, Option<u32>)>,
    /// How many connections and flows it had.
    pub(super) contacts: u64,
    /// How the one above is related to it.
    pub(super) relation: Option<Relation>,
    /// Whether it did something itself, rather than be an ancestor.
    pub(super) involved: bool,
    /// Whom it forked.
    pub(super) children: Vec<Who>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Forest {
    nodes: HashMap<Who, Node>,
    /// Those without an ancestor.
    pub(super) roots: Vec<Who>,
    /// How many processes there was no room for, at least.
    pub(super) omitted: u64,
}

impl Forest {
    /// Takes in whoever an item is about.
    pub(super) fn add(&mut self, boot: BootId, file: usize, item: &Item) {
        let Some(image) = &item.process else {
            return;
        };
        let who = (boot, image.key);
        if !self.nodes.contains_key(&who) && !self.plant(boot, file, image) {
            self.omitted += 1;
            return;
        }
        let Some(node) = self.nodes.get_mut(&who) else {
            return;
        };
        node.involved = true;
        node.image = Arc::clone(image);
        match &item.what {
            What::Executed => {
                node.executed = Some(item.time);
                node.over = node.over.or(item.over);
            }
            What::Exited { status } => node.over = Some((item.time, Some(*status))),
            What::Opened(_) | What::Ended(..) | What::Flow(..) => node.contacts += 1,
            _ => {}
        }
    }

    /// Adds a process and its ancestors, as far as there is room.
    fn plant(&mut self, boot: BootId, file: usize, image: &Arc<Image>) -> bool {
        let mut below: Option<Who> = None;
        let mut image = image;
        loop {
            let who = (boot, image.key);
            let is_known = self.nodes.contains_key(&who);
            if !is_known {
                if self.nodes.len() >= NODES_MAX {
                    self.roots.extend(below);
                    return below.is_some();
                }
                self.nodes.insert(who, node(image, file));
            }
            if let (Some(below), Some(above)) = (below, self.nodes.get_mut(&who)) {
                above.children.push(below);
            }
            match &image.parent {
                Parent::Known(_, parent) if !is_known => {
                    below = Some(who);
                    image = parent;
                }
                _ => {
                    if !is_known {
                        self.roots.push(who);
                    }
                    return true;
                }
            }
        }
    }

    /// A process by its key.
    pub(super) fn node(&self, who: Who) -> Option<&Node> {
        self.nodes.get(&who)
    }

    /// Those that did something themselves.
    pub(super) fn involved(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.involved)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Puts them in order of their start.
    pub(super) fn sort(&mut self) {
        for node in self.nodes.values_mut() {
            node.children
                .sort_by_key(|(_, key)| (key.start_ns, key.tgid));
        }
        self.roots.sort_by_key(|(_, key)| (key.start_ns, key.tgid));
    }
}

fn node(image: &Arc<Image>, file: usize) -> Node {
    Node {
        image: Arc::clone(image),
        file,
        executed: None,
        over: None,
        contacts: 0,
        relation: match &image.parent {
            Parent::Known(relation, _) => Some(*relation),
            Parent::Root | Parent::Unknown | Parent::Cut => None,
        },
        involved: false,
        children: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(image: &Arc<Image>, what: What) -> Item {
        Item {
            time: BootTime(5),
            process: Some(Arc::clone(image)),
            what,
            over: None,
            beyond: None,
        }
    }

    fn child(parent: &Arc<Image>, tgid: u32, name: &[u8]) -> Arc<Image> {
        Arc::new(Image {
            parent: Parent::Known(Relation::Birth, Arc::clone(parent)),
            ..Image::sample(tgid, name)
        })
    }

    #[test]
    fn a_process_stands_below_its_ancestors_once() {
        let init = Arc::new(Image::sample(1, b"init"));
        let shell = child(&init, 2, b"sh");
        let (one, other) = (child(&shell, 3, b"curl"), child(&shell, 4, b"nc"));
        let mut forest = Forest::default();
        let boot = BootId::default();
        for image in [&one, &other, &one] {
            forest.add(boot, 0, &item(image, What::Executed));
        }
        forest.add(boot, 0, &item(&one, What::Exited { status: 256 }));
        assert_eq!(forest.len(), 4);
        assert_eq!(forest.roots, [(boot, init.key)]);
        let node = forest.node((boot, shell.key)).unwrap();
        assert_eq!(node.children.len(), 2);
        assert!(!node.involved);
        let curl = forest.node((boot, one.key)).unwrap();
        assert_eq!(curl.over, Some((BootTime(5), Some(256))));
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for() {
        let mut forest = Forest::default();
        let boot = BootId::default();
        for tgid in 0..NODES_MAX as u32 + 7 {
            let image = Arc::new(Image::sample(tgid, b"x"));
            forest.add(boot, 0, &item(&image, What::Executed));
        }
        assert_eq!((forest.len(), forest.omitted), (NODES_MAX, 7));
    }
}
