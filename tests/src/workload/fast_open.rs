//! Connections that begin with their data, inside `sendto` or the first `write`.
//!
//! In a network namespace of its own, where Fast Open may be switched on for both ends and without
//! cookies, so that the first connection is already one.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, bind, connect, listen, sendto};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::json;

use super::failing::{LOOPBACK, tcp};
use super::{tell, word};
use crate::hello::Hello;
use crate::procfs::TcpSocket;
use crate::wait;

/// Both ends may (1, 2), and neither asks for a cookie (4, 0x200).
const EVERYTHING: &str = "519";

/// Data that goes with the SYN, and what comes back.
const UP: &[u8] = b"first";
const DOWN: &[u8] = b"answer!";

/// `TCPI_OPT_SYN_DATA`: the SYN carried data, and it was taken.
const SYN_DATA: u8 = 32;

/// Makes one connection, both ends of which are this process's. Arguments: `sent` (by `sendto`) or
/// `written` (after a connect that does not connect); and, instead of something else, what begins a TLS
/// handshake with the server of this name. Fact, once both are closed: `{"port", "local",
/// "up", "down", "with_syn"}`.
pub(super) fn open(arguments: &[OsString]) -> Result<()> {
    let up = match word(arguments, 1) {
        Ok(name) => Hello::with_name(name).record(),
        Err(_) => UP.to_vec(),
    };
    let length = up.len();
    enter_namespace()?;
    let listener = tcp(AddressFamily::INET, SocketFlags::empty())?;
    bind(&listener, &LOOPBACK)?;
    set(&listener, libc::TCP_FASTOPEN, 16)?;
    listen(&listener, 16)?;
    let listener = TcpListener::from(listener);
    let address = listener.local_addr()?;
    let acceptor = std::thread::spawn(move || answer(&listener, length));
    let socket = tcp(AddressFamily::INET, SocketFlags::empty())?;
    match word(arguments, 0)? {
        "sent" => {
            let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
            sendto(&socket, &up, flags, &address)?;
        }
        "written" => {
            set(&socket, libc::TCP_FASTOPEN_CONNECT, 1)?;
            connect(&socket, &address)?;
            rustix::io::write(&socket, &up)?;
        }
        other => bail!("no such way to send with the SYN: {other}"),
    }
    finish(socket.into(), address, acceptor, length)
}

fn finish(
    mut initiator: TcpStream,
    address: SocketAddr,
    acceptor: std::thread::JoinHandle<Result<()>>,
    up: usize,
) -> Result<()> {
    initiator.read_exact(&mut [0; DOWN.len()])?;
    let local = initiator.local_addr()?.port();
    let with_syn = options(&initiator)? & SYN_DATA != 0;
    drop(initiator);
    acceptor
        .join()
        .map_err(|_| anyhow!("the thread panicked"))??;
    wait::until("both ends to be closed", || {
        let is_ending = |socket: &TcpSocket| socket.is_ending();
        (!TcpSocket::all().iter().any(is_ending)).then_some(())
    });
    tell(
        &json!({"port": address.port(), "local": local, "up": up, "down": DOWN.len(),
                 "with_syn": with_syn}),
    )
}

fn answer(listener: &TcpListener, length: usize) -> Result<()> {
    let mut stream = TcpStream::from(rustix::net::accept(listener)?);
    stream.read_exact(&mut vec![0; length])?;
    stream.write_all(DOWN)?;
    ensure!(stream.read(&mut [0])? == 0, "more comes than was said");
    Ok(())
}

/// Makes a network namespace with loopback up and Fast Open on.
pub(super) fn enter_namespace() -> Result<()> {
    // SAFETY: a new network namespace leaves memory and descriptors shared as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace needs CAP_SYS_ADMIN")?;
    let any = tcp(AddressFamily::INET, SocketFlags::empty())?;
    // SAFETY: the structure is as the request wants it: the rest of it may be anything.
    unsafe {
        let mut request: libc::ifreq = MaybeUninit::zeroed().assume_init();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let result = libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request);
        ensure!(result == 0, std::io::Error::last_os_error());
    }
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", EVERYTHING).context("tcp_fastopen")
}

fn set(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: an option that is an integer, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}

/// `tcpi_options`: the sixth byte of `struct tcp_info`.
fn options(socket: impl AsFd) -> Result<u8> {
    let mut info = [0_u8; 8];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(info[5])
}
