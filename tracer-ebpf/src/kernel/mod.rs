//! Reading the kernel's structures.
//!
//! In: a pointer that a hook was given. Out: fields of records. Whether a field is a plain load or
//! a helper call is decided by the type of [`Source`] and invisible to the hooks.

pub(crate) mod file;
pub(crate) mod iter;
pub(crate) mod layout;
pub(crate) mod membership;
pub(crate) mod mptcp;
pub(crate) mod path;
pub(crate) mod skb;
pub(crate) mod sock;
pub(crate) mod source;
pub(crate) mod streams;
pub(crate) mod syscall;
pub(crate) mod task;

pub(crate) use source::{Direct, Remote, Source, Window, number};
