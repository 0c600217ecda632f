//! Processes: who they are, where they belong, and what they execute.

use super::SocketId;

/// A process, distinguished from any other that has or had its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// PID as the initial PID namespace has it.
    pub tgid: u32,
    /// Start of the process, in nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
}

/// `comm`: at most 15 bytes, of any value but NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Name(pub [u8; 16]);

impl Name {
    /// The bytes before the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.0.len());
        &self.0[..end]
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_bytes().escape_ascii().to_string())
    }
}

/// The task in whose context something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// PID of its process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Start of its process in nanoseconds of `CLOCK_BOOTTIME`, where the kernel let it be read.
    pub start_ns: Option<u64>,
    /// Effective user ID, where the kernel let it be read.
    pub euid: Option<u32>,
    /// Whether this is a kernel thread.
    pub kernel_thread: bool,
    /// `comm` of the process (of the thread, where `start_ns` is unknown).
    pub name: Name,
    /// Its parent at that moment; `None` if it has none or it is not known.
    pub parent: Option<ProcessKey>,
}

/// A cgroup. IDs are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CgroupId {
    /// As in `/proc/PID/cgroup`: 0 is version 2.
    pub hierarchy: u32,
    /// Inode number of its directory.
    pub node: u64,
}

/// A root directory. Never printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootId(pub u64);

/// How a process came by a login, since its last fork or exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// User ID at login, in the initial user namespace; `None` if nobody logged in.
    pub login_uid: Option<u32>,
    /// The audit session; `None` if nobody logged in.
    pub id: Option<u32>,
    /// The controlling terminal.
    pub tty: Option<Tty>,
}

/// A terminal by its device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tty(pub u32);

impl Tty {
    /// Which driver.
    pub fn major(self) -> u32 {
        self.0 >> 20
    }

    /// Which of its terminals.
    pub fn minor(self) -> u32 {
        self.0 & 0xf_ffff
    }
}

/// What a process belongs to; the default is that nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its cgroup.
    pub cgroup: Option<CgroupId>,
    /// Its login.
    pub session: Session,
    /// PID in its own PID namespace, unless that is the initial one.
    pub namespace_pid: Option<u32>,
    /// Its root directory.
    pub root: Option<RootId>,
    /// Its user namespace is not the initial one.
    pub in_user_namespace: bool,
}

/// What a standard stream of a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// A terminal, a file, closed, or not known.
    #[default]
    Other,
    /// A pipe or a FIFO, by the number of its inode.
    Pipe(u64),
    /// A socket, with its own port and the peer's, where it has any.
    Socket(SocketId, [u16; 2]),
}

/// A process became another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Who, with its new name and user.
    pub task: Task,
    /// What it belongs to.
    pub membership: Membership,
    /// The file: components from the file up to the root, each ended by a NUL.
    pub path: &'a [u8],
    /// The working directory, in the same form.
    pub cwd: &'a [u8],
    /// As in `/proc/PID/cmdline`.
    pub args: &'a [u8],
    /// The file as its inode has it.
    pub file: FileStatus,
    /// Where an interpreter runs for it, the script as exec was called with it; otherwise empty.
    pub script: &'a [u8],
    /// The path lacks the directories nearest to the root.
    pub path_truncated: bool,
    /// The working directory lacks the directories nearest to the root.
    pub cwd_truncated: bool,
    /// The arguments lack their end.
    pub args_truncated: bool,
    /// The arguments could not be read.
    pub args_unreadable: bool,
    /// The file is a memfd.
    pub memfd: bool,
    /// The file's name is gone.
    pub deleted: bool,
    /// The script lacks its end.
    pub script_truncated: bool,
    /// The file is in the upper layer of an overlay file system.
    pub upper_layer: bool,
    /// What the program may do that whoever called exec could not.
    pub privileges: Privileges,
    /// Standard input and output.
    pub streams: [Stream; 2],
}

impl<'a> Exec<'a> {
    /// An ordinary program at `path`, about which nothing else is told.
    pub fn of(task: Task, path: &'a [u8]) -> Self {
        Exec {
            task,
            membership: Membership::default(),
            path,
            cwd: b"",
            args: b"",
            file: FileStatus::default(),
            script: b"",
            path_truncated: false,
            cwd_truncated: false,
            args_truncated: false,
            args_unreadable: false,
            memfd: false,
            deleted: false,
            script_truncated: false,
            upper_layer: false,
            privileges: Privileges::default(),
            streams: [Stream::Other; 2],
        }
    }
}

/// A file by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number: major << 20 | minor.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
}

/// One content of a file: whoever changes it changes at least one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileVersion {
    /// Which file.
    pub id: FileId,
    /// In bytes.
    pub size: u64,
    /// When it was last changed (`ctime`), in nanoseconds since 1970.
    pub changed_ns: i64,
}

/// A file as its inode has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Which file, with which content.
    pub version: FileVersion,
    /// Type and permissions (`st_mode`).
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// User ID, in the initial user namespace.
    pub owner: u32,
    /// Group ID, in the initial user namespace.
    pub group: u32,
}

/// What a program may do that whoever called exec could not, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// It acts as the file's owner, for the file is set-user-ID.
    pub setuid: bool,
    /// It acts as the file's group, for the file is set-group-ID.
    pub setgid: bool,
    /// The file has capabilities.
    pub capabilities: bool,
}
