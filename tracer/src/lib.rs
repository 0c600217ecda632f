//! `tracer`: which process, started by whom, is behind each connection. The modules stand in the
//! order in which data flows; ARCHITECTURE.md is the map.

mod arena;
pub mod connection;
pub mod decode;
pub mod event;
pub mod kernel;
pub mod observation;
pub mod process;
pub mod state;
