//! Connections that carry a known number of bytes each way, between `serve` and `connect`.
//!
//! Each side counts what it passes to and takes from its socket, and that is what it tells.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{parsed, tell};

/// What the initiator sends first: how many bytes follow, how many it wants, and who closes first.
const HEADER: usize = 12;

/// Serves connections one after another. Arguments: how many, on which address. Facts:
/// `{"port"}` when it listens, then `[[peer port, sent, received], …]` when all are closed.
pub(super) fn serve(arguments: &[OsString]) -> Result<()> {
    let count: usize = parsed(arguments, 0)?;
    let listener = TcpListener::bind(parsed::<SocketAddr>(arguments, 1)?)?;
    tell(&json!({"port": listener.local_addr()?.port()}))?;
    let exchanges: Result<Vec<_>> = (0..count).map(|_| answer(listener.accept()?.0)).collect();
    tell(&Value::Array(exchanges?))
}

/// Makes connections one after another. Arguments: how many, to which address. Fact: `[[local
/// port, sent, received], …]`.
pub(super) fn connect(arguments: &[OsString]) -> Result<()> {
    let count: usize = parsed(arguments, 0)?;
    let address: SocketAddr = parsed(arguments, 1)?;
    let exchanges: Result<Vec<_>> = (0..count)
        .map(|index| ask(TcpStream::connect(address)?, index))
        .collect();
    tell(&Value::Array(exchanges?))
}

/// The initiator's part of exchange number `index`.
pub(super) fn ask(mut stream: TcpStream, index: usize) -> Result<Value> {
    let port = stream.local_addr()?.port();
    let (up, down) = lengths(index);
    let close_first = index.is_multiple_of(2);
    let mut request = vec![0x5a; HEADER + up];
    request[..4].copy_from_slice(&u32::try_from(up)?.to_le_bytes());
    request[4..8].copy_from_slice(&u32::try_from(down)?.to_le_bytes());
    request[8..HEADER].copy_from_slice(&u32::from(close_first).to_le_bytes());
    stream.write_all(&request)?;
    let mut received = vec![0; down];
    stream.read_exact(&mut received)?;
    if !close_first {
        await_end(&mut stream)?;
    }
    Ok(json!([port, request.len(), received.len()]))
}

/// The acceptor's part of an exchange.
pub(super) fn answer(stream: TcpStream) -> Result<Value> {
    let port = stream.peer_addr()?.port();
    answer_to(port, stream)
}

/// The same without asking for the peer's address, which a kernel can notice.
pub(super) fn answer_to(port: u16, mut stream: TcpStream) -> Result<Value> {
    let mut header = [[0; 4]; HEADER / 4];
    stream.read_exact(header.as_flattened_mut())?;
    let [up, down, close_last] = header.map(u32::from_le_bytes);
    let mut received = vec![0; usize::try_from(up)?];
    stream.read_exact(&mut received)?;
    let response = vec![0xa5; usize::try_from(down)?];
    stream.write_all(&response)?;
    if close_last == 1 {
        await_end(&mut stream)?;
    }
    Ok(json!([port, response.len(), HEADER + received.len()]))
}

fn await_end(stream: &mut TcpStream) -> Result<()> {
    ensure!(
        stream.read(&mut [0])? == 0,
        "the peer sends more than it said"
    );
    Ok(())
}

/// How much goes up and down in exchange number `index`: mostly less than a segment, sometimes
/// nothing, now and then more than a socket buffers.
fn lengths(index: usize) -> (usize, usize) {
    match index % 100 {
        13 => (0, 0),
        29 => (0, 300_000),
        61 => (300_000, 0),
        _ => ((index + 1) * 7919 % 2953, (index + 1) * 6007 % 3001),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_count_the_same() {
        for index in [0, 1, 13, 29, 61] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
            let stream = TcpStream::connect(listener.local_addr().expect("it is bound"))
                .expect("it listens");
            let server = std::thread::spawn(move || answer(listener.accept()?.0));
            let asked = ask(stream, index).expect("the exchange works");
            let answered = server
                .join()
                .expect("the server does not panic")
                .expect("the exchange works");
            let (up, down) = lengths(index);
            assert_eq!(asked, json!([asked[0], HEADER + up, down]));
            assert_eq!(answered, json!([asked[0], down, HEADER + up]));
        }
    }
}
