//! TLS handshakes: a usual one, one with much that is odd, and one of which nearly nothing was seen.

use tracer::dns::names::{Domain, KnownFrom};
use tracer::observation::{Connection, Opening};
use tracer::process::image::Provenance;
use tracer::tls::ClientHello;

use super::connections::egress;

pub(super) fn all() -> [ClientHello; 3] {
    let endpoints = egress().endpoints;
    let usual = ClientHello {
        endpoints,
        server_name: Some("www.example.org".into()),
        protocols: vec!["h2".into(), "http/1.1".into()],
        omitted: 0,
        encrypted_client_hello: false,
        truncated: false,
    };
    let odd = ClientHello {
        server_name: Some(r"\027[31m\032evil\\".into()),
        protocols: ["\"a\"", r"\010\010", "h2", "h3"].map(Into::into).to_vec(),
        omitted: 3,
        encrypted_client_hello: true,
        truncated: true,
        ..usual.clone()
    };
    let unknown = ClientHello {
        server_name: None,
        protocols: Vec::new(),
        truncated: true,
        ..usual.clone()
    };
    [usual, odd, unknown]
}

/// A connection whose beginning was not seen.
pub(super) fn unowned() -> Connection {
    Connection {
        owner: None,
        owner_provenance: Provenance::Unknown,
        opening: Opening::State,
        peer: None,
        cause: None,
        domain: None,
        ..egress()
    }
}

/// A connection whose destination nobody looked up.
pub(super) fn named() -> Connection {
    Connection {
        domain: Some(Domain {
            name: "www.example.org".into(),
            known_from: KnownFrom::ClientHello,
        }),
        ..egress()
    }
}
