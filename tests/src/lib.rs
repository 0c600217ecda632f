//! What several tests share.

pub mod samples;
