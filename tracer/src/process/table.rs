//! The process table: who is alive, and who has died but is still needed.
//!
//! In: the start inventory, forks, execs, exits, changes of cgroups, and the task in every other record.
//! Out: images.
//! Time comes with each call.
//!
//! Records arrive in the order in which things happened, so a PID means its latest process. What a
//! record says of a process is believed over what the table remembers: a different start time means
//! that the PID was reused and the fork was lost, and such a process never inherits from its
//! namesake. Ancestors live as long as someone's image refers to them, independent of this table.

use std::sync::Arc;

use hashbrown::HashMap;

use super::cause::Cause;
use super::cgroup::Cgroup;
use super::cgroups::Cgroups;
use super::contents::{Contents, Root};
use super::fingerprint::Derived;
use super::image::{Image, Over, Parent, Program, Provenance, Relation};
use super::inventory::{self, ExistingProcess};
use super::lineage;
use super::population::{Population, Resident};
use super::secrets::Secrets;
use super::spare::Spare;
use super::strings::Strings;
use crate::arena::{Arena, Handle};
use crate::connection::serving::Serving;
use crate::event::{BootTime, CgroupId, Exec, Membership, ProcessKey, RootId, Session, Task};

mod present;

use present::is_parent_in;

/// How long an exited process is kept for records that mention it.
const GRACE_NS: u64 = 10_000_000_000;
/// Width of a rounded start time: procfs counts in USER_HZ, which is 100 everywhere.
pub(super) const TICK_NS: u64 = 10_000_000;

/// The lists of the arena, each in the order in which processes entered it.
const LIVE: usize = 0;
/// Exited less than [`GRACE_NS`] ago.
const EXITED: usize = 1;
/// Exited longer ago, or when room was short, but a connection or a listener needs the last image.
const HELD: usize = 2;

/// Refers to a process of the table, for as long as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId(Handle);

#[derive(Debug)]
struct Process {
    image: Arc<Image>,
    exited_at: Option<BootTime>,
    /// How many connections and listeners it owns.
    holds: u32,
    /// The connections that it accepted.
    serving: Serving,
    /// Its program is the one of the start inventory.
    inventoried: bool,
}

/// Every process that is alive, was alive moments ago, or owns a connection.
#[derive(Debug)]
pub struct ProcessTable {
    processes: Arena<Process, 3>,
    /// The latest process of each PID.
    by_tgid: HashMap<u32, Handle, foldhash::fast::RandomState>,
    spare: Spare,
    strings: Strings,
    contents: Contents,
    secrets: Secrets,
    capacity: usize,
    evictions: u64,
    /// Evictions of processes that were needed, since they were last asked for.
    lost: u64,
    inventory_at: BootTime,
    cgroups: Cgroups,
    /// The root directory of PID 1.
    host_root: Option<RootId>,
}

impl ProcessTable {
    /// An empty table for at most `capacity` processes.
    pub fn new(capacity: usize) -> Self {
        ProcessTable {
            processes: Arena::new(),
            by_tgid: HashMap::default(),
            spare: Spare::default(),
            strings: Strings::default(),
            contents: Contents::default(),
            secrets: Secrets::default(),
            capacity: capacity.max(1),
            evictions: 0,
            lost: 0,
            inventory_at: BootTime::default(),
            cgroups: Cgroups::default(),
            host_root: None,
        }
    }

    /// Masks these secrets in the arguments of whoever comes.
    pub fn mask(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Number of processes.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether there is no process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Processes that had to make room for others since the start.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// How many of them were alive or owned a connection, since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The image of a process as it is now, or as it was when it exited. `None` if it was evicted.
    pub fn image(&self, id: ProcessId) -> Option<&Arc<Image>> {
        self.processes.get(id.0).map(|process| &process.image)
    }

    /// Cgroups that had to make room for others since the start.
    pub fn cgroup_evictions(&self) -> u64 {
        self.cgroups.evictions()
    }

    /// Everyone who is in the table.
    pub fn population(&self) -> Population {
        let residents = self.processes.iter().map(|process| Resident {
            image: Arc::clone(&process.image),
            exited_at: process.exited_at,
        });
        Population {
            residents: residents.collect(),
            has_evicted: self.evictions > 0,
        }
    }

    /// A living process whose parent is `parent`: the youngest, where there are several.
    pub fn child_of(&self, parent: ProcessKey) -> Option<ProcessKey> {
        let images = self.by_tgid.values().filter_map(|&handle| {
            let process = self.processes.get(handle)?;
            process.exited_at.is_none().then_some(&process.image)
        });
        let child = |image: &&Arc<Image>| matches!(&image.parent, Parent::Known(_, known) if known.key == parent);
        images
            .filter(child)
            .map(|image| image.key)
            .max_by_key(|key| key.start_ns)
    }

    /// Fills an empty table with the processes that were alive at `taken_at`, after the hooks were
    /// attached and before their first event is applied.
    pub fn inventory(&mut self, taken_at: BootTime, processes: Vec<ExistingProcess>) {
        self.inventory_at = taken_at;
        let first = processes.iter().find(|process| process.key.tgid == 1);
        self.host_root = first.and_then(|first| first.membership.root);
        let mut images: Vec<Arc<Image>> = Vec::with_capacity(processes.len());
        for (mut process, parent) in inventory::parents_first(processes) {
            let (parent, depth) = match parent {
                _ if inventory::is_root(process.key.tgid) => (Parent::Root, 0),
                Some((relation, place)) => {
                    lineage::bound(&mut images[place]);
                    lineage::link(relation, &images[place])
                }
                None => (Parent::Unknown, 0),
            };
            if let Some(file) = process.program.file {
                let root = self.root_of(&process.membership);
                let content = Some(self.contents.of(file.version, root));
                Arc::make_mut(&mut process.program).content = content;
            }
            let membership = process.membership;
            let image = Arc::new(Image {
                key: process.key,
                key_rounded: process.key_rounded,
                name: process.name,
                euid: process.euid,
                kernel_thread: process.kernel_thread,
                program: process.program.masked(&self.secrets),
                cgroup: self.cgroup(membership.cgroup, None),
                session: membership.session,
                namespace_pid: membership.namespace_pid,
                has_host_root: self.has_host_root(&membership),
                in_user_namespace: membership.in_user_namespace,
                parent,
                present_parent: None,
                provenance: Provenance::Procfs,
                depth,
                cause: None,
                fingerprint: Derived::default(),
            });
            images.push(Arc::clone(&image));
            if !self.by_tgid.contains_key(&image.key.tgid) {
                self.insert(taken_at, image, true);
            }
        }
    }

    /// Lets time pass: forgets who exited long ago and is not needed.
    pub fn advance(&mut self, now: BootTime) {
        while let Some((handle, process)) = self.processes.first(EXITED) {
            if process
                .exited_at
                .is_some_and(|exit| now.since(exit) < GRACE_NS)
            {
                break;
            }
            if process.holds > 0 {
                self.processes.move_to(handle, HELD);
            } else {
                self.remove(handle);
            }
        }
    }

    /// A process begins, with the image of the one that forked it. Returns its image.
    pub fn fork(
        &mut self,
        time: BootTime,
        ProcessId(forker): ProcessId,
        child: ProcessKey,
        membership: &Membership,
        cause: Option<Arc<Cause>>,
    ) -> &Arc<Image> {
        let existing = self.find(child.tgid, Some(child.start_ns));
        let (parent, depth) = self.link_to(forker);
        let handle = match existing {
            // The inventory has it already, with what it has become since.
            Some(handle) => {
                self.change(handle, |image| Image {
                    parent,
                    depth,
                    cause,
                    provenance: Provenance::Kernel,
                    ..image.clone()
                });
                handle
            }
            None => {
                let forker = &self.processes[forker];
                let inventoried = forker.inventoried;
                let cgroup = self.cgroup(membership.cgroup, forker.image.cgroup.as_ref());
                let has_host_root = self.has_host_root(membership);
                let image = self.spare.image(Image {
                    key: child,
                    key_rounded: false,
                    name: forker.image.name,
                    euid: forker.image.euid,
                    kernel_thread: forker.image.kernel_thread,
                    program: Arc::clone(&forker.image.program),
                    cgroup,
                    session: membership.session,
                    namespace_pid: membership.namespace_pid,
                    has_host_root,
                    in_user_namespace: membership.in_user_namespace,
                    parent,
                    present_parent: None,
                    provenance: Provenance::Kernel,
                    depth,
                    cause,
                    fingerprint: Derived::default(),
                });
                self.insert(time, image, inventoried)
            }
        };
        &self.processes[handle].image
    }

    /// A process becomes another program; `over` is the connection that one of its standard streams is. Returns its
    /// new image.
    pub fn exec(&mut self, time: BootTime, exec: &Exec<'_>, over: Option<Over>) -> &Arc<Image> {
        let root = self.root_of(&exec.membership);
        let program = Program {
            content: Some(self.contents.of(exec.file.version, root)),
            over,
            ..Program::executed(exec, &mut self.strings, &self.secrets)
        };
        let program = self.spare.program(program);
        let task = &exec.task;
        let handle = match self.find(task.tgid, task.start_ns) {
            Some(handle) => handle,
            None => self.insert_unknown(time, task),
        };
        let before = &self.processes[handle].image;
        let present_parent = self.present_parent(before, task);
        let membership = &exec.membership;
        let cgroup = self.cgroup(membership.cgroup, before.cgroup.as_ref());
        let has_host_root = self.has_host_root(membership);
        self.change(handle, |image| Image {
            name: task.name,
            euid: task.euid,
            kernel_thread: task.kernel_thread,
            program,
            present_parent,
            cgroup,
            session: membership.session,
            namespace_pid: membership.namespace_pid,
            has_host_root,
            in_user_namespace: membership.in_user_namespace,
            ..image.clone()
        });
        self.processes[handle].inventoried = false;
        &self.processes[handle].image
    }

    /// A process ends. Returns its last image, or `None` if it had ended already: when its last two
    /// threads end at the same time, each can believe to be the last.
    pub fn exit(&mut self, time: BootTime, task: &Task) -> Option<&Arc<Image>> {
        let handle = self.seen(time, task).0;
        if self.processes[handle].exited_at.is_some() {
            return None;
        }
        self.mark_exited(handle, time);
        Some(&self.processes[handle].image)
    }

    /// The process to which a task belongs, brought up to date with what the task tells.
    pub fn seen(&mut self, time: BootTime, task: &Task) -> ProcessId {
        let Some(handle) = self.find(task.tgid, task.start_ns) else {
            return ProcessId(self.insert_unknown(time, task));
        };
        let process = &self.processes[handle];
        if !is_as_in(&process.image, task) {
            // The inventory is newer than this record, and so is perhaps the program in it.
            let keep_program = !process.inventoried || time >= self.inventory_at;
            let present_parent = self.present_parent(&process.image, task);
            self.change(handle, |image| Image {
                name: task.name,
                euid: task.euid.or(image.euid),
                kernel_thread: task.kernel_thread,
                program: if keep_program {
                    Arc::clone(&image.program)
                } else {
                    Arc::default()
                },
                present_parent,
                ..image.clone()
            });
        }
        ProcessId(handle)
    }

    /// There is a cgroup of this ID and path.
    pub fn cgroup_mkdir(&mut self, id: CgroupId, path: &[u8]) {
        self.cgroups.insert(id, path);
    }

    /// A cgroup is gone.
    pub fn cgroup_rmdir(&mut self, id: CgroupId) {
        self.cgroups.remove(id);
    }

    /// A process is in another cgroup from now on.
    pub fn cgroup_attach(&mut self, process: ProcessKey, id: CgroupId, path: Option<&[u8]>) {
        if let Some(path) = path {
            self.cgroups.insert(id, path);
        }
        let Some(handle) = self.find(process.tgid, Some(process.start_ns)) else {
            return;
        };
        let before = &self.processes[handle].image;
        let cgroup = self.cgroup(Some(id), before.cgroup.as_ref());
        self.change(handle, |image| Image {
            cgroup,
            ..image.clone()
        });
    }

    /// The cgroup of this ID, if it is known, or if it is `kept` by a process that is in it.
    fn cgroup(&self, id: Option<CgroupId>, kept: Option<&Arc<Cgroup>>) -> Option<Arc<Cgroup>> {
        let id = id?;
        let kept = kept.filter(|kept| kept.id == id);
        kept.or_else(|| self.cgroups.get(id)).cloned()
    }

    /// Whether it has the root directory of PID 1, and its users are the host's.
    fn has_host_root(&self, membership: &Membership) -> bool {
        !membership.in_user_namespace && self.root_of(membership) == Root::Host
    }

    fn root_of(&self, membership: &Membership) -> Root {
        match membership.root {
            Some(root) if self.host_root == Some(root) => Root::Host,
            root => Root::Other(root, membership.cgroup),
        }
    }

    /// The process of a task, as it is.
    pub fn find_task(&self, task: &Task) -> Option<ProcessId> {
        self.find(task.tgid, task.start_ns).map(ProcessId)
    }

    /// The process of a task that was alive at `time`, which may be past: nothing is brought up to date.
    /// `None` if the PID is another's by now.
    pub fn found(&mut self, time: BootTime, task: &Task) -> Option<ProcessId> {
        if let Some(id) = self.find_task(task) {
            return Some(id);
        }
        let is_free = !self.by_tgid.contains_key(&task.tgid);
        is_free.then(|| ProcessId(self.insert_unknown(time, task)))
    }

    /// A connection or a listener needs the process until it [releases](Self::release) it.
    pub(crate) fn hold(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get_mut(id.0) {
            process.holds += 1;
        }
    }

    /// What a process is serving. `None` if it was evicted.
    pub(crate) fn serving_mut(&mut self, id: ProcessId) -> Option<&mut Serving> {
        self.processes
            .get_mut(id.0)
            .map(|process| &mut process.serving)
    }

    /// Shares a cause.
    pub(crate) fn share_cause(&mut self, cause: Cause) -> Arc<Cause> {
        self.spare.cause(cause)
    }

    /// Takes back a cause that someone kept.
    pub(crate) fn retire_cause(&mut self, cause: Arc<Cause>) {
        self.spare.retire_cause(cause);
    }

    /// Takes back an image that someone kept.
    pub(crate) fn retire(&mut self, image: Arc<Image>) {
        self.spare.retire(image);
    }

    /// Undoes one [`hold`](Self::hold).
    pub(crate) fn release(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(id.0) else {
            return;
        };
        process.holds -= 1;
        if process.holds == 0 && self.processes.list_of(id.0) == Some(HELD) {
            self.remove(id.0);
        }
    }

    /// The process of a task: the latest of that PID, if the start time agrees. Without a start time
    /// only a living one will do.
    fn find(&self, tgid: u32, start_ns: Option<u64>) -> Option<Handle> {
        let handle = *self.by_tgid.get(&tgid)?;
        let process = self.processes.get(handle)?;
        let same = match start_ns {
            Some(start_ns) => started_at(&process.image, start_ns),
            None => process.exited_at.is_none(),
        };
        same.then_some(handle)
    }

    /// The link by birth to a process.
    fn link_to(&mut self, parent: Handle) -> (Parent, u32) {
        let parent = &mut self.processes[parent].image;
        lineage::bound(parent);
        lineage::link(Relation::Birth, parent)
    }

    fn change(&mut self, handle: Handle, changed: impl FnOnce(&Image) -> Image) {
        let image = &mut self.processes[handle].image;
        let new = self.spare.image(changed(image));
        self.spare.retire(std::mem::replace(image, new));
    }

    /// Adds a process. If another one has its PID, that one's exit was lost.
    fn insert(&mut self, time: BootTime, image: Arc<Image>, inventoried: bool) -> Handle {
        if self.processes.len() >= self.capacity {
            self.evict();
        }
        let tgid = image.key.tgid;
        let process = Process {
            image,
            exited_at: None,
            holds: 0,
            serving: Serving::default(),
            inventoried,
        };
        let handle = self.processes.push(LIVE, process);
        if let Some(previous) = self.by_tgid.insert(tgid, handle) {
            self.mark_exited(previous, time);
        }
        handle
    }

    fn mark_exited(&mut self, handle: Handle, time: BootTime) {
        if let Some(process) = self.processes.get_mut(handle)
            && process.exited_at.is_none()
        {
            process.exited_at = Some(time);
            self.processes.move_to(handle, EXITED);
        }
    }

    /// Makes room: the oldest of those who exited and own nothing goes first, then the oldest of the other
    /// dead, then the oldest of the living. Their ancestors' images stay with whoever refers to them.
    fn evict(&mut self) {
        while let Some((handle, process)) = self.processes.first(EXITED)
            && process.holds > 0
        {
            self.processes.move_to(handle, HELD);
        }
        let oldest = [EXITED, HELD, LIVE]
            .into_iter()
            .find_map(|list| Some((list, self.processes.first(list)?.0)));
        if let Some((list, handle)) = oldest {
            self.remove(handle);
            self.evictions += 1;
            self.lost += u64::from(list != EXITED);
        }
    }

    fn remove(&mut self, handle: Handle) {
        let Some(process) = self.processes.remove(handle) else {
            return;
        };
        let tgid = process.image.key.tgid;
        if self.by_tgid.get(&tgid) == Some(&handle) {
            self.by_tgid.remove(&tgid);
        }
        self.spare.retire(process.image);
    }
}

/// A process of which nothing is known but what its task tells.
fn unknown(task: &Task) -> Image {
    Image {
        key: ProcessKey {
            tgid: task.tgid,
            start_ns: task.start_ns.unwrap_or(0),
        },
        key_rounded: false,
        name: task.name,
        euid: task.euid,
        kernel_thread: task.kernel_thread,
        program: Arc::default(),
        cgroup: None,
        session: Session::default(),
        namespace_pid: None,
        has_host_root: false,
        in_user_namespace: false,
        parent: if inventory::is_root(task.tgid) {
            Parent::Root
        } else {
            Parent::Unknown
        },
        present_parent: None,
        provenance: Provenance::Kernel,
        depth: 0,
        cause: None,
        fingerprint: Derived::default(),
    }
}

/// Whether an image still tells what a task tells. The name of a task without a start time is that
/// of a thread, which says nothing about the process.
fn is_as_in(image: &Image, task: &Task) -> bool {
    task.start_ns.is_none()
        || (image.name == task.name
            && task.euid.is_none_or(|euid| image.euid == Some(euid))
            && image.kernel_thread == task.kernel_thread
            && task.parent.is_none_or(|parent| is_parent_in(image, parent)))
}

/// Whether a key, perhaps a rounded one, is that of this process.
fn is_key_of(known: ProcessKey, rounded: bool, key: ProcessKey) -> bool {
    let start_ns = if rounded {
        key.start_ns - key.start_ns % TICK_NS
    } else {
        key.start_ns
    };
    known.tgid == key.tgid && known.start_ns == start_ns
}

fn started_at(image: &Image, start_ns: u64) -> bool {
    let tgid = image.key.tgid;
    is_key_of(image.key, image.key_rounded, ProcessKey { tgid, start_ns })
}

#[cfg(test)]
mod tests;
