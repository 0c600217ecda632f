//! What would make results wander, taken out of the guest.

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_remount};

/// Until the random numbers are ready, every socket pays for their collection.
const ENTROPY: &str = "/proc/sys/kernel/random/entropy_avail";
const ENTROPY_READY: u32 = 256;

/// Prepares the guest, or says why no result would mean anything.
pub(crate) fn prepare() -> Result<()> {
    // A root from an initramfs writes down each access to a file.
    mount_remount("/", MountFlags::NOATIME, "").context("remounting the root without atime")?;
    let entropy = std::fs::read_to_string(ENTROPY).context(ENTROPY)?;
    let entropy: u32 = entropy.trim_end().parse().context(ENTROPY)?;
    ensure!(
        entropy >= ENTROPY_READY,
        "the random numbers are not ready: {entropy} bits"
    );
    let processors = std::thread::available_parallelism().context("counting processors")?;
    ensure!(processors.get() == 1, "{processors} processors, not one");
    Ok(())
}

/// Mounts what tools expect that attach to kprobes and tracepoints by name.
pub(crate) fn mount_tracing() -> Result<()> {
    for (kind, place) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
    ] {
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {place}"))?;
    }
    Ok(())
}
