//! A process that begins connections with a TLS handshake, or with something else. Nobody answers.

use std::ffi::OsString;
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::{tell, word};
use crate::hello::Hello;

/// Makes one connection, both ends of which are this process's. Arguments: a way, the address, the server's
/// name. Fact, once both are closed: `{"port", "local"}`.
pub(super) fn greet(arguments: &[OsString]) -> Result<()> {
    let address: IpAddr = word(arguments, 1)?.parse()?;
    let hello = Hello::with_name(word(arguments, 2)?);
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let mut server = listener.accept()?.0;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?.port();
    send(word(arguments, 0)?, &hello, &mut stream, &mut server)?;
    drop(stream);
    server.read_to_end(&mut Vec::new())?;
    drop(server);
    tell(&json!({"port": port, "local": local}))
}

fn send(
    way: &str,
    hello: &Hello<'_>,
    stream: &mut TcpStream,
    server: &mut TcpStream,
) -> Result<()> {
    let record = hello.record();
    match way {
        "at-once" => stream.write_all(&record)?,
        "and-more" => {
            stream.write_all(&record)?;
            stream.write_all(&record)?;
        }
        "with-data-behind" => {
            let parts = [IoSlice::new(&record), IoSlice::new(b"secret")];
            let written = stream.write_vectored(&parts)?;
            ensure!(written == record.len() + 6, "all is written");
        }
        "with-large-key" => stream.write_all(&with_key(hello, 1_400))?,
        "with-larger-key" => stream.write_all(&with_key(hello, 3_000))?,
        "encrypted" => {
            let encrypted = true;
            stream.write_all(
                &Hello {
                    encrypted,
                    ..*hello
                }
                .record(),
            )?;
        }
        // Its protocols come last.
        "in-two" => {
            let (first, second) = record.split_at(record.len() - 8);
            stream.write_all(first)?;
            server.read_exact(&mut vec![0; first.len()])?;
            stream.write_all(second)?;
        }
        "too-late" => {
            stream.write_all(b"STARTTLS\r\n")?;
            server.read_exact(&mut [0; 10])?;
            stream.write_all(&record)?;
        }
        "malformed" => {
            let mut record = record;
            record[43] = 0xff; // The length of the session.
            stream.write_all(&record)?;
        }
        "something-else" => stream.write_all(b"\x16\x03\x01\x00\x40\x02not a client's")?,
        "short" => stream.write_all(&record[..4])?,
        other => bail!("no such way to begin: {other}"),
    }
    Ok(())
}

fn with_key(hello: &Hello<'_>, key_share: usize) -> Vec<u8> {
    Hello {
        key_share,
        ..*hello
    }
    .record()
}
