//! Other commands on this host ask the running daemon, over a Unix socket.
//!
//! In: a [`Question`], one line of JSON. Out: an [`Answer`], one line, and as many bytes as it announces.

pub mod client;
pub mod server;

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::listing::Query;
use crate::tree;

/// Changes whenever one side would misunderstand the other.
const VERSION: u32 = 1;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/tracer/tracer.sock";

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    version: u32,
    #[serde(flatten)]
    request: Request,
}

/// What it wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The sockets that there are now, as text.
    Sockets(Query),
    /// The ancestors and descendants of a process, as text.
    Tree(tree::Query),
}

/// What the daemon says first.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    version: u32,
    /// What follows, in bytes.
    bytes: usize,
    /// Why nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether that is because what was asked about is not there.
    #[serde(default)]
    missing: bool,
}

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this path.
    At(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("not a path, nor `off`".to_owned()),
            "off" => Ok(Self::Off),
            path => Ok(Self::At(path.into())),
        }
    }
}
