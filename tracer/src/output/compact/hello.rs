//! What a TLS client asks for, for people.
//!
//! In: a handshake. Out: the server's name and the protocols, and with `wide` what has to be known about them.
//! Whatever comes from a handshake is printable ASCII by now.

use super::write_all;
use crate::tls::ClientHello;

/// How many protocols a line shows.
const SHOWN: usize = 3;

pub(super) fn write_offer(hello: &ClientHello, out: &mut Vec<u8>) {
    match &hello.server_name {
        Some(name) => write_all(out, format_args!("for {name}  ")),
        None if hello.truncated => out.extend_from_slice(b"for a server not seen  "),
        None => out.extend_from_slice(b"for no server by name  "),
    }
    if hello.protocols.is_empty() {
        return;
    }
    let shown = hello.protocols.iter().take(SHOWN);
    let shown: Vec<&str> = shown.map(AsRef::as_ref).collect();
    let more = hello.protocols.len() - shown.len() + hello.omitted as usize;
    write_all(out, format_args!("{}", shown.join(", ")));
    if more > 0 {
        write_all(out, format_args!(" and {more} more"));
    }
    out.extend_from_slice(b"  ");
}

/// The rest, each with its name.
pub(super) fn write_details(hello: &ClientHello, out: &mut Vec<u8>) {
    for protocol in hello.protocols.iter().skip(SHOWN) {
        write_all(out, format_args!("alpn={protocol} "));
    }
    if hello.encrypted_client_hello {
        out.extend_from_slice(b"(encrypted_client_hello) ");
    }
    if hello.truncated {
        out.extend_from_slice(b"(truncated) ");
    }
}
