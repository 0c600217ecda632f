//! The kernels of the VM matrix: Debian's cloud kernels, unpacked into `kernels/LABEL` of the cache
//! and installed nowhere. `vmlinuz` and `modules/` are theirs, `version` says which package it was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::compiler::numbers;
use super::debian::Archive;
use super::{Item, Scope, tools};
use crate::paths;

/// A kernel of the matrix, in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What the matrix calls it.
    pub(crate) label: &'static str,
    directory: PathBuf,
}

/// Labels, each with what its versions begin with. The last is the newest of all.
const SERIES: [(&str, &[u64]); 4] = [
    ("5.10", &[5, 10]),
    ("6.1", &[6, 1]),
    ("6.12", &[6, 12]),
    ("newest", &[]),
];

/// All labels, oldest kernel first.
pub(crate) const LABELS: [&str; 4] = [SERIES[0].0, SERIES[1].0, SERIES[2].0, SERIES[3].0];

impl Kernel {
    /// The kernel of that label, if set-up has put it into the cache.
    pub(crate) fn find(label: &str) -> Result<Self> {
        let (label, _) = SERIES
            .iter()
            .find(|(known, _)| *known == label)
            .with_context(|| format!("no kernel {label}: there are {}", LABELS.join(", ")))?;
        let kernel = Self {
            label,
            directory: paths::cache()?.join("kernels").join(label),
        };
        ensure!(
            kernel.image().is_file(),
            "kernel {label} is missing:  cargo xtask setup --tests"
        );
        Ok(kernel)
    }

    /// The image that boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The tree of its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("modules")
    }

    /// The package's version; the file has its name too.
    pub(crate) fn version(&self) -> String {
        let line = fs::read_to_string(self.directory.join("version")).unwrap_or_default();
        line.split_whitespace()
            .last()
            .unwrap_or("unknown")
            .to_owned()
    }
}

pub(super) fn items() -> impl Iterator<Item = Item> {
    SERIES.iter().map(|&(label, series)| Item {
        name: format!("kernel {label}"),
        scope: Scope::Tests,
        find: Box::new(move || Kernel::find(label).ok().map(|kernel| kernel.version())),
        install: Box::new(move || install(label, series)),
        by_hand: Box::new(|| {
            vec!["cargo xtask setup --tests    # unpacks kernels, installs none".to_owned()]
        }),
    })
}

fn install(label: &str, series: &[u64]) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the VM matrix knows x86-64 kernels only"
    );
    let archive = Archive::open()?;
    let image = newest(archive, series)?;
    let unpacked = tools::partial(&format!("unpacked-{label}"))?;
    let ready = tools::partial(&format!("kernel-{label}"))?;
    archive.unpack(&image, &unpacked)?;
    // From 7.x on the modules are in a package of their own.
    let modules = image.replacen("linux-binary-", "linux-modules-", 1);
    if modules != image {
        archive.unpack(&modules, &unpacked)?;
    }
    move_found(&unpacked, &ready)?;
    let version = format!("{image} {}\n", archive.version(&image)?);
    fs::write(ready.join("version"), version).context("writing the kernel's version")?;
    fs::remove_dir_all(&unpacked).context("removing what was unpacked")?;
    tools::publish(&ready, &format!("kernels/{label}"))?;
    Ok(())
}

/// The package with the image of the newest cloud kernel of a series.
fn newest(archive: &Archive, series: &[u64]) -> Result<String> {
    let version = |name: &str| {
        let version = name
            .strip_prefix("linux-image-")
            .or_else(|| name.strip_prefix("linux-binary-"))?
            .strip_suffix("-cloud-amd64")?;
        let version = version
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| numbers(version))?;
        // Two numbers are a metapackage.
        (version.len() > 2 && version.starts_with(series)).then_some(version)
    };
    let mut names = archive.names("linux-image-")?;
    names.extend(archive.names("linux-binary-")?);
    names
        .into_iter()
        // Of one version, the binary has the image.
        .filter_map(|name| Some((version(&name)?, name.starts_with("linux-binary-"), name)))
        .max()
        .map(|(_, _, name)| name)
        .with_context(|| format!("the mirror has no cloud kernel {series:?}"))
}

/// Moves image and modules from where either generation of packages has them.
fn move_found(unpacked: &Path, ready: &Path) -> Result<()> {
    let roots = ["usr/lib/modules", "lib/modules"].map(|root| unpacked.join(root));
    let modules = roots
        .iter()
        .find_map(|root| fs::read_dir(root).ok()?.next()?.ok());
    let modules = modules
        .context("the kernel's package has no modules")?
        .path();
    let boot = fs::read_dir(unpacked.join("boot")).into_iter().flatten();
    let image = boot
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz"))
        })
        .unwrap_or_else(|| modules.join("vmlinuz"));
    for (from, to) in [(&image, "vmlinuz"), (&modules, "modules")] {
        fs::rename(from, ready.join(to)).with_context(|| format!("moving {}", from.display()))?;
    }
    Ok(())
}
