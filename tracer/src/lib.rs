//! `tracer`: which process, started by whom, is behind each connection. The modules stand in the
//! order in which data flows; ARCHITECTURE.md is the map.

pub mod event;
pub mod kernel;
pub mod observation;
pub mod process;
