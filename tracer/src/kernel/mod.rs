//! The kernel programs: loading, attaching, checking that they see, and reading what they write.

pub mod btf;
pub mod canary;
pub mod cgroup;
pub mod configuration;
pub mod facts;
pub mod flows;
pub mod hooks;
pub mod inventory;
pub mod iterator;
pub mod layout;
pub mod loader;
pub mod log;
pub mod losses;
mod missed;
pub mod netns;
pub mod pages;
pub mod privileges;
pub mod proc_net;
pub mod sockets;
pub mod survey;
pub mod tracefs;
mod verification;
