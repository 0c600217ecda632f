//! `tracer trace`.

use crate::config::Config;
use crate::failure::Failure;

// Stub, to be replaced at the merge by the pipeline.
pub(super) fn trace(config: Config) -> Result<(), Failure> {
    drop(config);
    Err(Failure::failed("trace is not there yet"))
}
