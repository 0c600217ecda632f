//! JSON objects, written member by member into a buffer.
//!
//! Every member of an output record is known by name when this is compiled, so a derived serializer
//! would escape the same keys for every event; here a member costs little more than its copy.

use std::net::IpAddr;
use std::ops::Range;

use crate::output::text;

/// The name of a member, with all that stands around it up to the value, or up to the inside of the
/// value if that is a string.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) value: &'static [u8],
    pub(super) string: &'static [u8],
}

/// The [`Key`] of that name. A literal, so that it is copied without a loop.
macro_rules! key {
    ($name:literal) => {
        $crate::output::json::object::Key {
            value: concat!(",\"", $name, "\":").as_bytes(),
            string: concat!(",\"", $name, "\":\"").as_bytes(),
        }
    };
}
pub(super) use key;

/// An object that is open for more members. The caller closes it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object.
    #[inline]
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    /// Writes members without their object's braces.
    pub(super) fn members_only(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            is_empty: true,
        }
    }

    /// Closes the object.
    #[inline]
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a member's name and returns where its value goes.
    #[inline(always)]
    pub(super) fn key(&mut self, key: Key) -> &mut Vec<u8> {
        self.name(key.value)
    }

    #[inline(always)]
    fn name(&mut self, name: &'static [u8]) -> &mut Vec<u8> {
        if std::mem::take(&mut self.is_empty) {
            self.out.extend_from_slice(&name[1..]);
        } else {
            self.out.extend_from_slice(name);
        }
        self.out
    }

    /// A member that is an object.
    #[inline]
    pub(super) fn object(&mut self, key: Key, fill: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(self.key(key));
        fill(&mut object);
        object.end();
    }

    /// A string that needs no escapes: our own words and identifiers.
    #[inline(always)]
    pub(super) fn word(&mut self, key: Key, word: impl AsRef<[u8]>) {
        let out = self.name(key.string);
        out.extend_from_slice(word.as_ref());
        out.push(b'"');
    }

    /// Any string.
    pub(super) fn text(&mut self, key: Key, value: &str) {
        let out = self.name(key.string);
        text::write_json(value, out);
        out.push(b'"');
    }

    /// Bytes of any value; `escape` says that the field is one of those in `tracer.escaped`.
    pub(super) fn bytes(&mut self, key: Key, bytes: &[u8], escape: bool) {
        write_bytes(bytes, escape, self.key(key));
    }

    /// A list of our own words.
    #[inline]
    pub(super) fn words(&mut self, key: Key, words: &[&str]) {
        write_list(words, self.key(key), write_word);
    }

    /// A number.
    #[inline(always)]
    pub(super) fn number(&mut self, key: Key, number: impl itoa::Integer) {
        write_number(number, self.key(key));
    }

    /// Bytes in hexadecimal digits.
    pub(super) fn hex(&mut self, key: Key, bytes: &[u8]) {
        let out = self.name(key.string);
        for &byte in bytes {
            let digits = [byte >> 4, byte & 15].map(|digit| HEX_DIGITS[usize::from(digit)]);
            out.extend_from_slice(&digits);
        }
        out.push(b'"');
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: Key, value: bool) {
        self.key(key)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An address.
    pub(super) fn ip(&mut self, key: Key, ip: IpAddr) {
        let out = self.name(key.string);
        write_ip(ip, out);
        out.push(b'"');
    }

    /// Writes members of which the last is an object that is still open, and returns that.
    #[inline]
    pub(super) fn begun(&mut self, members: &[u8]) -> Object<'_> {
        self.members(members);
        Object {
            out: self.out,
            is_empty: false,
        }
    }

    /// The value of a number whose name has been written.
    #[inline(always)]
    pub(super) fn digits(&mut self, number: impl itoa::Integer) {
        write_number(number, self.out);
    }

    /// Members that were rendered before, without braces.
    #[inline]
    pub(super) fn members(&mut self, members: &[u8]) {
        if !members.is_empty() {
            if !std::mem::take(&mut self.is_empty) {
                self.out.push(b',');
            }
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

#[inline(always)]
fn write_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(number).as_bytes());
}

/// Appends a string that needs no escapes.
#[inline]
pub(super) fn write_word(word: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_ref());
    out.push(b'"');
}

/// Appends a string of the outside world.
pub(super) fn write_bytes(bytes: &[u8], escape: bool, out: &mut Vec<u8>) {
    if text::is_plain(bytes) {
        return write_word(bytes, out);
    }
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) if !escape => text::write_json(text, out),
        _ => text::write_json_escaped(bytes, out),
    }
    out.push(b'"');
}

/// Appends an address in the form of RFC 5952. (The standard library's way costs as much as the rest
/// of the line.)
fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    let mut text = [0; "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".len()];
    let length = match ip {
        IpAddr::V4(ip) => write_ipv4(ip.octets(), &mut text),
        IpAddr::V6(ip) => write_ipv6(ip.segments(), &mut text),
    };
    out.extend_from_slice(&text[..length]);
}

/// Writes to the beginning of `text`; returns the length.
fn write_ipv4(octets: [u8; 4], text: &mut [u8; 39]) -> usize {
    let mut length = 0;
    for octet in octets {
        let (digits, count) = OCTETS[usize::from(octet)];
        text[length..length + 4].copy_from_slice(&digits);
        length += count;
    }
    length - ".".len()
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Every octet in decimal digits with a point behind it, and how long that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let count = if octet > 99 {
            3
        } else if octet > 9 {
            2
        } else {
            1
        };
        let (mut rest, mut place) = (octet, count);
        while place > 0 {
            place -= 1;
            octets[octet].0[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        octets[octet].1 = count + ".".len();
        octet += 1;
    }
    octets
};

/// Writes the segments, the longest run of zeros as `::`, to the beginning of `text`; returns the
/// length.
fn write_ipv6(segments: [u16; 8], text: &mut [u8; 39]) -> usize {
    let zeros = longest_zeros(&segments);
    let mut length = 0;
    let mut push = |byte| {
        text[length] = byte;
        length += 1;
    };
    for (index, segment) in segments.into_iter().enumerate() {
        if zeros.contains(&index) {
            // Its own colon, and the one that the last segment leaves to it.
            if index == zeros.start {
                push(b':');
            }
            if index == 7 {
                push(b':');
            }
            continue;
        }
        if index > 0 {
            push(b':');
        }
        let digits = (16 - segment.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            push(HEX_DIGITS[usize::from(segment >> (4 * digit) & 15)]);
        }
    }
    length
}

/// The first of the longest runs of zeros, if it has two or more.
fn longest_zeros(segments: &[u16; 8]) -> Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (index, &segment) in segments.iter().enumerate() {
        if segment != 0 {
            start = index + 1;
        } else if index + 1 - start > longest.len() {
            longest = start..index + 1;
        }
    }
    if longest.len() > 1 { longest } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        let texts = "0.0.0.0 127.0.0.1 192.0.2.255 :: ::1 1:: 2001:db8::1 1:0:0:2::3 1:0:2:3:4:5:6:7 \
                     1:2:3:4:5:6:7:8 0:1:: fe80::1234:0:abcd 1:0:0:2:0:0:3:4 0:0:1:2:3:4:5:6";
        for text in texts.split_whitespace() {
            let ip: IpAddr = text.parse().unwrap();
            let mut out = Vec::new();
            write_ip(ip, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), ip.to_string(), "{text}");
        }
    }
}
