//! A ClientHello, as far as it can be read.
//!
//! In: the beginning of a TLS record, which anyone may have sent. Out: what it says, or an error that costs no
//! more than a counter. What lacks its end says what stands before that; what is whole has to be right.

use std::sync::Arc;

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, TlsHandshakeType, TlsRecordType, nom,
    parse_tls_extension_alpn_content, parse_tls_extension_sni_content, parse_tls_extension_unknown,
    parse_tls_handshake_client_hello, parse_tls_record_header,
};

use super::text::escaped;

/// The longest name of a server, in bytes: that of a name of DNS.
pub const NAME_MAX: usize = 255;
/// How many protocols are kept.
pub const PROTOCOLS_MAX: usize = 16;

/// `encrypted_client_hello` (RFC 9849).
const ENCRYPTED_CLIENT_HELLO: TlsExtensionType = TlsExtensionType(0xfe0d);

/// Length of a handshake message's header: its type, and its length in three bytes.
const MESSAGE_HEADER: usize = 4;

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) server_name: Option<Arc<str>>,
    pub(super) protocols: Vec<Box<str>>,
    pub(super) omitted: u32,
    pub(super) encrypted_client_hello: bool,
    pub(super) truncated: bool,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    /// They are something else.
    #[error("what was sent first is no ClientHello")]
    SomethingElse,
    /// They cannot be read, although nothing is missing.
    #[error("cannot read a ClientHello of {length} bytes")]
    Malformed {
        /// As far as it was seen.
        length: usize,
    },
    /// The server's name is none.
    #[error("a server cannot have a name of {length} bytes")]
    Name {
        /// In bytes.
        length: usize,
    },
}

/// Reads what was sent first.
pub(super) fn read(bytes: &[u8]) -> Result<Said, HelloError> {
    let (record, header) = parse_tls_record_header(bytes).map_err(|_| HelloError::SomethingElse)?;
    let record = &record[..record.len().min(header.len.into())];
    let (head, body) = record
        .split_first_chunk::<MESSAGE_HEADER>()
        .ok_or(HelloError::SomethingElse)?;
    let [kind, length @ ..] = *head;
    if header.record_type != TlsRecordType::Handshake
        || TlsHandshakeType(kind) != TlsHandshakeType::ClientHello
    {
        return Err(HelloError::SomethingElse);
    }
    let [upper, middle, lower] = length.map(usize::from);
    let length = upper << 16 | middle << 8 | lower;
    let mut said = Said {
        truncated: length > body.len(),
        ..Said::default()
    };
    let body = &body[..body.len().min(length)];
    match read_body(body, &mut said) {
        Err(Fault::Name { length }) => Err(HelloError::Name { length }),
        Err(Fault::Unreadable) if !said.truncated => {
            Err(HelloError::Malformed { length: body.len() })
        }
        Ok(()) | Err(Fault::Unreadable) => Ok(said),
    }
}

/// What ends the reading.
enum Fault {
    /// Bytes are missing, or wrong.
    Unreadable,
    Name {
        length: usize,
    },
}

impl<E> From<nom::Err<E>> for Fault {
    fn from(_: nom::Err<E>) -> Self {
        Fault::Unreadable
    }
}

/// Takes what it can read before the first fault.
fn read_body(body: &[u8], said: &mut Said) -> Result<(), Fault> {
    let (rest, contents) = parse_tls_handshake_client_hello(body)?;
    let extensions = match (contents.ext, rest) {
        (Some(extensions), []) => extensions,
        (None, []) => return Ok(()), // As clients did before there were any.
        // Their length, and not all of them.
        (None, [_, _, part @ ..]) if said.truncated => part,
        _ => return Err(Fault::Unreadable),
    };
    read_extensions(extensions, said)
}

fn read_extensions(mut extensions: &[u8], said: &mut Said) -> Result<(), Fault> {
    while !extensions.is_empty() {
        let (rest, extension) = parse_tls_extension_unknown(extensions)?;
        if let TlsExtension::Unknown(kind, content) = extension {
            match kind {
                TlsExtensionType::ServerName => read_name(content, said)?,
                TlsExtensionType::ApplicationLayerProtocolNegotiation => {
                    read_protocols(content, said)?;
                }
                ENCRYPTED_CLIENT_HELLO => said.encrypted_client_hello = true,
                _ => {}
            }
        }
        extensions = rest;
    }
    Ok(())
}

/// The first name counts: there may be but one.
fn read_name(content: &[u8], said: &mut Said) -> Result<(), Fault> {
    let (_, extension) = parse_tls_extension_sni_content(content)?;
    let TlsExtension::SNI(names) = extension else {
        return Ok(());
    };
    let name = names
        .into_iter()
        .find(|(kind, _)| *kind == SNIType::HostName);
    let Some((_, name)) = name.filter(|_| said.server_name.is_none()) else {
        return Ok(());
    };
    match name.len() {
        1..=NAME_MAX => said.server_name = Some(escaped(name).into()),
        length => return Err(Fault::Name { length }),
    }
    Ok(())
}

fn read_protocols(content: &[u8], said: &mut Said) -> Result<(), Fault> {
    let (_, extension) = parse_tls_extension_alpn_content(content)?;
    if let TlsExtension::ALPN(protocols) = extension {
        for protocol in protocols {
            if said.protocols.len() < PROTOCOLS_MAX {
                said.protocols.push(escaped(protocol).into());
            } else {
                said.omitted += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
