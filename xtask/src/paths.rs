//! Where things are: the repository, the cache of tools and kernels, what is built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::ebpf_toolchain;

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The directory that outlives `cargo clean`: tools and kernels. See [`ebpf_toolchain::cache`].
pub(crate) fn cache() -> Result<PathBuf> {
    let cache = ebpf_toolchain::cache().context("no home directory: set TRACER_CACHE")?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache)
}

/// Cargo's target directory, as far as the environment decides it.
pub(crate) fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    repository().join(target)
}

/// The first file of this name in our own tools or in PATH, and in the directories of PATH that
/// only root's usually names.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    ebpf_toolchain::tools_bin()
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(system)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// PATH with our own tools in front, for what we run.
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = ebpf_toolchain::tools_bin().into_iter();
    env::join_paths(tools.chain(env::split_paths(&path))).unwrap_or(path)
}
