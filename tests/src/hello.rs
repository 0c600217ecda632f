//! What a TLS client sends first.
//!
//! In: a server's name and protocols. Out: a record with a ClientHello that a server would understand, of some
//! 200 bytes or as long as one with a key share that is proof against quantum computers.

/// What a client says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hello<'a> {
    /// For whom.
    pub server_name: Option<&'a [u8]>,
    /// Which protocols it offers.
    pub protocols: &'a [&'a [u8]],
    /// Whether the name may be an outer one.
    pub encrypted: bool,
    /// How long its key share is, in bytes.
    pub key_share: usize,
}

impl<'a> Hello<'a> {
    /// For this server, with what most clients offer.
    pub fn with_name(name: &'a str) -> Self {
        Self {
            server_name: Some(name.as_bytes()),
            protocols: &[b"h2", b"http/1.1"],
            ..Self::default()
        }
    }

    /// As it is sent. The key share stands before the name, as clients that change the order may have it.
    pub fn record(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if self.key_share > 0 {
            extensions.extend(extension(51, &vec![0; self.key_share]));
        }
        if let Some(name) = self.server_name {
            let entry = [&[0][..], &counted::<2>(name)].concat();
            extensions.extend(extension(0, &counted::<2>(&entry)));
        }
        if !self.protocols.is_empty() {
            let protocols = self.protocols.iter().map(|it| counted::<1>(it));
            let protocols = protocols.collect::<Vec<_>>().concat();
            extensions.extend(extension(16, &counted::<2>(&protocols)));
        }
        if self.encrypted {
            extensions.extend(extension(0xfe0d, &[0; 32]));
        }
        let body = [
            &[3, 3][..],
            &[9; 32],
            &counted::<1>(&[7; 32]),
            &counted::<2>(&[0x13, 1]),
            &counted::<1>(&[0]),
            &counted::<2>(&extensions),
        ];
        let message = [&[1][..], &counted::<3>(&body.concat())].concat();
        [&[22, 3, 1][..], &counted::<2>(&message)].concat()
    }
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted::<2>(content)].concat()
}

/// What follows its length in so many bytes.
fn counted<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - BYTES..], content].concat()
}
