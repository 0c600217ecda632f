//! Programs that are executed while their path and their arguments are being changed, and tell which they are.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::{fs, io, thread};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, RenameFlags, major, minor, renameat_with};
use serde_json::json;

use super::{FLAG, cloning, parsed, tell, word};

/// The argument that is being rewritten. Its last byte stays zero.
static ARGUMENT: [AtomicU8; 301] = [const { AtomicU8::new(0) }; 301];

/// Executes `DIRECTORY/one/program` again and again, while a thread exchanges two names, and another one rewrites the last
/// argument. Arguments: the directory, the first number and the one after
/// the last, and the two names in the directory. Facts: those of `tell-itself`.
pub(super) fn race(arguments: &[OsString]) -> Result<()> {
    let directory = Path::new(word(arguments, 0)?);
    let mut numbers = parsed::<u32>(arguments, 1)?..parsed(arguments, 2)?;
    let names = [word(arguments, 3)?, word(arguments, 4)?].map(|name| directory.join(name));
    let is_over = AtomicBool::new(false);
    let rounds = |act: &dyn Fn(bool) -> Result<()>| {
        let mut sides = [false, true].into_iter().cycle();
        while !is_over.load(Ordering::Relaxed) {
            act(sides.next().unwrap_or_default())?;
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let swapper = scope.spawn(|| rounds(&|_| exchange(&names)));
        let rewriter = scope.spawn(|| rounds(&rewrite));
        let result = numbers.try_for_each(|number| execute(directory, number));
        is_over.store(true, Ordering::Relaxed);
        let joined = [swapper, rewriter].map(|thread| thread.join().expect("it does not panic"));
        joined.into_iter().chain([result]).collect()
    })
}

fn exchange([one, two]: &[PathBuf; 2]) -> Result<()> {
    renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE).context("exchanging names")
}

fn rewrite(side: bool) -> Result<()> {
    let letter = if side { b'a' } else { b'b' };
    for byte in &ARGUMENT[..ARGUMENT.len() - 1] {
        byte.store(letter, Ordering::Relaxed);
    }
    Ok(())
}

/// Executes the program once, and waits for its end.
fn execute(directory: &Path, number: u32) -> Result<()> {
    let path = CString::new(directory.join("one/program").as_os_str().as_bytes())?;
    let words = [FLAG, "tell-itself", &number.to_string()].map(CString::new);
    let [flag, workload, number] = words;
    let (flag, workload, number) = (flag?, workload?, number?);
    let fixed = [&path, &flag, &workload, &number].map(|word| word.as_ptr().cast_mut());
    let rewritten = ARGUMENT.as_ptr().cast_mut().cast();
    let arguments: Vec<_> = fixed
        .into_iter()
        .chain([rewritten, ptr::null_mut()])
        .collect();
    spawn(&path, &arguments)?;
    let status = cloning::reap()?.context("the child is missing")?;
    ensure!(status.exit_status() == Some(0), "it ended with {status:?}");
    Ok(())
}

/// Executes a program in a child that shares this memory until then.
fn spawn(path: &CStr, arguments: &[*mut libc::c_char]) -> io::Result<()> {
    let (mut child, environment) = (0, [ptr::null_mut()]);
    // SAFETY: both lists end with a null pointer. Of what they point to only bytes of the last argument change, which has an end
    // all the same.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut child,
            path.as_ptr(),
            ptr::null(),
            ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Tells which program this is. Arguments: a number and anything. Fact: `{"number", "program": {"executable": PATH,
/// "argument", "device": "MAJOR:MINOR", "inode"}}`.
pub(super) fn tell_itself(arguments: &[OsString]) -> Result<()> {
    let number: u32 = parsed(arguments, 0)?;
    let file = fs::metadata("/proc/self/exe")?;
    let device = file.dev();
    let program = json!({
        "executable": fs::read_link("/proc/self/exe")?,
        "argument": word(arguments, 1)?,
        "device": format!("{}:{}", major(device), minor(device)),
        "inode": file.ino(),
    });
    tell(&json!({"number": number, "program": program}))
}
