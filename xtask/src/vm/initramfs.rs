//! The guest's root: programs of this machine with the libraries that they need, the kernel's
//! modules, and the plan of what to run. In go paths on this machine; out comes a cpio archive.

use std::env;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::modules;
use crate::setup::kernels::Kernel;
use crate::{command, paths};

/// What the guest has of this machine's programs; busybox fills in for the others.
const PROGRAMS: [&str; 15] = [
    "sh", "bash", "cat", "curl", "dig", "env", "getent", "ip", "ls", "setpriv", "setsid", "sleep",
    "ss", "true", "uname",
];

/// Modules that a socket's inventory or a test's network needs, or that connect by themselves, where they
/// are not built in.
const MODULES: [&str; 7] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "veth",
    "nfsv4",
    "overlay",
];

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Where a guest has shared libraries that are not this system's.
pub(crate) const FOREIGN_LIBRARIES: &str = "/usr/lib/foreign";

/// A program for the guest: where it is here, and where it will be there.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) here: PathBuf,
    pub(crate) there: PathBuf,
    /// Directories with shared libraries that go before this system's, and in the guest are one:
    /// [`FOREIGN_LIBRARIES`].
    pub(crate) libraries: Vec<PathBuf>,
}

/// A root under construction.
pub(super) struct Initramfs {
    archive: Archive<BufWriter<File>>,
}

impl Initramfs {
    /// Begins a root at `path` with all that every guest has.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut root = Self {
            archive: Archive::new(BufWriter::new(file)),
        };
        for directory in ["bin", "sbin", "lib", "lib64"] {
            let target = Path::new("usr").join(directory);
            root.archive.directory(&Path::new("/").join(&target))?;
            root.archive
                .symlink(&Path::new("/").join(directory), &target)?;
        }
        for directory in ["dev", "proc", "sys", "tmp", "run", "root", "var/tmp"] {
            root.archive.directory(&Path::new("/").join(directory))?;
        }
        for (file, contents) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("hosts", HOSTS),
            ("resolv.conf", ""),
        ] {
            root.archive
                .file(&Path::new("/etc").join(file), contents.as_bytes())?;
        }
        for name in PROGRAMS {
            root.system_program(name)?;
        }
        root.busybox()?;
        Ok(root)
    }

    /// Adds a program that is none of the system's.
    pub(super) fn program(&mut self, program: &Program) -> Result<()> {
        let contents = fs::read(&program.here);
        let contents = contents.with_context(|| format!("reading {}", program.here.display()))?;
        self.archive.program(&program.there, &contents)?;
        self.libraries(&program.here, &program.libraries)
    }

    /// Adds the modules that this kernel does not have built in, in the order of loading.
    pub(super) fn modules(&mut self, kernel: &Kernel) -> Result<()> {
        for (index, module) in modules::read(&kernel.modules(), &MODULES)?
            .iter()
            .enumerate()
        {
            let path = format!("/modules/{index:02}-{}.ko", module.name);
            self.archive.file(Path::new(&path), &module.contents)?;
        }
        Ok(())
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        Ok(self.archive.file(Path::new(path), contents)?)
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<()> {
        Ok(self.archive.finish()?)
    }

    /// Adds a program of the system as it is here: behind the same symbolic links.
    fn system_program(&mut self, name: &str) -> Result<()> {
        let mut here = paths::program(name)
            .with_context(|| format!("{name} is missing:  cargo xtask setup --tests"))?;
        while here.is_symlink() {
            let target =
                fs::read_link(&here).with_context(|| format!("reading {}", here.display()))?;
            self.archive.symlink(&merged(&here), &target)?;
            here = here.parent().unwrap_or(Path::new("/")).join(target);
        }
        let contents = fs::read(&here).with_context(|| format!("reading {}", here.display()))?;
        self.archive.program(&merged(&here), &contents)?;
        self.libraries(&here, &[])
    }

    /// Adds busybox, and its applets under every name that is still free.
    fn busybox(&mut self) -> Result<()> {
        self.system_program("busybox")?;
        let busybox = paths::program("busybox").context("busybox is missing")?;
        let applets = command::text(Command::new(&busybox).arg("--list"))?;
        for applet in applets.lines() {
            let [bin, sbin] = ["/usr/bin", "/usr/sbin"].map(|dir| Path::new(dir).join(applet));
            if !self.archive.contains(&bin) && !self.archive.contains(&sbin) {
                self.archive.symlink(&bin, &merged(&busybox))?;
            }
        }
        Ok(())
    }

    /// Adds the shared libraries that the dynamic linker would load, those in `foreign` before others.
    fn libraries(&mut self, program: &Path, foreign: &[PathBuf]) -> Result<()> {
        let search = env::join_paths(foreign).context("directories of libraries")?;
        // It fails for a static program, which is no failure here.
        let listed = Command::new("ldd")
            .arg(program)
            .env("LD_LIBRARY_PATH", search)
            .output();
        let listed = listed.context("starting ldd")?.stdout;
        let listed = String::from_utf8_lossy(&listed);
        if let Some(line) = listed.lines().find(|line| line.contains("not found")) {
            bail!(
                "a library of {} is missing: {}",
                program.display(),
                line.trim()
            );
        }
        for word in listed.split_whitespace() {
            let path = Path::new(word);
            let is_foreign = foreign.iter().any(|directory| path.starts_with(directory));
            let there = match path.file_name() {
                Some(name) if is_foreign => Path::new(FOREIGN_LIBRARIES).join(name),
                _ => merged(path),
            };
            if path.is_absolute() && !self.archive.contains(&there) {
                let contents = fs::read(path).with_context(|| format!("reading {word}"))?;
                self.archive.program(&there, &contents)?;
            }
        }
        Ok(())
    }
}

/// The path in a root where `/bin`, `/lib` and so on are links into `/usr`, without `..`.
fn merged(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    let first = clean
        .components()
        .nth(1)
        .map(|first| first.as_os_str().to_owned());
    match first.as_ref().and_then(|first| first.to_str()) {
        Some("bin" | "sbin" | "lib" | "lib64") => {
            Path::new("/usr").join(clean.strip_prefix("/").unwrap_or(&clean))
        }
        _ => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_in_usr_as_on_a_merged_system() {
        assert_eq!(
            merged(Path::new("/lib64/ld.so")),
            Path::new("/usr/lib64/ld.so")
        );
        assert_eq!(
            merged(Path::new("/usr/sbin/../bin/ip")),
            Path::new("/usr/bin/ip")
        );
        assert_eq!(
            merged(Path::new("/etc/alternatives/x")),
            Path::new("/etc/alternatives/x")
        );
    }
}
