//! Connections: who owns each, how it ended, what it carried.
mod closing;
mod comparison;
pub(crate) mod endpoints;
mod entry;
pub mod flows;
mod hello;
pub(crate) mod holders;
mod inbound;
mod listeners;
mod multipath;
mod outbound;
mod outcome;
mod peers;
pub(crate) mod serving;
mod sockets;
pub mod table;
