//! What the allocator keeps of memory that is given back to it.

/// From this size on, in bytes, a block goes back to the kernel as soon as it is free: glibc's own first choice.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Has glibc keep no large blocks. By itself it would raise that size to that of the largest block which was ever
/// given back, and keep up to twice as much: what the start needs for a moment would stay for good.
pub fn give_back_at_once() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's; there is no other thread yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
