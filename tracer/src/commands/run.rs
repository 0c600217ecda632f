//! `tracer run`.

use crate::config::Config;
use crate::failure::Failure;

// Stub, to be replaced at the merge by the pipeline.
pub(super) fn run(config: Config) -> Result<(), Failure> {
    drop(config);
    Err(Failure::failed("run is not there yet"))
}
