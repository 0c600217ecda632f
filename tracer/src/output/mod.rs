//! Output of events as lines.
//!
//! In: observations. Out: chunks of whole lines, in one of the formats, handed to a writer that
//! never makes the state task wait.

pub mod about;
pub mod action;
pub mod compact;
pub mod flat;
pub mod json;
pub mod lineage;
pub mod names;
pub mod parquet;
pub mod past;
pub mod protocol;
pub mod record;
pub mod report;
pub mod schema;
pub mod sink;
pub mod socket;
pub mod table;
pub mod text;
pub mod tree;
pub mod users;
pub mod writer;
pub mod zeek;

pub use self::about::About;
use self::names::HookNames;
use self::record::Record;
use self::users::Users;
use crate::clock::WallOffset;
use crate::host::Host;
use crate::kernel::netns;

/// What formats have to know beside the observations.
#[derive(Debug)]
pub struct Context {
    /// The host that the events are from.
    pub host: Host,
    /// How far the wall clock is ahead of the kernel's.
    pub offset: WallOffset,
    /// Which hook serves each moment.
    pub hooks: HookNames,
    /// The host's users.
    pub users: Users,
    /// Names of network namespaces.
    pub netns: netns::Names,
}

/// Turns records into lines.
pub trait Format {
    /// Appends one line, with its newline, to `out`. `sequence` is the number of the event among
    /// those of its sink.
    fn line(&mut self, record: &Record<'_>, sequence: u64, out: &mut Vec<u8>);
}
