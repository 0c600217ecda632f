//! Those who accept in a mix: each kind in its own way, and then all alike.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Result, anyhow, bail};

use super::super::accepting::in_worker;
use super::super::uring::Ring;
use super::super::{parsed, uring, word};
use super::plan::{Pattern, acceptor_closes_first, down, up};
use super::truth::{End, Writer};
use super::{begin_role, index_of};

/// Accepts until the listener is shut down. Arguments: a kind of server; the number of its listener,
/// which it inherits; which connections are made; where the truth goes.
pub(in super::super) fn run(arguments: &[OsString]) -> Result<()> {
    begin_role()?;
    // SAFETY: whoever started this process says that it is there, and nothing else uses it.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(parsed(arguments, 1)?) });
    let (choice, directory) = (word(arguments, 2)?, word(arguments, 3)?);
    let serve = |take: &mut dyn FnMut(&TcpListener) -> io::Result<TcpStream>| {
        serve(&listener, choice, directory, take)
    };
    match word(arguments, 0)? {
        "naming" => serve(&mut named),
        "plain" => serve(&mut nameless),
        "threads" => std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| serve(&mut nameless)));
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        }),
        "workers" => in_worker_beside(
            || serve(&mut nameless),
            || in_worker(|| serve(&mut nameless)),
        ),
        "ring" if uring::refusal().is_none() => {
            let mut ring = Ring::new("plain")?;
            serve(&mut |listener| {
                let taken = ring.accept(listener, "with-address");
                taken.map_err(|error| error.downcast().unwrap_or_else(io::Error::other))
            })
        }
        "ring" => serve(&mut named),
        other => bail!("no such server: {other}"),
    }
}

fn named(listener: &TcpListener) -> io::Result<TcpStream> {
    Ok(listener.accept()?.0)
}

fn nameless(listener: &TcpListener) -> io::Result<TcpStream> {
    Ok(TcpStream::from(rustix::net::accept(listener)?))
}

/// Runs `first` in a worker, which runs `second` in another one, and waits for both.
fn in_worker_beside(
    first: impl FnOnce() -> Result<()>,
    second: impl FnOnce() -> Result<()>,
) -> Result<()> {
    // SAFETY: this process has a single thread, so its child may do whatever it may.
    let worker = unsafe { libc::fork() };
    if worker == -1 {
        return Err(io::Error::last_os_error().into());
    }
    if worker == 0 {
        begin_role()?;
        let result = first();
        std::process::exit(i32::from(result.is_err()));
    }
    second()?;
    let worker = rustix::process::Pid::from_raw(worker);
    let ended = rustix::process::waitpid(worker, rustix::process::WaitOptions::empty())?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        status => bail!("a worker ended with {status:?}"),
    }
}

fn serve(
    listener: &TcpListener,
    choice: &str,
    directory: &str,
    take: &mut dyn FnMut(&TcpListener) -> io::Result<TcpStream>,
) -> Result<()> {
    let mut truth = Writer::create(directory)?;
    loop {
        match take(listener) {
            Ok(stream) => {
                let index = index_of(stream.local_addr()?)?;
                truth.write(index, End::Acceptor)?;
                answer(stream, index, Pattern::of(index, choice))?;
            }
            // The listener was shut down.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return truth.finish(),
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(mut stream: TcpStream, index: u32, pattern: Pattern) -> Result<()> {
    let mut buffer = [0; 512];
    stream.read_exact(&mut buffer[..up(index)])?;
    stream.write_all(&buffer[..down(index)])?;
    if !acceptor_closes_first(index, pattern) {
        match stream.read(&mut buffer) {
            Ok(0) => {}
            Err(error) if pattern.resets() && error.raw_os_error() == Some(libc::ECONNRESET) => {}
            other => bail!("connection {index} ended with {other:?}"),
        }
    }
    Ok(())
}
