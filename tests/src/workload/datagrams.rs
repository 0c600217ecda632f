//! Datagrams, sent and received in various ways; both ends are sockets of this process.

use std::ffi::OsString;
use std::fs::File;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};
use rustix::net::{RecvFlags, SendFlags, recv};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::fast_open::enter_namespace;
use super::uring::Ring;
use super::{parsed, tell, word};

/// What one socket sent to a peer and received from it.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) sent: (u64, u64),
    pub(super) received: (u64, u64),
}

impl Carried {
    pub(super) fn sent(&mut self, packets: u64, bytes: usize) {
        self.sent.0 += packets;
        self.sent.1 += bytes as u64;
    }

    pub(super) fn received(&mut self, packets: u64, bytes: usize) {
        self.received.0 += packets;
        self.received.1 += bytes as u64;
    }
}

/// Two sockets, and what each has exchanged with the other.
struct Pair {
    client: UdpSocket,
    server: UdpSocket,
    by_client: Carried,
    by_server: Carried,
}

impl Pair {
    /// Both bound; `connected` connects the client.
    fn new(ip: IpAddr, connected: bool) -> Result<Self> {
        let (client, server) = (UdpSocket::bind((ip, 0))?, UdpSocket::bind((ip, 0))?);
        if connected {
            client.connect(server.local_addr()?)?;
        }
        Ok(Self {
            client,
            server,
            by_client: Carried::default(),
            by_server: Carried::default(),
        })
    }

    /// The server takes what waits, at most `bytes` at once.
    fn take(&mut self, datagrams: usize, bytes: usize) -> Result<()> {
        let mut buffer = vec![0; bytes];
        for _ in 0..datagrams {
            let (length, _) = self.server.recv_from(&mut buffer)?;
            self.by_server.received(1, length);
        }
        Ok(())
    }

    fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.client.send(payload)?;
        self.by_client.sent(1, payload.len());
        Ok(())
    }

    fn reply(&mut self, payload: &[u8]) -> Result<()> {
        self.server.send_to(payload, self.client.local_addr()?)?;
        self.by_server.sent(1, payload.len());
        let (length, _) = self.client.recv_from(&mut [0; 2048])?;
        self.by_client.received(1, length);
        Ok(())
    }

    /// What both did, once they are closed.
    fn close(self) -> Result<Value> {
        let port = |socket: &UdpSocket| Ok::<_, std::io::Error>(socket.local_addr()?.port());
        let fact = json!({
            "client": port(&self.client)?,
            "server": port(&self.server)?,
            "by_client": {"sent": self.by_client.sent, "received": self.by_client.received},
            "by_server": {"sent": self.by_server.sent, "received": self.by_server.received},
        });
        drop((self.client, self.server));
        Ok(fact)
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Arguments: a way, and how often. Fact, once both are closed: `{"client", "server"}` (ports) and
/// `{"by_client", "by_server"}`, each `{"sent", "received"}`, which are `[datagrams, bytes]`.
pub(super) fn exchange(arguments: &[OsString]) -> Result<()> {
    let times = parsed(arguments, 1)?;
    let fact = match word(arguments, 0)? {
        "connected" => back_and_forth(V4, times)?,
        "connected-v6" => back_and_forth(V6, times)?,
        "unconnected" => unconnected(V4, times)?,
        "unconnected-v6" => unconnected(V6, times)?,
        "mapped" => mapped(times)?,
        "many" => many(times)?,
        "segmented" => segmented(times)?,
        "peeked" => peeked(times)?,
        "empty" => empty(times)?,
        "cut" => cut(times)?,
        "one-way" => one_way(times)?,
        "to-many" => to_many(times)?,
        "between-namespaces" => between_namespaces(times)?,
        way if let Some(way) = way.strip_prefix("uring-") => through_ring(way, times)?,
        other => bail!("no such way to exchange datagrams: {other}"),
    };
    tell(&fact)
}

fn back_and_forth(ip: IpAddr, times: usize) -> Result<Value> {
    let mut pair = Pair::new(ip, true)?;
    for number in 0..times {
        pair.send(&vec![b'q'; 1 + number % 1400])?;
        pair.take(1, 2048)?;
        if number % 3 == 0 {
            pair.reply(b"answer")?;
        }
    }
    pair.close()
}

fn unconnected(ip: IpAddr, times: usize) -> Result<Value> {
    let mut pair = Pair::new(ip, false)?;
    let to = pair.server.local_addr()?;
    for _ in 0..times {
        pair.client.send_to(b"unconnected", to)?;
        pair.by_client.sent(1, 11);
        pair.take(1, 2048)?;
        pair.reply(b"ok")?;
    }
    pair.close()
}

/// An IPv6 socket sends to an IPv4 one.
fn mapped(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, false)?;
    pair.client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let to = SocketAddr::from((
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        pair.server.local_addr()?.port(),
    ));
    for _ in 0..times {
        pair.client.send_to(b"mapped", to)?;
        pair.by_client.sent(1, 6);
        pair.take(1, 2048)?;
    }
    pair.close()
}

/// Batches by `sendmmsg`, taken by `recvmmsg`.
fn many(times: usize) -> Result<Value> {
    const BATCH: usize = 16;
    let mut pair = Pair::new(V4, true)?;
    let mut payload = [b'm'; 100];
    for _ in 0..times {
        let sent = batch(&mut payload, 0, BATCH, |messages| {
            // SAFETY: the messages refer to buffers that outlive the call.
            unsafe { libc::sendmmsg(pair.client.as_raw_fd(), messages, BATCH as u32, 0) }
        });
        ensure!(sent == BATCH as i32, std::io::Error::last_os_error());
        pair.by_client.sent(BATCH as u64, BATCH * 100);
        let received = batch(&mut payload, 32, BATCH, |messages| {
            // SAFETY: as above; all share one buffer, which nobody looks at.
            unsafe {
                let (none, wait) = (std::ptr::null_mut(), libc::MSG_WAITALL);
                libc::recvmmsg(pair.server.as_raw_fd(), messages, BATCH as u32, wait, none)
            }
        });
        ensure!(received == BATCH as i32, std::io::Error::last_os_error());
        pair.by_server.received(BATCH as u64, BATCH * 100);
    }
    pair.close()
}

/// All messages share one payload, and so many bytes of room for an address.
fn batch(
    payload: &mut [u8],
    name_length: u32,
    count: usize,
    act: impl FnOnce(*mut libc::mmsghdr) -> i32,
) -> i32 {
    let mut name = [0_u8; 32];
    let mut part = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: all zero is a message without anything.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_name = name.as_mut_ptr().cast();
    message.msg_hdr.msg_namelen = name_length;
    if name_length == 0 {
        message.msg_hdr.msg_name = std::ptr::null_mut();
    }
    let mut messages = vec![message; count];
    act(messages.as_mut_ptr())
}

/// The kernel cuts what is sent at once into datagrams of 100 bytes (`UDP_SEGMENT`).
fn segmented(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, true)?;
    set(&pair.client, libc::UDP_SEGMENT, 100)?;
    for _ in 0..times {
        let length = rustix::net::send(&pair.client, &[b's'; 950], SendFlags::empty())?;
        ensure!(length == 950, "{length} bytes sent");
        pair.by_client.sent(10, length);
        pair.take(10, 2048)?;
    }
    pair.close()
}

/// The server looks at each twice before it takes it.
fn peeked(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, true)?;
    for _ in 0..times {
        pair.send(b"peeked")?;
        let mut buffer = [0; 64];
        pair.server.peek_from(&mut buffer)?;
        // Of nothing at all, too.
        recv(&pair.server, &mut buffer[..0], RecvFlags::PEEK)?;
        pair.take(1, 64)?;
    }
    pair.close()
}

/// Datagrams without payload.
fn empty(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, true)?;
    for _ in 0..times {
        pair.send(b"")?;
        pair.take(1, 64)?;
    }
    pair.close()
}

/// The server takes less than came: what came counts.
fn cut(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, true)?;
    for _ in 0..times {
        pair.send(&[b'c'; 500])?;
        pair.server.recv_from(&mut [0; 10])?;
        pair.by_server.received(1, 500);
    }
    pair.close()
}

/// Nothing is ever answered; from several buffers at once.
fn one_way(times: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, true)?;
    for _ in 0..times {
        let parts = [IoSlice::new(b"one "), IoSlice::new(b"way")];
        rustix::io::writev(&pair.client, &parts)?;
        pair.by_client.sent(1, 7);
        pair.take(1, 2048)?;
    }
    pair.close()
}

/// To so many ports of 127.0.0.2, where nobody listens. The server is not used.
fn to_many(ports: usize) -> Result<Value> {
    let mut pair = Pair::new(V4, false)?;
    for number in 0..ports {
        let port = u16::try_from(1 + number % 60_000)?;
        let host = u8::try_from(2 + number / 60_000)?;
        pair.client
            .send_to(b"x", (Ipv4Addr::new(127, 0, 0, host), port))?;
        pair.by_client.sent(1, 1);
    }
    pair.close()
}

/// Both ends use io_uring.
fn through_ring(way: &str, times: usize) -> Result<Value> {
    let mut ring = Ring::new(way)?;
    let mut pair = Pair::new(V4, true)?;
    for number in 0..times {
        let payload = vec![b'r'; 1 + number];
        ring.send(pair.client.as_raw_fd(), &payload)?;
        pair.by_client.sent(1, payload.len());
        let length = ring.receive(pair.server.as_raw_fd(), &mut [0; 2048])?;
        pair.by_server.received(1, length);
    }
    pair.close()
}

/// The client is in one network namespace, the server in another; a pair of virtual links leads from one to the
/// other.
fn between_namespaces(times: usize) -> Result<Value> {
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    enter_namespace()?;
    let of_server = File::open("/proc/thread-self/ns/net")?;
    // Whoever makes the links names the other namespace by a process in it, which ends with its input.
    let mut resident = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    enter_namespace()?;
    let namespace = resident.id().to_string();
    let links = ["add", "client", "type", "veth", "peer", "name", "server"];
    ip(&[&["link"], &links[..], &["netns", &namespace]].concat())?;
    bring_up("client", CLIENT)?;
    let client = UdpSocket::bind((CLIENT, 0))?;
    move_into_link_name_space(of_server.as_fd(), Some(LinkNameSpaceType::Network))?;
    bring_up("server", SERVER)?;
    let server = UdpSocket::bind((SERVER, 0))?;
    client.connect(server.local_addr()?)?;
    let mut pair = Pair {
        client,
        server,
        by_client: Carried::default(),
        by_server: Carried::default(),
    };
    for number in 0..times {
        pair.send(&vec![b'n'; 1 + number])?;
        pair.take(1, 2048)?;
        pair.reply(b"from there")?;
    }
    let fact = pair.close()?;
    drop(resident.stdin.take());
    ensure!(resident.wait()?.success(), "cat failed");
    Ok(fact)
}

fn bring_up(link: &str, address: Ipv4Addr) -> Result<()> {
    ip(&["address", "add", &format!("{address}/24"), "dev", link])?;
    ip(&["link", "set", link, "up"])
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status()?;
    ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    Ok(())
}

/// A child sends with a socket that its parent made and never used. Fact: `{"child", "server"}`.
pub(super) fn with_inherited_socket(arguments: &[OsString]) -> Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    if !arguments.is_empty() {
        // SAFETY: the parent left it open for this.
        let client: UdpSocket = unsafe { OwnedFd::from_raw_fd(parsed(arguments, 0)?) }.into();
        client.send(b"inherited")?;
        return Ok(());
    }
    let pair = Pair::new(V4, true)?;
    rustix::io::fcntl_setfd(pair.client.as_fd(), rustix::io::FdFlags::empty())?;
    let number = pair.client.as_raw_fd().to_string();
    let mut child = super::command("datagrams-inherited", &[&number]).spawn()?;
    ensure!(child.wait()?.success(), "the child failed");
    pair.server.recv_from(&mut [0; 16])?;
    tell(&json!({"child": child.id(), "server": pair.server.local_addr()?.port()}))
}

fn set(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: an option that is an integer, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}
