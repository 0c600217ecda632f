//! The history: what happened, on disk, to be asked afterwards.
//!
//! In: observations. Out: files of SQLite in a directory, a new one every few hours, the oldest deleted whole; and
//! from these the same observations again, for the same filters and formats that show what happens now.

pub mod baseline;
pub(crate) mod code;
pub mod import;
mod intern;
mod item;
mod partition;
pub mod reader;
#[cfg(test)]
pub(crate) mod samples;
pub mod schema;
mod sink;
pub mod store;
pub mod views;
pub mod window;
mod writer;

pub use self::item::{Beyond, End, Item, What};
pub use self::sink::HistorySink;
pub use self::writer::Writer;

#[cfg(test)]
mod tests;
