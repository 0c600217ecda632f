//! What the daemon resolved from the kernel's BTF, as constants to the verifier.

use tracer_common::layout::{Layout, Settings};

/// Written by the loader before the read-only data is frozen.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout::ZERO;

/// Written by the loader before the read-only data is frozen.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::ZERO;

/// Reads what the loader has written in place of the initial value.
#[inline(always)]
pub(crate) fn constant(value: &u32) -> u32 {
    // SAFETY: a reference is readable; volatile, since the compiler knows only the initial value.
    unsafe { core::ptr::read_volatile(value) }
}

/// An offset, e.g. `layout!(task_pid)`: a load from frozen memory, which the verifier replaces by
/// its value.
macro_rules! layout {
    ($member:ident) => {
        $crate::kernel::layout::constant(&$crate::kernel::layout::LAYOUT.$member)
    };
}
pub(crate) use layout;

/// A setting of 64 bits in halves, likewise, e.g. `wide!(pages.memory)`.
macro_rules! wide {
    ($($member:ident).+) => {{
        let [low, high] = &$crate::kernel::layout::SETTINGS.$($member).+;
        let [low, high] = [low, high].map($crate::kernel::layout::constant).map(u64::from);
        high << 32 | low
    }};
}
pub(crate) use wide;

/// A setting, likewise.
macro_rules! setting {
    ($($member:ident).+) => {
        $crate::kernel::layout::constant(&$crate::kernel::layout::SETTINGS.$($member).+)
    };
}
pub(crate) use setting;
