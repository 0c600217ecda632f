//! As much HTTP as tests need: one request, one response.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::loopback;

/// How long a peer may stay silent.
const SILENCE: Duration = Duration::from_secs(120);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, without its headers.
    pub body: String,
}

/// Requests `path` from a server.
pub fn get(server: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("not an HTTP response: {text:?}")))
}

/// Splits a response whose body is not chunked.
fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Response {
        status,
        body: body.to_owned(),
    })
}

/// A server that takes one request and answers when told to.
#[derive(Debug)]
pub struct OneAnswer {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

impl OneAnswer {
    /// Begins to listen on loopback.
    pub fn listen() -> OneAnswer {
        let (listener, address) = loopback::listener();
        let (answer, asked) = channel();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(SILENCE))?;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                request.push(byte[0]);
            }
            // An error means that the test is over; then there is nobody to answer.
            let _ = asked.recv();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        });
        OneAnswer {
            address,
            answer,
            server,
        }
    }

    /// Answers, and waits until that is done.
    pub fn answer(self) {
        drop(self.answer);
        self.server
            .join()
            .expect("the server does not panic")
            .expect("the client waits for its answer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_its_answer() {
        let server = OneAnswer::listen();
        let address = server.address;
        let client = std::thread::spawn(move || get(address, "/"));
        server.answer();
        let response = client
            .join()
            .expect("the client does not panic")
            .expect("an answer came");
        assert_eq!(
            response,
            Response {
                status: 200,
                body: String::new()
            }
        );
    }
}
