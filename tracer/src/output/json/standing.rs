//! How a connection stands and how that is known: its state, the hook, the owner's provenance.
//!
//! In: a connection and its state. Out: members of `tracer`. There are few combinations, and every line
//! about a connection has one of them: each is rendered once.

use super::object::{Object, key};
use crate::observation::{ConnState, Connection, Opening};
use crate::output::names::{self, HookNames};
use crate::process::image::Provenance;

const STATES: usize = ConnState::OTH as usize + 2;
const OPENINGS: usize = Opening::PacketReceived as usize + 1;
const FAMILIES: usize = 2;
const PROVENANCES: usize = Provenance::Unknown as usize + 1;

/// The combinations seen so far.
pub(super) struct Standings {
    hooks: HookNames,
    /// By [`place`]; empty if not yet rendered.
    rendered: Vec<Vec<u8>>,
}

impl Standings {
    pub(super) fn new(hooks: HookNames) -> Self {
        Self {
            hooks,
            rendered: vec![Vec::new(); STATES * OPENINGS * FAMILIES * PROVENANCES],
        }
    }

    /// The members for a connection in that state.
    pub(super) fn of(&mut self, connection: &Connection, state: Option<ConnState>) -> &[u8] {
        let members = &mut self.rendered[place(connection, state)];
        if members.is_empty() {
            let hook = self.hooks.of(connection);
            let provenance = connection.owner_provenance;
            render(state, hook, provenance, &mut Object::members_only(members));
        }
        members
    }
}

fn place(connection: &Connection, state: Option<ConnState>) -> usize {
    let state = state.map_or(0, |state| state as usize + 1);
    let opening = state * OPENINGS + connection.opening as usize;
    let family = opening * FAMILIES + usize::from(connection.endpoints.ipv6_socket);
    family * PROVENANCES + connection.owner_provenance as usize
}

fn render(
    state: Option<ConnState>,
    hook: Option<&str>,
    provenance: Provenance,
    tracer: &mut Object<'_>,
) {
    if let Some(state) = state {
        tracer.word(key!("state"), names::state(state));
    }
    if let Some(hook) = hook {
        tracer.word(key!("hook"), hook);
    }
    tracer.word(key!("owner_provenance"), names::provenance(provenance));
}
