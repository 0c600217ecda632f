//! `tracer`: which process, started by whom, is behind each connection. The modules stand in the
//! order in which data flows; ARCHITECTURE.md is the map.

pub mod clock;
pub mod host;
pub mod identity;
pub mod memory;
pub mod passwd;

pub mod kernel;

pub mod decode;
pub mod event;

mod arena;
pub mod connection;
pub mod dns;
pub mod process;
pub mod state;
pub mod tls;

pub mod detect;
pub mod file;
pub mod filter;
pub mod history;
pub mod http;
pub mod listing;
pub mod local;
pub mod metrics;
pub mod observation;
pub mod output;
pub mod pipeline;
mod quantity;
pub mod recorded;
pub mod session;
pub mod supervision;
pub mod tree;

pub mod cli;
pub mod commands;
pub mod config;
pub mod configuration;
pub mod failure;
