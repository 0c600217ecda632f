//! Finds the entry of a kernel socket.
//!
//! In: entries as they come and go. Out: the entry of a socket's address. The address stands in the
//! entry alone; here is but an index.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use super::entry::Entries;
use crate::arena::Handle;
use crate::event::SocketId;

/// Entries by their sockets, of which each has one.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    index: HashTable<Handle>,
    state: foldhash::fast::RandomState,
}

impl Sockets {
    /// Number of sockets.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, socket: SocketId, entries: &Entries) -> Option<Handle> {
        let is_of_socket = |&handle: &Handle| entries[handle].socket == socket;
        let hash = self.state.hash_one(socket);
        self.index.find(hash, is_of_socket).copied()
    }

    /// Enters the entry of a socket that has none.
    pub(super) fn insert(&mut self, handle: Handle, entries: &Entries) {
        let hash = |&handle: &Handle| self.state.hash_one(entries[handle].socket);
        self.index.insert_unique(hash(&handle), handle, hash);
    }

    pub(super) fn remove(&mut self, socket: SocketId, handle: Handle) {
        let is_it = |&other: &Handle| other == handle;
        if let Ok(found) = self.index.find_entry(self.state.hash_one(socket), is_it) {
            found.remove();
        }
    }
}
