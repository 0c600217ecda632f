//! A line of a recording as it is written: the members that are read, by the names of the schema.
//!
//! In: one JSON object. Out: its strings, borrowed where they have no escapes. Members that are not known belong to a
//! newer version, and are left out, as is what follows from others (`command_line`, `container`, …).

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Deref;

use serde::Deserialize;

/// A string.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A line.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Document<'a> {
    #[serde(rename = "@timestamp", borrow)]
    pub(super) timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) event: Event<'a>,
    #[serde(borrow)]
    pub(super) network: Option<Network<'a>>,
    #[serde(borrow, default)]
    pub(super) source: End<'a>,
    #[serde(borrow, default)]
    pub(super) destination: End<'a>,
    #[serde(borrow)]
    pub(super) process: Option<Process<'a>>,
    #[serde(borrow)]
    pub(super) package: Option<Package<'a>>,
    #[serde(borrow)]
    pub(super) dns: Option<Dns<'a>>,
    #[serde(borrow)]
    pub(super) tls: Option<Tls<'a>>,
    #[serde(borrow)]
    pub(super) rule: Option<Rule<'a>>,
    #[serde(borrow)]
    pub(super) host: Host<'a>,
    #[serde(borrow)]
    pub(super) error: Option<Failure<'a>>,
    #[serde(borrow, default)]
    pub(super) tracer: Tracer<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) action: Text<'a>,
    #[serde(rename = "type", borrow, default)]
    pub(super) types: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) outcome: Option<Text<'a>>,
    pub(super) duration: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Network<'a> {
    #[serde(borrow)]
    pub(super) transport: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) iana_number: Option<Text<'a>>,
    #[serde(rename = "type", borrow)]
    pub(super) family: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) direction: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct End<'a> {
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) bytes: Option<u64>,
    pub(super) packets: Option<u64>,
    #[serde(borrow)]
    pub(super) domain: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Process<'a> {
    #[serde(borrow)]
    pub(super) entity_id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) executable: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) args: Option<Vec<Text<'a>>>,
    #[serde(default)]
    pub(super) args_truncated: bool,
    #[serde(borrow)]
    pub(super) working_directory: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) start: Text<'a>,
    #[serde(borrow)]
    pub(super) user: Option<User<'a>>,
    #[serde(borrow)]
    pub(super) login_user: Option<User<'a>>,
    pub(super) tty: Option<Tty>,
    pub(super) namespace_pid: Option<u32>,
    #[serde(borrow)]
    pub(super) hash: Option<Hash<'a>>,
    pub(super) exit_code: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct User<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Tty {
    pub(super) char_device: CharDevice,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct CharDevice {
    pub(super) major: u32,
    pub(super) minor: u32,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Hash<'a> {
    #[serde(borrow)]
    pub(super) sha256: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Package<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) architecture: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Host<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Failure<'a> {
    #[serde(borrow)]
    pub(super) code: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Dns<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) header_flags: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) question: Question<'a>,
    #[serde(borrow)]
    pub(super) response_code: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) answers: Vec<Answer<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Question<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(rename = "type", borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) class: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(rename = "type", borrow)]
    pub(super) kind: Text<'a>,
    pub(super) ttl: u32,
    #[serde(borrow)]
    pub(super) data: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Tls<'a> {
    #[serde(borrow)]
    pub(super) client: Client<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Client<'a> {
    #[serde(borrow)]
    pub(super) server_name: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Tracer<'a> {
    #[serde(borrow)]
    pub(super) connection_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) peer_connection_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) hook: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) owner_provenance: Option<Text<'a>>,
    #[serde(default)]
    pub(super) existing: bool,
    #[serde(default)]
    pub(super) mptcp: bool,
    #[serde(borrow, default)]
    pub(super) subflows: Vec<Subflow<'a>>,
    #[serde(borrow)]
    pub(super) socket: Option<Socket<'a>>,
    #[serde(borrow)]
    pub(super) netns: Option<Netns<'a>>,
    #[serde(borrow, default)]
    pub(super) holders: Vec<Brief<'a>>,
    pub(super) rtt_us: Option<u32>,
    pub(super) retransmits: Option<u32>,
    #[serde(borrow)]
    pub(super) exit_signal: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) lineage: Vec<Ancestor<'a>>,
    #[serde(default)]
    pub(super) lineage_complete: bool,
    #[serde(borrow)]
    pub(super) lineage_text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) present_parent: Option<Brief<'a>>,
    #[serde(borrow)]
    pub(super) fingerprint: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) script: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) file: Option<File<'a>>,
    #[serde(borrow)]
    pub(super) cgroup: Option<Text<'a>>,
    pub(super) session_id: Option<u32>,
    #[serde(borrow)]
    pub(super) build_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) escaped: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) flags: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) provenance: KnownFrom<'a>,
    pub(super) dns: Option<Remarks>,
    #[serde(borrow)]
    pub(super) tls: Option<Offer<'a>>,
    #[serde(borrow, default)]
    pub(super) cause: Vec<Link<'a>>,
    #[serde(borrow)]
    pub(super) detection: Option<Detection<'a>>,
    #[serde(borrow)]
    pub(super) lost: Option<Lost<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Rule<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Detection<'a> {
    #[serde(borrow)]
    pub(super) severity: Text<'a>,
    #[serde(borrow)]
    pub(super) explanation: Text<'a>,
    #[serde(borrow)]
    pub(super) evidence: Vec<Text<'a>>,
    pub(super) evidence_total: u64,
}

impl Tracer<'_> {
    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| &**it == flag)
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Subflow<'a> {
    #[serde(borrow, default)]
    pub(super) source: End<'a>,
    #[serde(borrow, default)]
    pub(super) destination: End<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Socket<'a> {
    #[serde(borrow)]
    pub(super) family: Text<'a>,
    #[serde(rename = "type", borrow)]
    pub(super) kind: Text<'a>,
    pub(super) protocol: u32,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Netns<'a> {
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Brief<'a> {
    #[serde(borrow)]
    pub(super) entity_id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) executable: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) escaped: Vec<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Ancestor<'a> {
    #[serde(borrow)]
    pub(super) entity_id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) executable: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) provenance: Text<'a>,
    #[serde(borrow)]
    pub(super) relation: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct File<'a> {
    #[serde(borrow)]
    pub(super) device: Text<'a>,
    pub(super) inode: u64,
    #[serde(borrow)]
    pub(super) mode: Text<'a>,
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
    #[serde(borrow)]
    pub(super) gid: Text<'a>,
    pub(super) links: u32,
    pub(super) size: u64,
    #[serde(borrow)]
    pub(super) ctime: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct KnownFrom<'a> {
    #[serde(rename = "destination.domain", borrow)]
    pub(super) domain: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Remarks {
    pub(super) attempts: u32,
    #[serde(default)]
    pub(super) answers_omitted: u32,
    #[serde(default)]
    pub(super) malformed: bool,
    #[serde(default)]
    pub(super) incomplete: bool,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Offer<'a> {
    #[serde(borrow, default)]
    pub(super) alpn: Vec<Text<'a>>,
    #[serde(default)]
    pub(super) alpn_omitted: u32,
    #[serde(default)]
    pub(super) encrypted_client_hello: bool,
    #[serde(default)]
    pub(super) truncated: bool,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Link<'a> {
    #[serde(borrow)]
    pub(super) connection_id: Text<'a>,
    pub(super) peer: Peer,
    #[serde(borrow)]
    pub(super) process: Brief<'a>,
    #[serde(borrow)]
    pub(super) certainty: Text<'a>,
    pub(super) candidates: u32,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Lost<'a> {
    #[serde(borrow)]
    pub(super) stage: Text<'a>,
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) unit: Text<'a>,
    pub(super) count: u64,
}
