//! What a process is at one moment, immutable: who it is, what it runs, who gave birth to it.
//!
//! An image is shared, never changed. Fork, exec and a change of name make a new one. Its lineage
//! is the chain of images of those who forked one another, each as it was when it forked, so an
//! ancestor that has exited lives exactly as long as someone's lineage needs it.

use std::sync::Arc;

use bytes::Bytes;

use super::cause::Cause;
use super::cgroup::{Cgroup, Container};
use super::content::{Content, Facts};
use super::fingerprint::{Derived, Fingerprint};
use crate::event::{FileStatus, Name, Privileges, ProcessKey, Session, Stream};
use crate::observation::Connection;

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provenance {
    /// A hook saw it.
    Kernel,
    /// Read from the kernel's lists or /proc, at start or afterwards.
    Procfs,
    /// Concluded from other facts.
    Inferred,
    /// Not known.
    Unknown,
}

/// How an ancestor is related to its descendant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It forked it.
    Birth,
    /// It is its parent now; whether it forked it cannot be known.
    Present,
}

/// The link to the ancestor.
#[derive(Clone, Debug)]
pub enum Parent {
    /// The ancestor, as it was at the fork (or when the tracer started).
    Known(Relation, Arc<Image>),
    /// There is none: PID 1, PID 2 and the idle task.
    Root,
    /// There is one, but it is not known.
    Unknown,
    /// The chain was cut here to bound it.
    Cut,
}

/// The program that a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Path as in `/proc/PID/exe` without the mark ` (deleted)`; for a memfd `memfd:NAME`. Empty for
    /// a kernel thread and where it is not known.
    pub executable: Bytes,
    /// That file as its inode was at the exec (or at the tracer's start).
    pub file: Option<FileStatus>,
    /// What is known of its content.
    pub content: Option<Arc<Content>>,
    /// The file is in the upper layer of an overlay file system: it was made or changed there.
    pub upper_layer: bool,
    /// What it may do that whoever called exec could not.
    pub privileges: Privileges,
    /// Where an interpreter runs for it, the script as exec was called with it. Empty if there is none
    /// or it is not known.
    pub script: Bytes,
    /// The script lacks its end.
    pub script_truncated: bool,
    /// The path lacks its beginning.
    pub executable_truncated: bool,
    /// The file is a memfd.
    pub memfd: bool,
    /// The file's name was gone.
    pub deleted: bool,
    /// Arguments as in `/proc/PID/cmdline`: each ended by a NUL. `None` if unknown.
    pub arguments: Option<Bytes>,
    /// The arguments lack their end.
    pub arguments_truncated: bool,
    /// The arguments had secrets, in place of which stands `***`.
    pub arguments_masked: bool,
    /// Working directory at the exec (or at the tracer's start). Empty if unknown.
    pub working_directory: Bytes,
    /// The first `comm`: the name of the path that was executed. Empty if unknown.
    pub invoked_as: Name,
    /// Standard input and output at the exec.
    pub streams: [Stream; 2],
    /// The TCP connection that one of them was, if it is known.
    pub over: Option<Over>,
}

/// A connection, compared by its identity.
#[derive(Clone, Debug)]
pub struct Over(pub Arc<Connection>);

impl PartialEq for Over {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Over {}

impl Program {
    /// What an examination of its file has found by now.
    pub fn facts(&self) -> Option<&Facts> {
        self.content.as_ref()?.facts()
    }
}

/// A process at one moment.
#[derive(Clone, Debug)]
pub struct Image {
    /// Who.
    pub key: ProcessKey,
    /// The start time is known only in ticks (iterators were refused).
    pub key_rounded: bool,
    /// `comm` of the thread group's leader.
    pub name: Name,
    /// Effective user ID; `None` if unknown.
    pub euid: Option<u32>,
    /// Whether it is a kernel thread.
    pub kernel_thread: bool,
    /// What it runs; shared with whom it forked.
    pub program: Arc<Program>,
    /// Where it is; `None` if unknown.
    pub cgroup: Option<Arc<Cgroup>>,
    /// Its login.
    pub session: Session,
    /// PID in its own PID namespace, unless that is the initial one.
    pub namespace_pid: Option<u32>,
    /// Its root directory is the host's, and its user namespace the initial one.
    pub has_host_root: bool,
    /// Its user namespace is not the initial one.
    pub in_user_namespace: bool,
    /// Who gave birth to it.
    pub parent: Parent,
    /// Its parent when it was last heard of, if that is another process.
    pub present_parent: Option<Arc<Brief>>,
    /// Where the existence of the process is known from.
    pub provenance: Provenance,
    /// Number of ancestors in the chain.
    pub depth: u32,
    /// What led to its fork, as far as that can be told.
    pub cause: Option<Arc<Cause>>,
    /// See [`Image::fingerprint`].
    pub fingerprint: Derived<Fingerprint>,
}

impl Image {
    /// The process and its ancestors, from the process itself to the first known one.
    pub fn lineage(&self) -> impl Iterator<Item = &Image> {
        std::iter::successors(Some(self), |image| match &image.parent {
            Parent::Known(_, parent) => Some(parent),
            Parent::Root | Parent::Unknown | Parent::Cut => None,
        })
    }

    /// The container that it is in, as far as that is known.
    pub fn container(&self) -> Option<&Container> {
        self.cgroup.as_ref()?.container.as_ref()
    }

    /// Whether the host's names of users are those of this process.
    pub fn has_host_users(&self) -> bool {
        (self.has_host_root || self.kernel_thread) && self.container().is_none()
    }

    /// Whether the chain reaches PID 1 or 2.
    pub fn lineage_complete(&self) -> bool {
        self.lineage()
            .last()
            .is_some_and(|first| matches!(first.parent, Parent::Root))
    }

    /// Whether `ancestor` forked it or one that did, as far as that is known for sure.
    pub fn was_born_of(&self, ancestor: ProcessKey) -> bool {
        let mut image = self;
        while let Parent::Known(Relation::Birth, parent) = &image.parent {
            if parent.key == ancestor {
                return true;
            }
            image = parent;
        }
        false
    }

    /// Whether `ancestor` is this process or one of its ancestors.
    pub fn descends_from(&self, ancestor: ProcessKey) -> bool {
        // A plain loop: this is asked of every event.
        let mut image = self;
        while image.key != ancestor {
            match &image.parent {
                Parent::Known(_, parent) => image = parent,
                Parent::Root | Parent::Unknown | Parent::Cut => return false,
            }
        }
        true
    }
}

/// A process at one moment without its ancestors, for what is remembered for longer than they are needed.
#[derive(Clone, Debug)]
pub struct Brief {
    /// Who.
    pub key: ProcessKey,
    /// The start time is known only in ticks.
    pub key_rounded: bool,
    /// `comm` of the thread group's leader.
    pub name: Name,
    /// What it ran.
    pub program: Arc<Program>,
}

impl Brief {
    /// A process of which nothing else is known.
    pub fn unknown(key: ProcessKey) -> Self {
        Self {
            key,
            key_rounded: false,
            name: Name::default(),
            program: Arc::default(),
        }
    }
}

impl From<&Image> for Brief {
    fn from(image: &Image) -> Self {
        Self {
            key: image.key,
            key_rounded: image.key_rounded,
            name: image.name,
            program: Arc::clone(&image.program),
        }
    }
}

#[cfg(test)]
impl Image {
    /// A process without ancestors of which a test needs no more than its PID and its name.
    pub(crate) fn sample(tgid: u32, name: &[u8]) -> Image {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name);
        Image {
            key: ProcessKey { tgid, start_ns: 1 },
            key_rounded: false,
            name: Name(comm),
            euid: None,
            kernel_thread: false,
            program: Arc::default(),
            cgroup: None,
            session: Session::default(),
            namespace_pid: None,
            has_host_root: false,
            in_user_namespace: false,
            parent: Parent::Root,
            present_parent: None,
            provenance: Provenance::Kernel,
            depth: 0,
            cause: None,
            fingerprint: Derived::default(),
        }
    }
}
