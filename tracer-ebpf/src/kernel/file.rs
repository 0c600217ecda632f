//! The file that a process runs, as its inode has it.

use tracer_common::record::File;

use super::{
    layout::{layout, setting},
    source::{Direct, Source, read_remote},
};

/// include/uapi/linux/magic.h
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// `I_CTIME_QUERIED`, include/linux/fs.h: since 6.13 the highest bit of the nanoseconds says that
/// somebody has asked for them.
const NANOSECONDS: u32 = 0x7fff_ffff;

/// Fills in what `inode` tells.
///
/// # Safety
/// `to` must point to writable memory for it.
#[inline(always)]
pub(crate) unsafe fn fill(inode: Direct, to: *mut File) -> Option<()> {
    let file_system = inode.follow(layout!(inode_sb))?;
    // SAFETY: by the caller's promise.
    unsafe {
        (*to).inode = inode.load(layout!(inode_ino))?;
        (*to).size = inode.load(layout!(inode_size))?;
        (*to).changed_s = inode.load(setting!(inode_changed_s))?;
        (*to).changed_ns = inode.load::<u32>(setting!(inode_changed_ns))? & NANOSECONDS;
        (*to).device = file_system.load(layout!(super_block_dev))?;
        (*to).mode = u32::from(inode.load::<u16>(layout!(inode_mode))?);
        (*to).links = inode.load(layout!(inode_links))?;
        (*to).owner = inode.load(layout!(inode_owner))?;
        (*to).group = inode.load(layout!(inode_group))?;
    }
    Some(())
}

/// Whether it is in the upper layer of an overlay file system. `struct ovl_inode`, fs/overlayfs/ovl_entry.h,
/// holds the inode, and right behind it `__upperdentry`.
#[inline(always)]
pub(crate) fn is_in_upper_layer(inode: Direct) -> bool {
    let magic = inode
        .follow(layout!(inode_sb))
        .and_then(|file_system| file_system.load::<u64>(layout!(super_block_magic)));
    magic == Some(OVERLAYFS_SUPER_MAGIC)
        && read_remote::<u64>(inode.0.wrapping_add(setting!(inode_end) as usize))
            .is_some_and(|upper| upper != 0)
}
