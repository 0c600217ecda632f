//! Recorded events, read again.
//!
//! In: JSON lines, as `tracer run` and `export` write them. Out: the observations that they were, with what is true of
//! many of them beside; and of a line that is none, what is wrong with it. A test renders each again, byte for byte.
//!
//! What lines do not tell stays unknown: addresses of sockets in the kernel, the arguments of ancestors, whether a
//! packaged file was found intact, the header of a question that was answered. A container is what the path of the
//! cgroup says to this tracer.

mod connections;
mod detections;
mod document;
mod error;
mod images;
mod lines;
mod lookups;
mod origin;
mod programs;
mod recording;
mod shared;
mod words;

pub use self::error::LineError;
pub use self::lines::{LINE_MAX, Line, Lines};
pub use self::recording::Recording;
