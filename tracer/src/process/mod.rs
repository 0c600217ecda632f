//! Processes: who they are, what they run, who gave birth to them.
pub mod image;
