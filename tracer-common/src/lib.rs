//! The wire between the kernel programs and the daemon: fixed layouts, no logic.
//!
//! The kernel side fills these structures in place in the ring buffer; the daemon reads them field
//! by field and trusts nothing (`tracer/src/decode.rs`). Every number is in host byte order unless
//! its documentation says otherwise. Padding has a name, so that no byte is left to chance.
#![no_std]

pub mod inventory;
pub mod layout;
pub mod record;
