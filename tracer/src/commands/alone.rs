//! What a command finds out by itself where no daemon runs.
//!
//! In: the kernel's walks over open files and tasks. Out: who runs and who has which sockets open, now; who
//! opened them is concluded from that. Nothing is attached.

use std::fmt::Display;
use std::io;

use aya::Ebpf;

use super::live::require_privileges;
use crate::clock;
use crate::event::Transport;
use crate::failure::Failure;
use crate::kernel::loader::{self, Unattached};
use crate::kernel::{cgroup, inventory, iterator, sockets};
use crate::listing::Holdings;
use crate::process::secrets::Secrets;
use crate::state::{Limits, State};

/// The walk over all tasks.
const TASKS: &str = "existing_tasks";

/// Walks that can be taken again and again.
pub(super) struct Alone {
    ebpf: Ebpf,
    secrets: Secrets,
}

impl Alone {
    /// Loads the walks. `secrets` are masked in what they find.
    pub(super) fn load(secrets: Secrets) -> Result<Self, Failure> {
        require_privileges()?;
        let Unattached { mut ebpf, btf } = loader::load_only().map_err(Failure::unsupported)?;
        sockets::load_held(&mut ebpf, &btf).map_err(refused)?;
        iterator::load(&mut ebpf, &btf, TASKS, "task").map_err(refused)?;
        Ok(Self { ebpf, secrets })
    }

    /// Who has sockets of `transports` open, and who runs.
    pub(super) fn look(&mut self, transports: &[Transport]) -> Result<(State, Holdings), Failure> {
        let held = |&transport| Ok((transport, sockets::held(&mut self.ebpf, transport)?));
        let found: io::Result<Vec<_>> = transports.iter().map(held).collect();
        let found = found.map_err(refused)?;
        let taken_at = clock::boot_time();
        let tasks = iterator::open(&mut self.ebpf, TASKS).map_err(refused)?;
        let inventory = inventory::from_iterator(tasks)
            .map_err(|error| Failure::failed(format_args!("cannot list the processes: {error}")))?;
        let mut state = State::new(Limits::default()).masking(self.secrets.clone());
        for (id, path) in cgroup::list() {
            state.cgroup(id, &path);
        }
        state.inventory(taken_at, inventory.processes);
        let mut holdings = Holdings::default();
        for (transport, found) in found {
            holdings.add(transport, found, &state);
        }
        Ok((state, holdings))
    }
}

fn refused(reason: impl Display) -> Failure {
    Failure::unsupported(format_args!(
        "the kernel refuses its iterators over tasks and files: {reason}; see `tracer doctor`"
    ))
}
