//! Paths, by walking from a file up to the root of its mount namespace.
//!
//! `bpf_d_path` is not for tracepoints, so this is `prepend_path` (fs/d_path.c) without its locks: a
//! rename at that very moment can mix old and new names, as it can for a reader of /proc.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};

use super::{
    layout::layout,
    source::{Source, read_remote},
};

/// Longest component with its NUL: `NAME_MAX` + 1.
pub(crate) const COMPONENT_MAX: usize = 256;
/// Not below what is in use of a buffer for paths.
pub(crate) const PATHS_MASK: i32 = 0x1fff;
/// Steps on the way, each to the parent directory or to where a mount is; longer paths are cut. It is one
/// loop for both, since the verifier walks through each step, and would through the product of two.
const STEPS: usize = 96;

/// The end of a path: what `struct path` holds.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Path {
    mount: *const u8,
    dentry: *const u8,
}

/// A path that has been written out.
pub(crate) struct Written {
    /// Bytes of the buffer that are in use now.
    pub(crate) used: usize,
    /// The directories nearest to the root are missing.
    pub(crate) truncated: bool,
}

impl Path {
    /// From a `struct path` at `offset` in `source`.
    #[inline(always)]
    pub(crate) fn load(source: impl Source, offset: u32) -> Option<Self> {
        Some(Self {
            mount: source.load(offset + layout!(path_mnt))?,
            dentry: source.load(offset + layout!(path_dentry))?,
        })
    }

    /// Whether the name is gone from its directory (`d_unlinked`).
    #[inline(always)]
    pub(crate) fn is_deleted(self) -> bool {
        read_remote::<u64>(
            self.dentry
                .wrapping_add(layout!(dentry_hash_pprev) as usize),
        ) == Some(0)
    }

    /// Whether it lies in a mount internal to the kernel (`MNT_NS_INTERNAL`), as memfds do.
    #[inline(always)]
    pub(crate) fn is_internal(self) -> bool {
        const MNT_NS_INTERNAL: i64 = -22;
        let namespace = self
            .mount
            .wrapping_sub(layout!(mount_mnt) as usize)
            .wrapping_add(layout!(mount_ns) as usize);
        read_remote::<i64>(namespace) == Some(MNT_NS_INTERNAL)
    }

    /// Writes the file's own name, with its NUL, at the beginning of `buffer`.
    ///
    /// # Safety
    /// `buffer` must be writable for a component.
    #[inline(always)]
    pub(crate) unsafe fn write_name(self, buffer: *mut u8) -> Written {
        let name =
            read_remote::<*const u8>(self.dentry.wrapping_add(layout!(dentry_name) as usize));
        let name = name.unwrap_or(core::ptr::null());
        // SAFETY: by the caller's promise; the helper checks the source.
        let length =
            unsafe { bpf_probe_read_kernel_str(buffer.cast(), COMPONENT_MAX as u32, name.cast()) };
        let truncated = length <= 0 || length > COMPONENT_MAX as i64;
        let used = if truncated { 0 } else { length as usize };
        Written { used, truncated }
    }

    /// Writes the components from the file up to the root, each with its NUL, into `buffer` from
    /// `used` on, as long as they end before `limit`. It passes through `aside`, a map's memory, where the
    /// verifier forgets what kind of pointers they are, and then takes each step for the same as the first.
    ///
    /// # Safety
    /// `buffer` must be writable up to [`PATHS_MASK`] and a component beyond, `aside` for a path.
    #[inline(always)]
    pub(crate) unsafe fn write(
        self,
        aside: *mut [u64; 2],
        buffer: *mut u8,
        used: usize,
        limit: usize,
    ) -> Written {
        // SAFETY: by the caller's promise.
        let mut place = unsafe {
            let aside = aside.cast::<Self>();
            aside.write_volatile(self);
            aside.read_volatile()
        };
        let mut used = used;
        let mut root = place.mount_root();
        let name_index = (layout!(dentry_name) - layout!(dentry_parent)) as usize;
        for _ in 0..STEPS {
            let Some((parent, name)) = place.parent_and_name(name_index) else {
                break;
            };
            if place.dentry == root || place.dentry == parent {
                if root.is_null() {
                    break;
                }
                let above = place.above();
                if above.mount == place.mount {
                    return Written {
                        used,
                        truncated: false,
                    };
                }
                place = above;
                root = place.mount_root();
                continue;
            }
            if used > limit - COMPONENT_MAX {
                break;
            }
            // SAFETY: there is room for a component below `limit`; the helper checks the source.
            let length = unsafe {
                let to = buffer.add(bounded::<PATHS_MASK>(used));
                bpf_probe_read_kernel_str(to.cast(), COMPONENT_MAX as u32, name.cast())
            };
            if length <= 0 || length > COMPONENT_MAX as i64 {
                break;
            }
            used = bounded::<PATHS_MASK>(used + length as usize);
            place.dentry = parent;
        }
        Written {
            used,
            truncated: true,
        }
    }

    /// The root of its mount, or null.
    #[inline(always)]
    fn mount_root(self) -> *const u8 {
        pointer_at(self.mount.wrapping_add(layout!(vfsmount_root) as usize))
    }

    /// Where its mount is; the same mount for that of the root.
    #[inline(always)]
    fn above(self) -> Self {
        let this = self.mount.wrapping_sub(layout!(mount_mnt) as usize);
        let above = pointer_at(this.wrapping_add(layout!(mount_parent) as usize));
        Self {
            mount: above.wrapping_add(layout!(mount_mnt) as usize),
            dentry: pointer_at(this.wrapping_add(layout!(mount_mountpoint) as usize)),
        }
    }

    /// `d_parent` and `d_name` are neighbours: one call reads both.
    #[inline(always)]
    fn parent_and_name(self, name_index: usize) -> Option<(*const u8, *const u8)> {
        let fields = self.dentry.wrapping_add(layout!(dentry_parent) as usize);
        let fields = MaybeUninit::new(read_remote::<[u64; 4]>(fields)?);
        let fields = fields.as_ptr().cast::<u8>();
        // SAFETY: the loader has checked that the name lies within the four words.
        unsafe {
            Some((
                fields.cast::<*const u8>().read_volatile(),
                fields.add(name_index).cast::<*const u8>().read_volatile(),
            ))
        }
    }
}

/// A pointer in kernel memory, or null if that cannot be read. Nothing depends on which it is until it is used:
/// the verifier would walk through the rest of a path for either.
#[inline(always)]
fn pointer_at(place: *const u8) -> *const u8 {
    let mut pointer = MaybeUninit::<*const u8>::uninit();
    // SAFETY: the helper writes all of it in any case: zeros where it cannot read.
    unsafe {
        bpf_probe_read_kernel(
            pointer.as_mut_ptr().cast(),
            size_of::<*const u8>() as u32,
            place.cast(),
        );
        pointer.assume_init()
    }
}

/// The same value, provided that it is not above `MASK`, which is all that the verifier then knows of
/// it. Otherwise it would tell apart each number of components by the least length that they can
/// have, and verify what follows for each of them; before 5.12 it also forgets a comparison as soon as
/// the value has been on the stack. So this stands right before each use.
#[inline(always)]
pub(crate) fn bounded<const MASK: i32>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem)) };
    value
}
