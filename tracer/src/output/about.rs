//! Where and when events were recorded, as far as it is the same for many of them.
//!
//! In: what a file of the history says of itself, or the lines of a recording. Out: what formats have to know.

use std::collections::BTreeMap;

use super::Context;
use super::names::HookNames;
use super::users::Users;
use crate::clock::WallOffset;
use crate::host::Host;
use crate::kernel::netns;
use crate::passwd;

/// What is true of many recorded events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The host, in the boot that they are of.
    pub host: Host,
    /// How far the wall clock was ahead of `CLOCK_BOOTTIME`, in nanoseconds.
    pub offset: i64,
    /// Which hook served each moment.
    pub hooks: HookNames,
    /// The host's users.
    pub users: passwd::Names,
    /// Names of network namespaces by inode number; `None` if they were not recorded.
    pub netns: Option<BTreeMap<u32, String>>,
}

impl About {
    /// What formats have to know. Where names of network namespaces were not recorded, it is those that they have
    /// now, on this host.
    pub fn context(&self) -> Context {
        Context {
            host: self.host.clone(),
            offset: WallOffset::new(self.offset),
            hooks: self.hooks.clone(),
            users: Users::remembered(self.users.clone()),
            netns: match &self.netns {
                Some(names) => netns::Names::remembered(names.clone()),
                None => netns::Names::of_host(),
            },
        }
    }
}
