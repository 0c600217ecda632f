//! The processes of the made-up host: how they are born and what they run.
//!
//! In: who forks, and when. Out: tasks as the kernel describes them, and the records of their births.

use std::sync::Arc;

use tracer::event::{CgroupId, Membership, Name, ProcessKey, RootId};
use tracer::process::inventory::ExistingProcess;
use tracer_common::record::Task;

use crate::random::Random;
use crate::wire;

/// Mean length of an argument block, in bytes; they are from a third of it to five thirds.
const ARGUMENTS_MEAN: u64 = 120;

/// PID 1, which is older than the tracer.
pub(crate) const INIT: Task = Task {
    tgid: 1,
    tid: 1,
    start_ns: 20_000_000,
    euid: 0,
    flags: 0,
    comm: *b"systemd\0\0\0\0\0\0\0\0\0",
    parent_start_ns: 0,
    parent_tgid: 0,
    padding: 0,
};

/// Where every process is.
pub(crate) const CGROUP: CgroupId = CgroupId {
    hierarchy: wire::MEMBERSHIP.cgroup.hierarchy,
    node: wire::MEMBERSHIP.cgroup.node,
};

/// Its path.
pub(crate) const CGROUP_PATH: &[u8] = b"/system.slice/shop.service";

/// The start inventory.
pub(crate) fn inventory() -> Vec<ExistingProcess> {
    vec![ExistingProcess {
        key: ProcessKey {
            tgid: INIT.tgid,
            start_ns: INIT.start_ns,
        },
        key_rounded: false,
        parent: None,
        name: Name(INIT.comm),
        euid: Some(INIT.euid),
        kernel_thread: false,
        reaper: true,
        program: Arc::default(),
        membership: Membership {
            cgroup: Some(CGROUP),
            root: Some(RootId(wire::MEMBERSHIP.root)),
            ..Membership::default()
        },
    }]
}

/// An executable: its name, and its directories from the innermost to the root.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    directories: &'static str,
    euid: u32,
}

const fn program(name: &'static str, directories: &'static str, euid: u32) -> Program {
    Program {
        name,
        directories,
        euid,
    }
}

const BIN: &str = "bin\0usr\0";
const SBIN: &str = "sbin\0usr\0";

pub(crate) const SSHD: Program = program("sshd", SBIN, 0);
pub(crate) const BASH: Program = program("bash", BIN, 1000);
pub(crate) const NGINX: Program = program("nginx", SBIN, 33);
pub(crate) const POSTGRES: Program = program("postgres", "bin\x0016\0postgresql\0lib\0usr\0", 105);
pub(crate) const CONTAINERD: Program = program("containerd", BIN, 0);
pub(crate) const SHIM: Program = program("containerd-shim", BIN, 0);
pub(crate) const TINI: Program = program("tini", SBIN, 0);
pub(crate) const SUPERVISOR: Program = program("supervisord", BIN, 0);
pub(crate) const GUNICORN: Program = program("gunicorn", "bin\0venv\0app\0srv\0", 1001);
pub(crate) const CURL: Program = program("curl", BIN, 1000);

/// What shells run all the time.
pub(crate) const COMMANDS: [Program; 6] = [
    program("grep", BIN, 1000),
    program("sed", BIN, 1000),
    program("git", BIN, 1000),
    program("python3.12", BIN, 1000),
    program("ls", BIN, 1000),
    program("runc", SBIN, 0),
];

/// Gives birth.
pub(crate) struct Births {
    latest_pid: u32,
}

impl Births {
    pub(crate) fn new() -> Self {
        Self { latest_pid: 400 }
    }

    /// A child of `parent`, and the record that says so.
    pub(crate) fn fork(&mut self, time: u64, parent: Task) -> (Task, Vec<u8>) {
        self.latest_pid += 1;
        let child = Task {
            tgid: self.latest_pid,
            tid: self.latest_pid,
            start_ns: time,
            parent_start_ns: parent.start_ns,
            parent_tgid: parent.tgid,
            ..parent
        };
        (child, wire::fork(time, parent, child.tgid))
    }
}

/// `task` once it runs `program`, and the record that says so.
pub(crate) fn exec(
    time: u64,
    task: Task,
    program: &Program,
    random: &mut Random,
) -> (Task, Vec<u8>) {
    let mut comm = [0; 16];
    let shown = program.name.len().min(15);
    comm[..shown].copy_from_slice(&program.name.as_bytes()[..shown]);
    let task = Task {
        comm,
        euid: program.euid,
        ..task
    };
    let path = [program.name, "\0", program.directories].concat();
    let cwd = random.one_of(&["", "root\0", "app\0srv\0", "work\0ada\0home\0"]);
    let arguments = arguments(program.name, random);
    let record = wire::exec(time, task, path.as_bytes(), cwd.as_bytes(), &arguments);
    (task, record)
}

/// A command line as programs have it: options with values.
fn arguments(name: &str, random: &mut Random) -> Vec<u8> {
    let length = random.between(ARGUMENTS_MEAN / 3, ARGUMENTS_MEAN * 5 / 3) as usize;
    let mut arguments = format!("{name}\0");
    while arguments.len() < length {
        let option = random.one_of(&["--config", "--output-file", "-v", "--name", "--bind"]);
        arguments += &format!("{option}={:x}\0", random.below(1 << 24));
    }
    arguments.truncate(length);
    arguments.pop();
    arguments.push('\0');
    arguments.into_bytes()
}
