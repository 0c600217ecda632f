//! `tracer`: which process, started by whom, is behind each connection. The modules stand in the
//! order in which data flows; ARCHITECTURE.md is the map.

pub mod clock;
pub mod event;
pub mod host;
pub mod identity;
pub mod observation;
pub mod output;
pub mod process;
