//! `tracer doctor`.

use crate::failure::Failure;
use crate::kernel::loader::Options;

// Stub, to be replaced at the merge.
pub(super) fn doctor(options: &Options) -> Result<(), Failure> {
    Err(Failure::failed(format_args!(
        "doctor is not there yet: {options:?}"
    )))
}
