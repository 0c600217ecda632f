//! Generations: each begets the next in a given way, and the last one connects.
//!
//! The ways, in the order in which they are to be gone:
//!
//! ```text
//! fork         and wait for all children
//! stay         fork, and wait until the test closes stdin
//! leave        fork, and exit before the child does anything
//! sibling      clone3 with CLONE_PARENT: the child's parent is its forker's
//! thread-fork  fork in a thread that is not the leader
//! spawn        posix_spawn of this program
//! vfork        clone with CLONE_VM and CLONE_VFORK, and exec of this program by the child
//! exec         no child: become this program
//! thread-exec  the same, called by a thread that is not the leader
//! setsid       no child: begin a session
//! reaper       no child: become a subreaper
//! end=2,1      no child: kill these generations, one after the other, and connect after each
//! ```

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper, setsid};
use serde_json::json;

use super::failing::{LOOPBACK, refused_once, refusing};
use super::{FLAG, binary, cloning, command, tell, wait_for_go, word};

/// Goes through generations. Arguments: the PIDs of those that were before, separated by commas, and the ways. Fact, of
/// the last one: `{"pids": [its ancestors from the eldest, and itself]}`. Generation N is named `born-N`.
pub(super) fn born(arguments: &[OsString]) -> Result<()> {
    let before = word(arguments, 0)?.split(',').filter(|pid| !pid.is_empty());
    let before: Result<Vec<u32>, _> = before.map(str::parse).collect();
    let ways: Result<Vec<&str>> = (1..arguments.len())
        .map(|index| word(arguments, index))
        .collect();
    Generation::new(before?)?.go(&ways?)
}

struct Generation {
    /// From the eldest to this process.
    pids: Vec<u32>,
}

impl Generation {
    fn new(before: Vec<u32>) -> Result<Self> {
        let name = CString::new(format!("born-{}", before.len()))?;
        cloning::rename(&name)?;
        let mut pids = before;
        pids.push(std::process::id());
        Ok(Generation { pids })
    }

    /// Goes the first of the ways, and lets the next generation, or this process, go the others.
    fn go(self, ways: &[&str]) -> Result<()> {
        let Some((way, rest)) = ways.split_first() else {
            connect()?;
            return tell(&json!({"pids": self.pids}));
        };
        match *way {
            "fork" => self.fork(rest),
            "stay" => self.stay(rest),
            "leave" => self.leave(rest),
            "sibling" => self.sibling(rest),
            "thread-fork" => in_thread(|| self.fork(rest)),
            "spawn" => self.spawn(rest),
            "vfork" => self.vfork(rest),
            "exec" => self.exec(rest),
            "thread-exec" => in_thread(|| self.exec(rest)),
            "setsid" => {
                setsid()?;
                self.go(rest)
            }
            "reaper" => {
                set_child_subreaper(Some(Pid::INIT))?;
                self.go(rest)
            }
            way => match way.strip_prefix("end=") {
                Some(order) => self.end(order),
                None => bail!("no such way: {way}"),
            },
        }
    }

    fn fork(self, rest: &[&str]) -> Result<()> {
        match cloning::fork()? {
            None => self.child(rest),
            Some(_) => Ok(cloning::reap_all()?),
        }
    }

    fn stay(self, rest: &[&str]) -> Result<()> {
        match cloning::fork()? {
            None => self.child(rest),
            Some(_) => wait_for_go(),
        }
    }

    fn leave(self, rest: &[&str]) -> Result<()> {
        let parent = getpid();
        if cloning::fork()?.is_some() {
            return Ok(());
        }
        cloning::await_end(parent)?;
        self.child(rest)
    }

    fn sibling(self, rest: &[&str]) -> Result<()> {
        let mut arguments = cloning::arguments();
        arguments.flags = libc::CLONE_PARENT as u64;
        match cloning::clone3(&arguments).context("clone3")? {
            None => self.child(rest),
            Some(_) => Ok(()),
        }
    }

    /// The next generation, which never returns to what its parent was doing.
    fn child(self, rest: &[&str]) -> ! {
        cloning::end(&Generation::new(self.pids).and_then(|child| child.go(rest)))
    }

    /// This program from the beginning, with the ways that are left.
    fn again(pids: &[u32], rest: &[&str]) -> Command {
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        command("born", &[&[&*pids.join(",")], rest].concat())
    }

    fn spawn(self, rest: &[&str]) -> Result<()> {
        let status = Generation::again(&self.pids, rest).status()?;
        ensure!(status.success(), "the child ended with {status}");
        Ok(())
    }

    fn vfork(self, rest: &[&str]) -> Result<()> {
        let pids: Vec<_> = self.pids.iter().map(u32::to_string).collect();
        let path = CString::new(binary().as_os_str().as_bytes())?;
        let words = [FLAG, "born", &pids.join(",")];
        let words = words.iter().chain(rest).map(|word| CString::new(*word));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let mut pointers = vec![path.as_ptr()];
        pointers.extend(words.iter().map(|word| word.as_ptr()));
        pointers.push(ptr::null());
        exec_by_vfork(&pointers)?;
        Ok(cloning::reap_all()?)
    }

    /// Becomes this program again; its own PID is added there.
    fn exec(self, rest: &[&str]) -> Result<()> {
        let before = &self.pids[..self.pids.len() - 1];
        Err(Generation::again(before, rest).exec()).context("exec of this binary")
    }

    fn end(self, order: &str) -> Result<()> {
        connect()?;
        for generation in order.split(',') {
            let generation: usize = generation.parse().context("a generation is a number")?;
            let pid = i32::try_from(self.pids[generation])?;
            let pid = Pid::from_raw(pid).context("a PID is not zero")?;
            kill_process(pid, Signal::KILL)?;
            cloning::await_end(pid)?;
            connect()?;
        }
        tell(&json!({"pids": self.pids}))
    }
}

/// Leaves a trace: is refused.
fn connect() -> Result<()> {
    let (_taken, address) = refusing(LOOPBACK)?;
    refused_once(address, false)?;
    Ok(())
}

fn in_thread(act: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let joined = std::thread::scope(|scope| scope.spawn(act).join());
    joined.map_err(|_| anyhow!("the thread panicked"))?
}

/// Makes a child as vfork(2) does, which a function cannot return from twice, and lets it become the program that the
/// first of `arguments` names.
fn exec_by_vfork(arguments: &[*const libc::c_char]) -> Result<()> {
    extern "C" fn exec(arguments: *mut libc::c_void) -> libc::c_int {
        let arguments = arguments.cast_const().cast::<*const libc::c_char>();
        // SAFETY: they end with a null pointer, and the parent waits until they have been copied.
        unsafe { libc::execv(*arguments, arguments) };
        cloning::leave(127)
    }
    let mut stack = vec![0_u128; 4096];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let arguments = arguments.as_ptr().cast_mut().cast();
    // SAFETY: with CLONE_VFORK the child is done with this memory and its stack when this returns.
    let child = unsafe { libc::clone(exec, top.cast(), flags, arguments) };
    ensure!(child > 0, "clone: {}", io::Error::last_os_error());
    Ok(())
}
