//! The processes that were there before: taken after the hooks are attached, so that nothing falls
//! between.
//!
//! In: the kernel's task iterator, or /proc where iterators are refused; strings from /proc in both
//! cases. Out: [`ExistingProcess`]es for the process table.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    mem::offset_of,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use hashbrown::HashSet;
use tracer_common::{
    inventory::{ExistingTask, TASK_IS_INIT, TASK_IS_READER, TASK_IS_SUBREAPER},
    record::{EXEC_ARGS_MAX, TASK_KERNEL_THREAD, Task},
};

use crate::{
    decode::membership,
    event::{FileId, FileStatus, FileVersion, Membership, Name, ProcessKey},
    process::{image::Program, inventory::ExistingProcess},
};

/// Ticks a second in /proc: `USER_HZ`, 100 on every architecture that eBPF runs on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// The processes that are there.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// All of them.
    pub processes: Vec<ExistingProcess>,
    /// This process, as the initial PID namespace knows it.
    pub own_key: ProcessKey,
}

/// Reads what the task iterator writes: every process of every namespace, with exact start times.
pub fn from_iterator(mut iterator: File) -> io::Result<Inventory> {
    // Small reads make the kernel start over for each record.
    let mut bytes = Vec::with_capacity(1 << 16);
    iterator.read_to_end(&mut bytes)?;
    let (records, rest) = bytes.as_chunks::<{ size_of::<ExistingTask>() }>();
    if !rest.is_empty() {
        return Err(io::Error::other("the task iterator's last record is cut"));
    }
    let mut processes: Vec<_> = records.iter().map(existing).collect();
    let unlisted = unlisted_parents(&processes);
    processes.extend(unlisted);
    let own_key = records
        .iter()
        .find(|record| u32_at(record, offset_of!(ExistingTask, flags)) & TASK_IS_READER != 0)
        .map(existing_key)
        .ok_or_else(|| io::Error::other("the task iterator does not show this process"))?;
    Ok(Inventory { processes, own_key })
}

/// Parents that the iterator itself does not show. Some kernels hide processes of their vendor,
/// PID 1 among them; their children tell their keys, and /proc what they are.
fn unlisted_parents(processes: &[ExistingProcess]) -> Vec<ExistingProcess> {
    let listed: HashSet<ProcessKey> = processes.iter().map(|process| process.key).collect();
    let named: HashSet<ProcessKey> = processes
        .iter()
        .filter_map(|process| process.parent)
        .collect();
    named
        .difference(&listed)
        .filter_map(|&key| {
            let stat = Stat::read(key.tgid)?;
            (stat.start_ns == round_to_tick(key.start_ns)).then(|| ExistingProcess {
                key,
                key_rounded: false,
                parent: None,
                name: stat.name,
                euid: effective_user(key.tgid),
                kernel_thread: stat.kernel_thread,
                // Not known, so that it is not taken for the birth parent.
                reaper: true,
                program: Arc::new(program(key, false)),
                membership: Membership::default(),
            })
        })
        .collect()
}

fn round_to_tick(start_ns: u64) -> u64 {
    start_ns / NANOSECONDS_PER_TICK * NANOSECONDS_PER_TICK
}

type Record = [u8; size_of::<ExistingTask>()];

const TASK: usize = offset_of!(ExistingTask, task);
const MEMBERSHIP: usize = offset_of!(ExistingTask, membership);

fn existing_key(record: &Record) -> ProcessKey {
    ProcessKey {
        tgid: u32_at(record, TASK + offset_of!(Task, tgid)),
        start_ns: u64_at(record, TASK + offset_of!(Task, start_ns)),
    }
}

fn existing(record: &Record) -> ExistingProcess {
    let key = existing_key(record);
    let parent = ProcessKey {
        tgid: u32_at(record, TASK + offset_of!(Task, parent_tgid)),
        start_ns: u64_at(record, TASK + offset_of!(Task, parent_start_ns)),
    };
    let kernel_thread = u32_at(record, TASK + offset_of!(Task, flags)) & TASK_KERNEL_THREAD != 0;
    let flags = u32_at(record, offset_of!(ExistingTask, flags));
    let mut name = [0; 16];
    name.copy_from_slice(&record[TASK + offset_of!(Task, comm)..][..16]);
    ExistingProcess {
        key,
        key_rounded: false,
        parent: (parent.tgid != 0).then_some(parent),
        name: Name(name),
        euid: Some(u32_at(record, TASK + offset_of!(Task, euid))),
        kernel_thread,
        reaper: flags & (TASK_IS_INIT | TASK_IS_SUBREAPER) != 0,
        program: if kernel_thread {
            Arc::default()
        } else {
            Arc::new(program(key, false))
        },
        membership: membership(&std::array::from_fn(|index| record[MEMBERSHIP + index])),
    }
}

fn u32_at(record: &Record, at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|index| record[at + index]))
}

fn u64_at(record: &Record, at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|index| record[at + index]))
}

/// Reads /proc: only this PID namespace, start times in ticks, and subreapers unknown.
pub fn from_proc() -> io::Result<Inventory> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(tgid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ended meanwhile is no longer existing.
        if let Some(stat) = Stat::read(tgid) {
            stats.push((tgid, stat));
        }
    }
    let start_of = |tgid: u32| {
        let found = stats.iter().find(|(other, _)| *other == tgid);
        found.map(|(_, stat)| ProcessKey {
            tgid,
            start_ns: stat.start_ns,
        })
    };
    let own_key = start_of(std::process::id())
        .ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    let processes = stats
        .iter()
        .map(|(tgid, stat)| {
            let key = ProcessKey {
                tgid: *tgid,
                start_ns: stat.start_ns,
            };
            ExistingProcess {
                key,
                key_rounded: true,
                parent: start_of(stat.parent),
                name: stat.name,
                euid: effective_user(*tgid),
                kernel_thread: stat.kernel_thread,
                // Any parent may be a subreaper, so that none is surely the birth parent.
                reaper: true,
                program: Arc::new(program(key, true)),
                membership: Membership::default(),
            }
        })
        .collect();
    Ok(Inventory { processes, own_key })
}

/// What `/proc/PID/stat` tells (proc(5)).
struct Stat {
    name: Name,
    parent: u32,
    kernel_thread: bool,
    /// Rounded down to a tick.
    start_ns: u64,
}

impl Stat {
    fn read(tgid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{tgid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may contain any byte, parentheses too.
    fn parse(stat: &[u8]) -> Option<Self> {
        /// `PF_KTHREAD`, include/linux/sched.h.
        const PF_KTHREAD: u64 = 0x0020_0000;
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let mut name = [0; 16];
        let text = stat.get(open + 1..close)?;
        let length = text.len().min(15);
        name[..length].copy_from_slice(&text[..length]);
        let rest = str::from_utf8(stat.get(close + 1..)?).ok()?;
        // Fields are counted from 3, the first after the name.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse().ok();
        let ticks: u64 = field(22)?;
        Some(Self {
            name: Name(name),
            parent: u32::try_from(field(4)?).ok()?,
            kernel_thread: field(9)? & PF_KTHREAD != 0,
            start_ns: ticks * NANOSECONDS_PER_TICK,
        })
    }
}

fn effective_user(tgid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{tgid}/status")).ok()?;
    let line = status
        .split(|&byte| byte == b'\n')
        .find(|line| line.starts_with(b"Uid:"))?;
    str::from_utf8(line)
        .ok()?
        .split_ascii_whitespace()
        .nth(2)?
        .parse()
        .ok()
}

/// What `key` runs, as far as /proc tells and only if /proc still speaks of that very process.
fn program(key: ProcessKey, rounded: bool) -> Program {
    let directory = PathBuf::from(format!("/proc/{}", key.tgid));
    let link =
        |name| fs::read_link(directory.join(name)).map(|path| path.into_os_string().into_vec());
    let mut program = Program::default();
    if let Ok(path) = link("exe") {
        set_executable(&mut program, path);
    }
    program.file = fs::metadata(directory.join("exe"))
        .ok()
        .map(|metadata| file_status(&metadata));
    if let Ok(mut arguments) = beginning(&directory.join("cmdline"), EXEC_ARGS_MAX + 1) {
        program.arguments_truncated = arguments.len() > EXEC_ARGS_MAX;
        arguments.truncate(EXEC_ARGS_MAX);
        program.arguments = Some(arguments.into());
    }
    program.working_directory = link("cwd").map(Bytes::from).unwrap_or_default();
    let start_ns = if rounded {
        key.start_ns
    } else {
        round_to_tick(key.start_ns)
    };
    match Stat::read(key.tgid) {
        Some(stat) if stat.start_ns == start_ns => program,
        _ => Program::default(),
    }
}

/// A file as the kernel has it, but for the device number of overlays and the like, which only programs see.
pub(crate) fn file_status(metadata: &Metadata) -> FileStatus {
    let seconds = metadata.ctime();
    FileStatus {
        version: FileVersion {
            id: FileId {
                device: rustix::fs::major(metadata.dev()) << 20 | rustix::fs::minor(metadata.dev()),
                inode: metadata.ino(),
            },
            size: metadata.size(),
            changed_ns: seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.ctime_nsec()),
        },
        mode: metadata.mode(),
        links: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
        owner: metadata.uid(),
        group: metadata.gid(),
    }
}

/// Up to `limit` bytes of a file.
fn beginning(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn set_executable(program: &mut Program, mut path: Vec<u8>) {
    const DELETED: &[u8] = b" (deleted)";
    const MEMFD: &[u8] = b"/memfd:";
    let deleted = path.ends_with(DELETED);
    if deleted {
        path.truncate(path.len() - DELETED.len());
    }
    program.memfd = deleted && path.starts_with(MEMFD);
    program.deleted = deleted && !program.memfd;
    if program.memfd {
        path.remove(0);
    }
    program.executable = path.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_parentheses_and_spaces() {
        let stat = b"42 (a) R 1 (b) S 7 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!(stat.name.as_bytes(), b"a) R 1 (b");
        assert_eq!(
            (stat.parent, stat.kernel_thread, stat.start_ns),
            (7, false, 12_340_000_000)
        );
    }

    #[test]
    fn this_process_is_found_in_proc_with_its_program() {
        let Inventory { processes, own_key } = from_proc().unwrap();
        assert_eq!(own_key.tgid, std::process::id());
        let this = processes
            .iter()
            .find(|process| process.key == own_key)
            .unwrap();
        let path = std::env::current_exe().unwrap().into_os_string().into_vec();
        assert_eq!(this.program.executable, path);
        assert!(this.key_rounded && this.parent.is_some());
    }

    #[test]
    fn a_memfd_is_named_as_such_and_a_deleted_file_is_marked() {
        let mut program = Program::default();
        set_executable(&mut program, b"/memfd:x y (deleted)".to_vec());
        assert_eq!(
            (&program.executable[..], program.memfd, program.deleted),
            (&b"memfd:x y"[..], true, false)
        );
        let mut program = Program::default();
        set_executable(&mut program, b"/tmp/a (deleted)".to_vec());
        assert_eq!(
            (&program.executable[..], program.memfd, program.deleted),
            (&b"/tmp/a"[..], false, true)
        );
    }
}
