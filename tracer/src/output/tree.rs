//! The family of a process as a picture for people: a line for each process, and below it one for each of its
//! sockets.
//!
//! In: a process with its ancestors and descendants. Out: lines, the first ancestor first, cut to a width. What
//! comes from the outside world reaches the terminal only as [`write_terminal`](super::text::write_terminal) leaves it.

mod socket;

use serde::{Deserialize, Serialize};

use self::socket::described;
use super::socket::{Socket, named, process, safe};
use super::users::Users;
use crate::event::BootTime;
use crate::process::image::{Image, Parent, Relation};
use crate::process::population::{Life, Member};
use crate::quantity;

/// How a picture is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Longest line, in characters; `None` if lines are not to be cut.
    pub width: Option<usize>,
    /// Nothing but ASCII.
    pub ascii: bool,
}

/// A process, whom it descends from, and who descends from it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The parent first.
    pub ancestors: Vec<Node>,
    /// Whom it is about.
    pub subject: Node,
}

/// A process of a tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who.
    pub member: Member,
    /// What it owns, or holds where nobody knows the owner.
    pub sockets: Vec<Socket>,
    /// In the order of their births.
    pub children: Vec<Node>,
    /// Descendants that are not shown.
    pub omitted: usize,
}

impl Node {
    /// What the link to its parent is worth; `None` if that is not known.
    pub fn relation(&self) -> Option<Relation> {
        match self.member.image.parent {
            Parent::Known(relation, _) => Some(relation),
            Parent::Root | Parent::Unknown | Parent::Cut => None,
        }
    }
}

/// What lines are drawn with.
struct Marks {
    branch: &'static str,
    corner: &'static str,
    pipe: &'static str,
    present: &'static str,
    subject: &'static str,
    arrow: &'static str,
    both_ways: &'static str,
    ellipsis: &'static str,
}

const UNICODE: Marks = Marks {
    branch: "├─",
    corner: "└─",
    pipe: "│ ",
    present: "←? ",
    subject: "▶ ",
    arrow: "→",
    both_ways: "↔",
    ellipsis: "…",
};

const ASCII: Marks = Marks {
    branch: "|-",
    corner: "`-",
    pipe: "| ",
    present: "<-? ",
    subject: "=> ",
    arrow: "->",
    both_ways: "<->",
    ellipsis: "...",
};

const BLANK: &str = "  ";

/// The picture of a tree as it is `now`.
pub fn draw(tree: &Tree, look: Look, now: BootTime, users: Users) -> String {
    let mut drawing = Drawing {
        look,
        marks: if look.ascii { &ASCII } else { &UNICODE },
        users,
        now,
        out: String::new(),
    };
    drawing.tree(tree);
    drawing.out
}

struct Drawing {
    look: Look,
    marks: &'static Marks,
    users: Users,
    now: BootTime,
    out: String,
}

impl Drawing {
    fn tree(&mut self, tree: &Tree) {
        let Tree { ancestors, subject } = tree;
        let corner = self.marks.corner;
        let place = |generation: usize| match generation.checked_sub(1) {
            None => (String::new(), String::new()),
            Some(above) => (BLANK.repeat(above) + corner, BLANK.repeat(generation)),
        };
        let mut generation = 0;
        let first = ancestors.last().unwrap_or(subject);
        if let Some(unseen) = self.unseen(&first.member.image) {
            self.line(unseen);
            generation += 1;
        }
        for ancestor in ancestors.iter().rev() {
            let (head, below) = place(generation);
            self.process(&head, &below, ancestor, "", true);
            generation += 1;
        }
        let (head, below) = place(generation);
        let mark = self.marks.subject;
        self.process(&head, &below, subject, mark, has_below(subject));
        self.descendants(&below, subject);
    }

    /// What stands for ancestors that are not known.
    fn unseen(&self, first: &Image) -> Option<&'static str> {
        match first.parent {
            Parent::Unknown => Some("?"),
            Parent::Cut => Some(self.marks.ellipsis),
            Parent::Known(..) | Parent::Root => None,
        }
    }

    /// Recurses as deep as the tree is.
    fn descendants(&mut self, prefix: &str, node: &Node) {
        let count = node.children.len() + usize::from(node.omitted > 0);
        for (index, child) in node.children.iter().enumerate() {
            let is_last = index + 1 == count;
            let (head, below) = if is_last {
                (self.marks.corner, BLANK)
            } else {
                (self.marks.branch, self.marks.pipe)
            };
            let (head, below) = (format!("{prefix}{head}"), format!("{prefix}{below}"));
            self.process(&head, &below, child, "", has_below(child));
            self.descendants(&below, child);
        }
        if node.omitted > 0 {
            let Marks {
                corner, ellipsis, ..
            } = self.marks;
            let word = if node.omitted == 1 {
                "descendant"
            } else {
                "descendants"
            };
            self.line(&format!(
                "{prefix}{corner}{ellipsis} {} {word}",
                node.omitted
            ));
        }
    }

    /// A process and its sockets; `goes_on` says that there is something to draw a line to below them.
    fn process(&mut self, head: &str, below: &str, node: &Node, mark: &str, goes_on: bool) {
        let present = match node.relation() {
            Some(Relation::Present) => self.marks.present,
            Some(Relation::Birth) | None => "",
        };
        let text = self.process_text(&node.member);
        self.line(&format!("{head}{present}{mark}{text}"));
        let pipe = if goes_on { self.marks.pipe } else { BLANK };
        for socket in &node.sockets {
            let text = described(socket, self.marks, self.now);
            self.line(&format!("{below}{pipe}{BLANK}{text}"));
        }
    }

    fn process_text(&mut self, member: &Member) -> String {
        let image = &member.image;
        let mut parts = vec![process(image), self.user(image), self.age(member)];
        // When that was last heard of; a process does nothing when its parent changes.
        let later = image.present_parent.as_ref();
        parts.extend(later.map(|it| format!("(later below {})", named(it.name, it.key))));
        parts.push(self.command(image));
        parts.retain(|part| !part.is_empty());
        parts.join("  ")
    }

    fn user(&mut self, image: &Image) -> String {
        let Some(id) = image.euid else {
            return "?".to_owned();
        };
        let name = self.users.of(image, self.now);
        name.map_or_else(|| id.to_string(), |name| safe(name.as_bytes()))
    }

    fn age(&self, member: &Member) -> String {
        let since = |time| quantity::duration(self.now.since(time));
        match member.life {
            Life::Exited(Some(at)) => format!("exited {} ago", since(at)),
            Life::Exited(None) => "exited".to_owned(),
            Life::Unknown => "perhaps exited".to_owned(),
            Life::Living if member.image.key.start_ns == 0 => "?".to_owned(),
            Life::Living => since(BootTime(member.image.key.start_ns)),
        }
    }

    /// The command line as `ps` shows it.
    fn command(&self, image: &Image) -> String {
        if image.kernel_thread {
            return "(kernel thread)".to_owned();
        }
        let program = &image.program;
        let Some(arguments) = program.arguments.as_ref().filter(|it| !it.is_empty()) else {
            return safe(&program.executable);
        };
        let mut line = arguments.strip_suffix(b"\0").unwrap_or(arguments).to_vec();
        line.iter_mut()
            .filter(|byte| **byte == 0)
            .for_each(|byte| *byte = b' ');
        let cut = if program.arguments_truncated {
            self.marks.ellipsis
        } else {
            ""
        };
        safe(&line) + cut
    }

    /// A line, made ASCII where that is asked for, and cut.
    fn line(&mut self, text: &str) {
        let text = if self.look.ascii {
            ascii(text)
        } else {
            text.to_owned()
        };
        match self.look.width {
            Some(width) if text.chars().count() > width => {
                let ellipsis = self.marks.ellipsis;
                let kept = width.saturating_sub(ellipsis.chars().count());
                self.out.extend(text.chars().take(kept));
                self.out.push_str(ellipsis);
            }
            _ => self.out.push_str(&text),
        }
        self.out.push('\n');
    }
}

fn has_below(node: &Node) -> bool {
    !node.children.is_empty() || node.omitted > 0
}

/// With `\u{HHHH}` for everything else but the sign of micro.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'µ' => out.push('u'),
            _ if character.is_ascii() => out.push(character),
            _ => out.extend(character.escape_unicode()),
        }
    }
    out
}

#[cfg(test)]
mod tests;
