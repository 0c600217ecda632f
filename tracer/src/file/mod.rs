//! What an executed file is: its hash, its build ID, the package that it came with.
//!
//! In: observations, which name processes and what they run. Out: facts, in the contents that the
//! processes share. All of it is read by a thread of its own, off the way of events.

mod digest;
mod elf;
pub mod examiner;
mod found;
mod mounts;
pub mod outcome;
mod package;
mod root;
mod users;
