//! JSON objects, written member by member into a buffer.
//!
//! Every member of an output record is known by name when this is compiled, so a derived serializer
//! would escape the same keys for every event; here a member costs little more than its copy.

use std::io::Write as _;
use std::net::IpAddr;

use crate::output::text;

/// An object that is open for more members. The caller closes it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    /// Begins an object.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    /// Writes members without their object's braces.
    pub(super) fn members_only(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Closes the object.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a member's name and returns where its value goes.
    #[inline]
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Separates a member from the one before. No value ends in an opening brace, so one here means
    /// that there is none before; so does an empty buffer, where members alone are rendered.
    #[inline]
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{')) {
            self.out.push(b',');
        }
    }

    /// A member that is an object.
    #[inline]
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(self.key(key));
        fill(&mut object);
        object.end();
    }

    /// A string that needs no escapes: our own words and identifiers.
    #[inline]
    pub(super) fn word(&mut self, key: &str, word: &str) {
        write_word(word, self.key(key));
    }

    /// Any string.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        let out = self.key(key);
        out.push(b'"');
        text::write_json(value, out);
        out.push(b'"');
    }

    /// Bytes of any value; `escape` says that the field is one of those in `tracer.escaped`.
    pub(super) fn bytes(&mut self, key: &str, bytes: &[u8], escape: bool) {
        write_bytes(bytes, escape, self.key(key));
    }

    /// A list of our own words.
    #[inline]
    pub(super) fn words(&mut self, key: &str, words: &[&str]) {
        write_list(words, self.key(key), |word, out| write_word(word, out));
    }

    /// A number.
    #[inline]
    pub(super) fn number(&mut self, key: &str, number: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        self.key(key)
            .extend_from_slice(digits.format(number).as_bytes());
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.key(key)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An address.
    #[inline]
    pub(super) fn ip(&mut self, key: &str, ip: IpAddr) {
        let out = self.key(key);
        out.push(b'"');
        write_ip(ip, out);
        out.push(b'"');
    }

    /// Members that were rendered before, without braces.
    #[inline]
    pub(super) fn members(&mut self, members: &[u8]) {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members);
        }
    }
}

/// Appends a list, each element by `write`.
pub(super) fn write_list<T>(
    elements: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

/// Appends a string that needs no escapes.
#[inline]
pub(super) fn write_word(word: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends a string of the outside world.
pub(super) fn write_bytes(bytes: &[u8], escape: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) if !escape => text::write_json(text, out),
        _ => text::write_json_escaped(bytes, out),
    }
    out.push(b'"');
}

/// Appends an address, digit by digit for IPv4, which is by far the more frequent.
fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{ip}");
        }
    }
}
