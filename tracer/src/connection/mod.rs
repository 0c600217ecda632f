//! Connections: who owns each, how it ended, what it carried.
mod closing;
mod endpoints;
mod entry;
mod inbound;
mod listeners;
mod outbound;
mod outcome;
mod peers;
mod sockets;
pub mod table;
