//! A process becomes another program.
//!
//! `TRACE_EVENT(sched_process_exec, TP_PROTO(struct task_struct *p, pid_t old_pid,
//! struct linux_binprm *bprm))`, include/trace/events/sched.h. It fires in the process, once the new
//! memory, name and credentials are in place. The file comes from the kernel's own structures, which
//! the program cannot rewrite; the arguments are what lies in its memory at this moment, before its
//! first instruction. From 7.0 on another task's exec can preempt this, and is then seen by a backup.

use aya_ebpf::{
    helpers::generated::{
        bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_ringbuf_output,
    },
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use tracer_common::layout::{BACKUPS_IF_PREEMPTED, backed_up};
use tracer_common::record::{
    EXEC_ARGS_MAX, EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_AS_GROUP, EXEC_AS_OWNER,
    EXEC_CAPABILITIES, EXEC_CWD_TRUNCATED, EXEC_DELETED, EXEC_MEMFD, EXEC_PATH_MAX,
    EXEC_PATH_TRUNCATED, EXEC_SCRIPT_MAX, EXEC_SCRIPT_TRUNCATED, EXEC_SECURE, EXEC_UNUSED_ROOM,
    EXEC_UPPER_LAYER, Exec, kind,
};

use crate::{
    backup,
    kernel::{
        Direct, Source, file,
        layout::{layout, setting},
        membership,
        path::{COMPONENT_MAX, PATHS_MASK, Path, bounded},
        source::read_remote,
        streams, task,
    },
    ring,
};

/// The path, the working directory, the script and the arguments each begin where the one before ends.
/// The last component may be the longest that there is.
const PATH_LIMIT: usize = EXEC_PATH_MAX + COMPONENT_MAX;
const CWD_LIMIT: usize = PATHS_MASK as usize;
/// Arguments up to this length, in bytes, are put together with the rest; a per-CPU value is at most
/// 32 KiB.
const SHORT_ARGS: usize = 4096;
/// Not below the length of all strings, short arguments included.
const STRINGS_MASK: i32 = 0x3fff;
/// Room for short arguments wherever they begin, as far as the verifier knows.
const STRINGS: usize = STRINGS_MASK as usize + 1 + SHORT_ARGS;
/// Not below the length of the arguments.
const ARGS_MASK: i32 = 0xffff;

const _: () = assert!(CWD_LIMIT + EXEC_SCRIPT_MAX + SHORT_ARGS <= STRINGS_MASK as usize);

/// A record under construction: its length is known only at the end.
#[repr(C)]
struct Scratch {
    /// Non-zero while a program works here. Before 6.1 a tracepoint's program can be interrupted by
    /// itself.
    busy: u64,
    /// What paths pass through.
    aside: [u64; 2],
    exec: Exec,
    strings: [u8; STRINGS],
}

/// One for each rank, since one of them can preempt another; the loader makes no more than are needed.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1 + BACKUPS_IF_PREEMPTED, 0);

/// A record with room for the longest arguments.
#[repr(C)]
struct Roomy {
    exec: Exec,
    strings: [u8; STRINGS + EXEC_ARGS_MAX],
}

macro_rules! entries {
    ($($name:ident = $rank:literal),*) => {$(
        #[btf_tracepoint(function = "sched_process_exec")]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            executed::<$rank>(&ctx)
        }
    )*};
}
entries! { sched_process_exec = 0, sched_process_exec_2 = 1, sched_process_exec_3 = 2 }

#[inline(always)]
fn executed<const RANK: u32>(ctx: &BtfTracePointContext) -> i32 {
    if !backup::is_mine_among_tasks::<RANK, { backed_up::EXEC }>(ctx.arg(0)) {
        return 0;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(RANK) else {
        return 0;
    };
    // SAFETY: this CPU's scratch, guarded by `busy`.
    unsafe {
        if (*scratch).busy != 0 {
            ring::lost(kind::EXEC);
            return 0;
        }
        (*scratch).busy = 1;
        if tell(Direct(ctx.arg(0)), Direct(ctx.arg(2)), scratch).is_none() {
            warn!(ctx, "an exec could not be told");
            ring::lost(kind::EXEC);
        }
        (*scratch).busy = 0;
    }
    0
}

/// # Safety
/// `scratch` must be this CPU's, and not in use.
#[inline(always)]
unsafe fn tell(task: Direct, binprm: Direct, scratch: *mut Scratch) -> Option<()> {
    let memory = task.follow(layout!(task_mm))?;
    let executed = memory.follow(layout!(mm_exe_file))?;
    let inode = executed.follow(layout!(file_inode))?;
    // SAFETY: by the caller's promise.
    unsafe {
        let exec = &raw mut (*scratch).exec;
        let strings = (&raw mut (*scratch).strings).cast::<u8>();
        ring::write_header((&raw mut (*exec).header).cast(), kind::EXEC, 0);
        task::fill(task, &raw mut (*exec).task)?;
        membership::fill(task, &raw mut (*exec).membership);
        file::fill(inode, &raw mut (*exec).file)?;
        (*exec).flags = privileges(task, binprm, inode)?;
        streams::fill(task, exec);
        if file::is_in_upper_layer(inode) {
            (*exec).flags |= EXEC_UPPER_LAYER;
        }
        let path = Path::load(executed, layout!(file_path))?;
        let aside = &raw mut (*scratch).aside;
        let used = write_path(exec, path, aside, strings);
        let cwd = Path::load(task.follow(layout!(task_fs))?, layout!(fs_pwd))?;
        let used = write_cwd(exec, cwd, aside, strings, used);
        let used = write_script(exec, binprm, strings, used);
        let start: u64 = memory.load(layout!(mm_arg_start))?;
        let end: u64 = memory.load(layout!(mm_arg_end))?;
        let length = end.wrapping_sub(start) as usize;
        if length <= SHORT_ARGS {
            output(scratch, used, start, length)
        } else {
            output_roomy(scratch, used, start, length)
        }
    }
}

/// What the program may do that whoever called exec could not.
#[inline(always)]
fn privileges(task: Direct, binprm: Direct, file: Direct) -> Option<u32> {
    let credentials = task.follow(layout!(task_cred))?;
    let byte = binprm.0.wrapping_add(setting!(secureexec_byte) as usize);
    let mut flags = 0;
    if u32::from(read_remote::<u8>(byte)?) & setting!(secureexec_mask) != 0 {
        flags |= EXEC_SECURE;
    }
    let user: u32 = credentials.load(layout!(cred_uid))?;
    let effective_user: u32 = credentials.load(layout!(cred_euid))?;
    if user != effective_user && effective_user == file.load(layout!(inode_owner))? {
        flags |= EXEC_AS_OWNER;
    }
    let group: u32 = credentials.load(layout!(cred_gid))?;
    let effective_group: u32 = credentials.load(layout!(cred_egid))?;
    if group != effective_group && effective_group == file.load(layout!(inode_group))? {
        flags |= EXEC_AS_GROUP;
    }
    if user != 0 && effective_user != 0 && has_capabilities_of_file(credentials)? {
        flags |= EXEC_CAPABILITIES;
    }
    Some(flags)
}

/// What exec permits beyond the ambient capabilities is what the file has (capabilities(7)).
#[inline(always)]
fn has_capabilities_of_file(credentials: Direct) -> Option<bool> {
    let mut others = 0;
    // `kernel_cap_t` was two words before 6.3, and is one since.
    for half in [0, 4] {
        let permitted: u32 = credentials.load(layout!(cred_cap_permitted) + half)?;
        let ambient: u32 = credentials.load(layout!(cred_cap_ambient) + half)?;
        others |= permitted & !ambient;
    }
    Some(others != 0)
}

/// Writes the path and returns where it ends.
///
/// # Safety
/// `exec`, `aside` and `strings` must be those of an unused scratch; so for the following.
#[inline(always)]
unsafe fn write_path(exec: *mut Exec, path: Path, aside: *mut [u64; 2], strings: *mut u8) -> usize {
    // SAFETY: by the caller's promise; the limit is that of `strings`.
    unsafe {
        let written = if path.is_internal() {
            (*exec).flags |= EXEC_MEMFD;
            path.write_name(strings)
        } else {
            if path.is_deleted() {
                (*exec).flags |= EXEC_DELETED;
            }
            path.write(aside, strings, 0, PATH_LIMIT)
        };
        if written.truncated {
            (*exec).flags |= EXEC_PATH_TRUNCATED;
        }
        (*exec).path_len = written.used as u16;
        written.used
    }
}

/// Writes the working directory from `used` on and returns where it ends.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn write_cwd(
    exec: *mut Exec,
    cwd: Path,
    aside: *mut [u64; 2],
    strings: *mut u8,
    used: usize,
) -> usize {
    // SAFETY: by the caller's promise; the limit is that of `strings`.
    unsafe {
        let written = cwd.write(aside, strings, used, CWD_LIMIT);
        if written.truncated {
            (*exec).flags |= EXEC_CWD_TRUNCATED;
        }
        (*exec).cwd_len = (written.used - used) as u16;
        written.used
    }
}

/// Writes the script, if an interpreter runs for one, from `used` on and returns where it ends.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn write_script(exec: *mut Exec, binprm: Direct, strings: *mut u8, used: usize) -> usize {
    // SAFETY: by the caller's promise.
    unsafe {
        (*exec).script_len = 0;
        let script: Option<*const u8> = binprm.load(layout!(binprm_filename));
        let interpreter: Option<*const u8> = binprm.load(layout!(binprm_interp));
        let (Some(script), true) = (script, script != interpreter) else {
            return used;
        };
        let to = strings.add(bounded::<PATHS_MASK>(used));
        let length = bpf_probe_read_kernel_str(to.cast(), EXEC_SCRIPT_MAX as u32, script.cast());
        if length <= 0 || length > EXEC_SCRIPT_MAX as i64 {
            return used;
        }
        if length == EXEC_SCRIPT_MAX as i64 {
            (*exec).flags |= EXEC_SCRIPT_TRUNCATED;
        }
        (*exec).script_len = length as u16;
        bounded::<STRINGS_MASK>(used + length as usize)
    }
}

/// Writes the arguments behind the other strings, and the record to the ring.
///
/// # Safety
/// As above; the record must be complete but for the arguments.
#[inline(always)]
unsafe fn output(scratch: *mut Scratch, used: usize, start: u64, length: usize) -> Option<()> {
    // SAFETY: by the caller's promise; there is room for short arguments behind all other strings.
    unsafe {
        let exec = &raw mut (*scratch).exec;
        let strings = (&raw mut (*scratch).strings).cast::<u8>();
        let to = strings.add(bounded::<STRINGS_MASK>(used));
        let written = write_args(exec, to, start, length, SHORT_ARGS)?;
        let size = size_of::<Exec>() + bounded::<STRINGS_MASK>(used + written);
        let events = (&raw const ring::EVENTS).cast_mut().cast();
        (bpf_ringbuf_output(events, exec.cast(), size as u64, 0) == 0).then_some(())
    }
}

/// The same for long arguments: they are written where the reader finds them.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn output_roomy(
    scratch: *mut Scratch,
    used: usize,
    start: u64,
    length: usize,
) -> Option<()> {
    let mut entry = ring::EVENTS.reserve::<Roomy>(0)?;
    let roomy = entry.as_mut_ptr();
    // SAFETY: by the caller's promise; both have room for the record and its strings.
    let told = unsafe {
        let exec = &raw mut (*scratch).exec;
        (*exec).flags |= EXEC_UNUSED_ROOM;
        if length > EXEC_ARGS_MAX {
            (*exec).flags |= EXEC_ARGS_TRUNCATED;
        }
        let strings = (&raw mut (*roomy).strings).cast::<u8>();
        let to = strings.add(bounded::<STRINGS_MASK>(used));
        let written = write_args(exec, to, start, length.min(EXEC_ARGS_MAX), EXEC_ARGS_MAX);
        let size = size_of::<Exec>() + bounded::<STRINGS_MASK>(used);
        let copied = bpf_probe_read_kernel(roomy.cast(), size as u32, exec.cast());
        written.filter(|_| copied == 0)
    };
    match told {
        Some(_) => entry.submit(0),
        None => entry.discard(0),
    }
    told.map(|_| ())
}

/// Copies `length` bytes of arguments, at most `limit`, and returns how many are there.
///
/// # Safety
/// `to` must be writable for `limit` bytes.
#[inline(always)]
unsafe fn write_args(
    exec: *mut Exec,
    to: *mut u8,
    start: u64,
    length: usize,
    limit: usize,
) -> Option<usize> {
    let mut written = bounded::<ARGS_MASK>(length);
    if written > limit {
        return None; // Cannot be; the verifier wants to see it.
    }
    // SAFETY: by the caller's promise; the helper checks the source.
    unsafe {
        if bpf_probe_read_user(to.cast(), written as u32, start as *const _) != 0 {
            written = 0;
            (*exec).flags |= EXEC_ARGS_UNREADABLE;
        }
        (*exec).args_len = written as u16;
    }
    Some(written)
}
