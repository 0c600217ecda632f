//! A process that asks for names, and its name server, which is a thread of the test's own process family.
//!
//! The server answers each name in the way that its first label says; it listens on port 53 of an address of
//! the loopback network that nobody else uses.

use std::ffi::OsString;
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::connect_unspec;
use rustix::pipe::{SpliceFlags, splice};
use serde_json::json;

use super::failing::LOOPBACK;
use super::{tell, wait_for_go, word};

const PORT: u16 = 53;

const A: u16 = 1;
const AAAA: u16 = 28;

/// Answers until told to end. Argument: address. Fact: `{}` once it listens, for UDP and TCP.
pub(super) fn answer(arguments: &[OsString]) -> Result<()> {
    let ip: IpAddr = word(arguments, 0)?.parse()?;
    let datagrams = UdpSocket::bind((ip, PORT))?;
    let streams = TcpListener::bind((ip, PORT))?;
    std::thread::spawn(move || answer_datagrams(&datagrams));
    std::thread::spawn(move || answer_streams(&streams));
    tell(&json!({}))?;
    wait_for_go()
}

fn answer_datagrams(socket: &UdpSocket) -> Result<()> {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer_to(&buffer[..length]) {
            if buffer[13..].starts_with(b"pages") {
                send_in_pages(socket, &answer, from)?;
            } else {
                socket.send_to(&answer, from)?;
            }
        }
    }
}

/// Sends from a pipe: the kernel then takes the pipe's page into the packet, rather than copying what it holds.
fn send_in_pages(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> Result<()> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(payload)?;
    socket.connect(to)?;
    let spliced = splice(
        &reader,
        None,
        socket,
        None,
        payload.len(),
        SpliceFlags::empty(),
    )?;
    ensure!(spliced == payload.len(), "{spliced} bytes sent");
    Ok(connect_unspec(socket)?)
}

fn answer_streams(listener: &TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        let question = read_message(&mut stream)?;
        if let Some(answer) = answer_to(&question) {
            write_message(&mut stream, &answer)?;
        }
    }
    Ok(())
}

/// `None` for a name that begins with `silent`. Whatever follows the question, as EDNS does, is left out.
fn answer_to(message: &[u8]) -> Option<Vec<u8>> {
    let name = message.get(12..)?.iter().position(|&byte| byte == 0)?;
    let question = message.get(..12 + name + 5)?;
    let is = |label: &[u8]| question[13..].starts_with(label);
    let kind = u16::from_be_bytes(question[12 + name + 1..][..2].try_into().ok()?);
    let (flags, answers): (u16, u16) = match () {
        () if is(b"silent") => return None,
        () if is(b"missing") => (0x8183, 0),
        () => (0x8180, 1),
    };
    let mut answer = question[..2].to_vec();
    answer.extend(flags.to_be_bytes());
    answer.extend([0, 1]);
    answer.extend(answers.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(&question[12..]);
    if answers > 0 {
        // The name is that of the question; valid for a minute.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        if kind == AAAA {
            answer.extend([0, 16]);
            answer.extend(Ipv6Addr::LOCALHOST.octets());
        } else {
            answer.extend([0, 4]);
            answer.extend(Ipv4Addr::LOCALHOST.octets());
        }
    }
    Some(answer)
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn read_message(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let mut whole = u16::try_from(message.len())?.to_be_bytes().to_vec();
    whole.extend(message);
    Ok(stream.write_all(&whole)?)
}

fn write_in_two(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_all(&u16::try_from(message.len())?.to_be_bytes())?;
    Ok(stream.write_all(message)?)
}

/// As glibc does.
fn write_parts(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let length = u16::try_from(message.len())?.to_be_bytes();
    let written = stream.write_vectored(&[IoSlice::new(&length), IoSlice::new(message)])?;
    ensure!(written == length.len() + message.len(), "all is written");
    Ok(())
}

/// Asks for a name, and connects to 127.0.0.1. Arguments: a way, the server's address, the name. Fact, once all is
/// closed: `{"port"}` to which it connected.
pub(super) fn ask(arguments: &[OsString]) -> Result<()> {
    let server = SocketAddr::new(word(arguments, 1)?.parse()?, PORT);
    let name = word(arguments, 2)?;
    match word(arguments, 0)? {
        "connected" => by_datagram(server, true, &[question(7, name, A)])?,
        "unconnected" => by_datagram(server, false, &[question(8, name, A)])?,
        "both-families" => {
            by_datagram(
                server,
                true,
                &[question(1, name, A), question(2, name, AAAA)],
            )?;
        }
        "two-sockets" => std::thread::scope(|scope| {
            let both = [A, AAAA].map(|kind| {
                scope.spawn(move || by_datagram(server, true, &[question(kind, name, kind)]))
            });
            let mut asked = both.into_iter().map(|one| one.join().expect("no panic"));
            asked.try_for_each(|one| one)
        })?,
        "unheard" => {
            let socket = UdpSocket::bind((server.ip(), 0))?;
            socket.send_to(&question(9, name, A), server)?;
        }
        "stream" => by_stream(server, &question(10, name, A), write_message)?,
        "stream-in-two-writes" => by_stream(server, &question(11, name, A), write_in_two)?,
        "stream-in-two-parts" => by_stream(server, &question(12, name, A), write_parts)?,
        "stream-read-at-once" => by_stream_at_once(server, &question(13, name, A))?,
        other => bail!("no such way to ask: {other}"),
    }
    let listener = TcpListener::bind(LOOPBACK)?;
    let port = listener.local_addr()?.port();
    drop(TcpStream::connect(listener.local_addr()?)?);
    drop(listener);
    tell(&json!({"port": port}))
}

/// Sends all questions, then takes all answers.
fn by_datagram(server: SocketAddr, connected: bool, questions: &[Vec<u8>]) -> Result<()> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    if connected {
        socket.connect(server)?;
    }
    for question in questions {
        if connected {
            socket.send(question)?;
        } else {
            socket.send_to(question, server)?;
        }
    }
    for question in questions {
        let mut answer = [0; 512];
        socket.recv(&mut answer)?;
        ensure!(
            answer[..2] == question[..2],
            "an answer to another question"
        );
    }
    Ok(())
}

/// Sends so, and takes the answer's length, then the answer.
fn by_stream(
    server: SocketAddr,
    question: &[u8],
    write: fn(&mut TcpStream, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut stream = TcpStream::connect(server)?;
    write(&mut stream, question)?;
    let answer = read_message(&mut stream)?;
    ensure!(
        answer[..2] == question[..2],
        "an answer to another question"
    );
    let rest = stream.read(&mut [0]).context("the server closes")?;
    ensure!(rest == 0, "more than one answer");
    Ok(())
}

/// Takes the answer at once, into more room than it needs, after a look at it that takes nothing.
fn by_stream_at_once(server: SocketAddr, question: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(server)?;
    write_message(&mut stream, question)?;
    let mut answer = [0; 512];
    let peeked = stream.peek(&mut answer)?;
    let read = stream.read(&mut answer)?;
    ensure!(peeked == read, "an answer in one piece");
    ensure!(
        answer[2..4] == question[..2],
        "an answer to another question"
    );
    Ok(())
}
