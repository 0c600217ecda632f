//! Identifiers of processes and connections, as they stand in every output.
//!
//! In: a key of the process or connection table and the boot ID. Out: 40 URL-safe characters, the
//! same for the same thing on this host and across boots; and the way back, for `tracer decode-id`.
//!
//! An identifier is the unpadded URL-safe Base64 of 30 bytes: version (1), kind, boot ID (16), then
//! 12 bytes: for a process its PID and start, for a connection its first sight and serial number,
//! in big-endian order. The first 18 bytes are the same for all things of a kind on a host: they
//! are encoded once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::event::ProcessKey;
use crate::observation::ConnectionId;

/// A kernel's `boot_id`: 16 random bytes that change at every boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Parses the form with hyphens, as in `/proc/sys/kernel/random/boot_id`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.trim().bytes().filter(|&byte| byte != b'-').collect();
        let mut bytes = [0; 16];
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Length of every identifier, in characters.
pub const ID_LENGTH: usize = 40;

const VERSION: u8 = 1;
const KIND_PROCESS: u8 = 0;
const KIND_PROCESS_ROUNDED: u8 = 1;
const KIND_CONNECTION: u8 = 2;

/// Bytes and characters of the part that all identifiers of a kind share.
const PREFIX_BYTES: usize = 18;
const PREFIX_LENGTH: usize = 24;

/// An identifier, rendered.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; ID_LENGTH]);

impl Id {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        // Base64 is ASCII; the empty string is unreachable.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Id {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Renders identifiers for one boot.
#[derive(Clone)]
pub struct Identities {
    process: [u8; PREFIX_LENGTH],
    process_rounded: [u8; PREFIX_LENGTH],
    connection: [u8; PREFIX_LENGTH],
}

impl Identities {
    /// For things that happen in this boot.
    pub fn new(boot: BootId) -> Self {
        Self {
            process: prefix(KIND_PROCESS, boot),
            process_rounded: prefix(KIND_PROCESS_ROUNDED, boot),
            connection: prefix(KIND_CONNECTION, boot),
        }
    }

    /// `entity_id` of a process; `rounded` says that its start is known only in ticks.
    pub fn process(&self, key: ProcessKey, rounded: bool) -> Id {
        let prefix = if rounded {
            &self.process_rounded
        } else {
            &self.process
        };
        let mut tail = [0; 12];
        tail[..4].copy_from_slice(&key.tgid.to_be_bytes());
        tail[4..].copy_from_slice(&key.start_ns.to_be_bytes());
        encode(prefix, tail)
    }

    /// `tracer.connection_id` of a connection.
    pub fn connection(&self, id: ConnectionId) -> Id {
        let mut tail = [0; 12];
        tail[..8].copy_from_slice(&id.first_seen_ns.to_be_bytes());
        tail[8..].copy_from_slice(&id.serial.to_be_bytes());
        encode(&self.connection, tail)
    }
}

fn prefix(kind: u8, boot: BootId) -> [u8; PREFIX_LENGTH] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[0] = VERSION;
    bytes[1] = kind;
    bytes[2..].copy_from_slice(&boot.0);
    let mut text = [0; PREFIX_LENGTH];
    base64_digits(&bytes, &mut text);
    text
}

fn encode(prefix: &[u8; PREFIX_LENGTH], tail: [u8; 12]) -> Id {
    let mut text = [0; ID_LENGTH];
    text[..PREFIX_LENGTH].copy_from_slice(prefix);
    base64_digits(&tail, &mut text[PREFIX_LENGTH..]);
    Id(text)
}

/// URL-safe Base64 of whole groups: three bytes become four characters. (Written here because every
/// event has one or two, and the library's general way takes four times as long.)
fn base64_digits(bytes: &[u8], text: &mut [u8]) {
    for (&[a, b, c], characters) in bytes.as_chunks().0.iter().zip(text.as_chunks_mut().0) {
        let bits = u32::from_be_bytes([0, a, b, c]) as usize;
        let [[w, x], [y, z]] = [DIGIT_PAIRS[bits >> 12], DIGIT_PAIRS[bits & 4095]];
        *characters = [w, x, y, z];
    }
}

/// Two digits for every 12 bits.
static DIGIT_PAIRS: [[u8; 2]; 4096] = {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < 4096 {
        pairs[bits] = [digits[bits >> 6], digits[bits & 63]];
        bits += 1;
    }
    pairs
};

/// What an identifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The boot in which it was given.
    pub boot: BootId,
    /// What it identifies.
    pub subject: Subject,
}

/// What an identifier identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A process.
    Process {
        /// Which.
        key: ProcessKey,
        /// Its start is known only in ticks of the clock (usually 10 ms).
        rounded: bool,
    },
    /// A connection.
    Connection(ConnectionId),
}

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Wrong length.
    #[error("it has {0} characters, not {ID_LENGTH}")]
    Length(usize),
    /// A character that identifiers do not have.
    #[error("it has a character other than A-Z, a-z, 0-9, - and _")]
    Character,
    /// Made by another version.
    #[error("it has version {0}; this tracer knows version {VERSION}")]
    Version(u8),
    /// Neither process nor connection.
    #[error("it is of kind {0}, which is neither a process nor a connection")]
    Kind(u8),
}

/// What an identifier says.
pub fn decode(text: &str) -> Result<Decoded, DecodeError> {
    let length = text.chars().count();
    if length != ID_LENGTH {
        return Err(DecodeError::Length(length));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| DecodeError::Character)?;
    let Ok([version, kind, rest @ ..]) = <[u8; 30]>::try_from(bytes) else {
        return Err(DecodeError::Character);
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let [boot @ .., _, _, _, _, _, _, _, _, _, _, _, _] = rest;
    let [.., a, b, c, d, e, f, g, h, i, j, k, l] = rest;
    let subject = match kind {
        KIND_PROCESS | KIND_PROCESS_ROUNDED => Subject::Process {
            key: ProcessKey {
                tgid: u32::from_be_bytes([a, b, c, d]),
                start_ns: u64::from_be_bytes([e, f, g, h, i, j, k, l]),
            },
            rounded: kind == KIND_PROCESS_ROUNDED,
        },
        KIND_CONNECTION => Subject::Connection(ConnectionId {
            first_seen_ns: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            serial: u32::from_be_bytes([i, j, k, l]),
        }),
        _ => return Err(DecodeError::Kind(kind)),
    };
    Ok(Decoded {
        boot: BootId(boot),
        subject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([0xd7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
    const KEY: ProcessKey = ProcessKey {
        tgid: 4312,
        start_ns: 123_456_789_012_345,
    };

    #[test]
    fn a_process_identifier_decodes_to_what_it_was_made_of() {
        for rounded in [false, true] {
            let id = Identities::new(BOOT).process(KEY, rounded);
            let subject = Subject::Process { key: KEY, rounded };
            assert_eq!(
                decode(id.as_str()),
                Ok(Decoded {
                    boot: BOOT,
                    subject
                })
            );
        }
    }

    #[test]
    fn a_connection_identifier_decodes_to_what_it_was_made_of() {
        let connection = ConnectionId {
            first_seen_ns: u64::MAX,
            serial: 7,
        };
        let id = Identities::new(BOOT).connection(connection);
        let subject = Subject::Connection(connection);
        assert_eq!(
            decode(id.as_str()),
            Ok(Decoded {
                boot: BOOT,
                subject
            })
        );
    }

    #[test]
    fn an_identifier_needs_no_escaping_in_a_url() {
        let id = Identities::new(BootId([0xff; 16])).process(KEY, false);
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(id.as_str().bytes().all(safe), "{id}");
        assert_eq!(id.as_str().len(), ID_LENGTH);
    }

    #[test]
    fn what_is_wrong_with_a_bad_identifier_is_told() {
        let good = Identities::new(BOOT).process(KEY, false).to_string();
        assert_eq!(decode("abc"), Err(DecodeError::Length(3)));
        assert_eq!(
            decode(&good.replacen('A', "!", 1)),
            Err(DecodeError::Character)
        );
        assert_eq!(
            decode(&good.replacen("AQ", "Ag", 1)),
            Err(DecodeError::Version(2))
        );
        let mut bytes = [0; 30];
        bytes[..2].copy_from_slice(&[VERSION, 9]);
        assert_eq!(
            decode(&URL_SAFE_NO_PAD.encode(bytes)),
            Err(DecodeError::Kind(9))
        );
    }

    #[test]
    fn a_boot_id_is_printed_as_the_kernel_prints_it() {
        let text = "d7010203-0405-0607-0809-0a0b0c0d0eff";
        assert_eq!(BootId::parse(text), Some(BOOT));
        assert_eq!(BOOT.to_string(), text);
        assert_eq!(BootId::parse("d701"), None);
    }
}
