//! A process becomes another program.
//!
//! `TRACE_EVENT(sched_process_exec, TP_PROTO(struct task_struct *p, pid_t old_pid,
//! struct linux_binprm *bprm))`, include/trace/events/sched.h. It fires in the process, once the new
//! memory, name and credentials are in place. The file comes from the kernel's own structures, which
//! the program cannot rewrite; the arguments are what lies in its memory at this moment, before its
//! first instruction.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_user, bpf_ringbuf_output},
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use tracer_common::record::{
    EXEC_ARGS_MAX, EXEC_ARGS_TRUNCATED, EXEC_ARGS_UNREADABLE, EXEC_CWD_TRUNCATED, EXEC_DELETED,
    EXEC_MEMFD, EXEC_PATH_MAX, EXEC_PATH_TRUNCATED, Exec, kind,
};

use crate::{
    kernel::{
        Direct, Source,
        layout::layout,
        membership,
        path::{PATHS_MASK, Path, bounded},
        task,
    },
    ring,
};

/// The path, the working directory and the arguments, each begin where the one before ends.
const PATH_LIMIT: usize = EXEC_PATH_MAX;
const CWD_LIMIT: usize = PATHS_MASK as usize;
/// Not below the length of all strings.
const STRINGS_MASK: i32 = 0x3fff;
const STRINGS: usize = STRINGS_MASK as usize + 1;

const _: () = assert!(CWD_LIMIT + EXEC_ARGS_MAX < STRINGS);

/// A record under construction: its length is known only at the end.
#[repr(C)]
struct Scratch {
    /// Non-zero while a program works here. Before 6.1 a tracepoint's program can be interrupted by
    /// itself.
    busy: u64,
    exec: Exec,
    strings: [u8; STRINGS],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's scratch, guarded by `busy`.
    unsafe {
        if (*scratch).busy != 0 {
            ring::lost(kind::EXEC);
            return 0;
        }
        (*scratch).busy = 1;
        if tell(Direct(ctx.arg(0)), scratch).is_none() {
            warn!(&ctx, "an exec could not be told");
            ring::lost(kind::EXEC);
        }
        (*scratch).busy = 0;
    }
    0
}

/// # Safety
/// `scratch` must be this CPU's, and not in use.
#[inline(always)]
unsafe fn tell(task: Direct, scratch: *mut Scratch) -> Option<()> {
    let memory = task.follow(layout!(task_mm))?;
    let file = memory.follow(layout!(mm_exe_file))?;
    let inode = file.follow(layout!(file_inode))?;
    let path = Path::load(file, layout!(file_path))?;
    let cwd = Path::load(task.follow(layout!(task_fs))?, layout!(fs_pwd))?;
    // SAFETY: by the caller's promise; the limits are those of `strings`.
    unsafe {
        let exec = &raw mut (*scratch).exec;
        let strings = (&raw mut (*scratch).strings).cast::<u8>();
        ring::write_header((&raw mut (*exec).header).cast(), kind::EXEC, 0);
        task::fill(task, &raw mut (*exec).task)?;
        membership::fill(task, &raw mut (*exec).membership);
        (*exec).inode = inode.load(layout!(inode_ino))?;
        (*exec).device = inode
            .follow(layout!(inode_sb))?
            .load(layout!(super_block_dev))?;
        (*exec).mode = u32::from(inode.load::<u16>(layout!(inode_mode))?);
        (*exec).padding = 0;
        (*exec).padding2 = 0;
        let mut flags = 0;
        let end_of_path = if path.is_internal() {
            flags |= EXEC_MEMFD;
            path.write_name(strings)
        } else {
            if path.is_deleted() {
                flags |= EXEC_DELETED;
            }
            path.write(strings, 0, PATH_LIMIT)
        };
        if end_of_path.truncated {
            flags |= EXEC_PATH_TRUNCATED;
        }
        let end_of_cwd = cwd.write(strings, end_of_path.used, CWD_LIMIT);
        if end_of_cwd.truncated {
            flags |= EXEC_CWD_TRUNCATED;
        }

        let start: u64 = memory.load(layout!(mm_arg_start))?;
        let end: u64 = memory.load(layout!(mm_arg_end))?;
        let mut args = end.wrapping_sub(start) as usize;
        if args > EXEC_ARGS_MAX {
            args = EXEC_ARGS_MAX;
            flags |= EXEC_ARGS_TRUNCATED;
        }
        let to = strings.add(bounded::<PATHS_MASK>(end_of_cwd.used));
        let length = bounded::<STRINGS_MASK>(args);
        if length > EXEC_ARGS_MAX {
            return None; // Cannot be; the verifier wants to see it.
        }
        if bpf_probe_read_user(to.cast(), length as u32, start as *const _) != 0 {
            args = 0;
            flags |= EXEC_ARGS_UNREADABLE;
        }

        (*exec).path_len = end_of_path.used as u16;
        (*exec).cwd_len = (end_of_cwd.used - end_of_path.used) as u16;
        (*exec).args_len = args as u16;
        (*exec).flags = flags;
        let size = size_of::<Exec>() + bounded::<STRINGS_MASK>(end_of_cwd.used + args);
        let events = (&raw const ring::EVENTS).cast_mut().cast();
        (bpf_ringbuf_output(events, exec.cast(), size as u64, 0) == 0).then_some(())
    }
}
