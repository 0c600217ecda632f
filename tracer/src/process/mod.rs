//! Processes: who they are, what they run, who gave birth to them.
pub mod cause;
pub mod cgroup;
mod cgroups;
pub mod claims;
pub mod content;
mod contents;
pub mod fingerprint;
pub mod image;
pub mod inventory;
pub(crate) mod lineage;
pub mod population;
mod program;
pub mod secrets;
mod spare;
mod strings;
pub mod table;
