//! What a client of our own and OpenSSL send, whole, cut at every length and wrong at every byte.

use super::*;

/// What OpenSSL 3 sends for `www.example.org`, with `h2` and `http/1.1`.
const OPENSSL: &[u8] = include_bytes!("openssl.bin");

/// What follows its length in so many bytes.
fn counted<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - BYTES..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted::<2>(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &counted::<2>(name)].concat();
    extension(0, &counted::<2>(&entry))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let protocols: Vec<u8> = protocols.iter().flat_map(|it| counted::<1>(it)).collect();
    extension(16, &counted::<2>(&protocols))
}

/// The message without extensions: version, random, session, one cipher, no compression.
fn head() -> Vec<u8> {
    let session = counted::<1>(&[7; 32]);
    [
        &[3, 3][..],
        &[9; 32],
        &session,
        &counted::<2>(&[0x13, 1]),
        &counted::<1>(&[0]),
    ]
    .concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1][..], &counted::<3>(body)].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &counted::<2>(content)].concat()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [head(), counted::<2>(&extensions.concat())].concat();
    record(&message(&body))
}

fn name(said: &Said) -> Option<&str> {
    said.server_name.as_deref()
}

fn protocols(said: &Said) -> Vec<&str> {
    said.protocols.iter().map(AsRef::as_ref).collect()
}

#[test]
fn what_openssl_sends_is_read() {
    let said = read(OPENSSL).unwrap();
    assert_eq!(name(&said), Some("www.example.org"));
    assert_eq!(protocols(&said), ["h2", "http/1.1"]);
    assert!(!said.truncated && !said.encrypted_client_hello);
}

#[test]
fn whatever_is_missing_at_the_end_the_rest_is_read_and_marked() {
    let whole = read(OPENSSL).unwrap();
    for length in 0..OPENSSL.len() {
        match read(&OPENSSL[..length]) {
            Ok(said) => {
                assert!(said.truncated, "{length}");
                assert!(said.server_name.is_none() || said.server_name == whole.server_name);
                assert!(said.protocols.is_empty() || said.protocols == whole.protocols);
            }
            Err(error) => {
                assert_eq!(error, HelloError::SomethingElse);
                assert!(length < 9, "{length}");
            }
        }
    }
}

#[test]
fn what_stands_before_the_end_that_is_missing_counts() {
    let hello = hello(&[
        extension(0xfe0d, &[0; 100]),
        server_name(b"example.org"),
        extension(51, &[0; 1_200]),
        alpn(&[b"h2"]),
    ]);
    let said = read(&hello[..1_000]).unwrap();
    assert_eq!(name(&said), Some("example.org"));
    assert!(said.encrypted_client_hello && said.truncated);
    assert_eq!(protocols(&said), [""; 0]);
    let said = read(&hello).unwrap();
    assert_eq!(protocols(&said), ["h2"]);
    assert!(!said.truncated);
}

#[test]
fn a_hello_in_several_records_is_read_as_far_as_the_first() {
    let body = [head(), counted::<2>(&server_name(b"a.test"))].concat();
    let message = message(&body);
    let (first, second) = message.split_at(message.len() - 3);
    let records = [record(first), record(second)].concat();
    let said = read(&records).unwrap();
    assert!(said.truncated);
    assert_eq!(name(&said), None);
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let mut bytes = hello(&[server_name(b"a.test")]);
    bytes.extend(b"early data");
    assert_eq!(name(&read(&bytes).unwrap()), Some("a.test"));
}

#[test]
fn a_hello_may_lack_extensions_and_names() {
    let said = read(&record(&message(&head()))).unwrap();
    assert_eq!(said, Said::default());
    assert_eq!(read(&hello(&[])).unwrap(), Said::default());
    // A list with a name of another kind.
    let other = extension(0, &counted::<2>(&[9, 0, 1, b'x']));
    assert_eq!(read(&hello(&[other])).unwrap(), Said::default());
}

#[test]
fn names_are_printable_whatever_they_are() {
    let extensions = [server_name(b"\x1b[31m evil\\\xff"), alpn(&[b"\n", b"a\"b"])];
    let said = read(&hello(&extensions)).unwrap();
    assert_eq!(name(&said), Some(r"\027[31m\032evil\\\255"));
    assert_eq!(protocols(&said), [r"\010", "a\"b"]);
}

#[test]
fn names_that_no_server_can_have_are_refused() {
    let of = |length| read(&hello(&[server_name(&vec![b'a'; length])]));
    assert_eq!(of(0), Err(HelloError::Name { length: 0 }));
    assert_eq!(of(256), Err(HelloError::Name { length: 256 }));
    assert!(of(255).is_ok());
}

#[test]
fn the_first_of_several_names_counts() {
    let twice = [server_name(b"first.test"), server_name(b"second.test")];
    assert_eq!(name(&read(&hello(&twice)).unwrap()), Some("first.test"));
}

#[test]
fn protocols_beyond_the_limit_are_counted() {
    let many = vec![&b"x"[..]; PROTOCOLS_MAX + 5];
    let said = read(&hello(&[alpn(&many)])).unwrap();
    assert_eq!((said.protocols.len(), said.omitted), (PROTOCOLS_MAX, 5));
}

#[test]
fn something_else_and_what_is_wrong_are_refused() {
    let whole = hello(&[server_name(b"a.test")]);
    let changed = |at: usize, to| {
        let mut bytes = whole.clone();
        bytes[at] = to;
        read(&bytes)
    };
    assert_eq!(changed(0, 23), Err(HelloError::SomethingElse));
    assert_eq!(changed(5, 2), Err(HelloError::SomethingElse));
    assert_eq!(read(b"GET / HTTP/1.1"), Err(HelloError::SomethingElse));
    assert_eq!(read(b""), Err(HelloError::SomethingElse));
    // The session is longer than any.
    let is_malformed = |read| matches!(read, Err(HelloError::Malformed { .. }));
    assert!(is_malformed(changed(9 + 34, 200)));
    // An extension reaches beyond the last.
    let overlong = [&[0, 0][..], &[0xff, 0xff]].concat();
    assert!(is_malformed(read(&hello(&[overlong]))));
}

#[test]
fn no_byte_that_is_wrong_does_more_harm_than_that() {
    for at in 0..OPENSSL.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = OPENSSL.to_vec();
            bytes[at] = value;
            if let Ok(said) = read(&bytes) {
                let texts = said.protocols.iter().map(AsRef::as_ref).chain(name(&said));
                let is_printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(texts.into_iter().all(is_printable), "{at}");
            }
        }
    }
}
