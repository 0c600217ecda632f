//! TLS handshakes in scenarios: how one is written, and how it is told.

use tests::hello::Hello;
use tracer::event::{EventKind, HelloPayload, SocketId};
use tracer::tls::ClientHello;

use crate::scenario::{Words, ends};

/// The socket sends a hello for a name, with protocols: `LOCAL > REMOTE NAME PROTOCOL…`; a name `-` is none.
/// `cut` leaves out its last byte, `wrong` makes it unreadable.
pub(crate) fn read(socket: SocketId, words: &mut Words<'_>) -> Result<EventKind<'static>, String> {
    let (endpoints, _) = ends(words)?;
    let name = words.next()?;
    let mut protocols = Vec::new();
    while let Ok(protocol) = words.next() {
        protocols.push(protocol.as_bytes());
    }
    let hello = Hello {
        server_name: (name != "-").then_some(name.as_bytes()),
        protocols: &protocols,
        encrypted: words.flag("encrypted"),
        key_share: 0,
    };
    let mut bytes = hello.record();
    if words.flag("cut") {
        bytes.pop();
    }
    if words.flag("wrong") {
        bytes[43] = 0xff; // The length of the session.
    }
    Ok(EventKind::ClientHello(HelloPayload {
        socket,
        endpoints,
        bytes: bytes.leak(),
    }))
}

/// ` for example.org offering h2 http/1.1 encrypted truncated`.
pub(crate) fn write(hello: &ClientHello) -> String {
    let mut text = match &hello.server_name {
        Some(name) => format!(" for {name}"),
        None => String::new(),
    };
    if !hello.protocols.is_empty() {
        text.push_str(" offering ");
        text.push_str(&hello.protocols.join(" "));
    }
    if hello.encrypted_client_hello {
        text.push_str(" encrypted");
    }
    if hello.truncated {
        text.push_str(" truncated");
    }
    text
}
