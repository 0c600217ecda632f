//! `tracer schema`: what an event looks like, for programs.

use crate::output::schema::EVENT;

pub(super) fn schema() -> &'static [u8] {
    EVENT.as_bytes()
}
