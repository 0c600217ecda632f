//! Podman and runc as users start containers by them: images and root directories in, commands out.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::workload::{self, FLAG};

/// A place for images and containers of a test's own.
#[derive(Debug)]
pub struct Podman(tempfile::TempDir);

impl Podman {
    /// An empty place.
    ///
    /// # Panics
    /// If Podman and runc are not installed.
    #[allow(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Podman {
        let search = env::var_os("PATH").unwrap_or_default();
        let has = |name| env::split_paths(&search).any(|path| path.join(name).is_file());
        assert!(
            has("podman") && has("runc"),
            "`cargo xtask setup --tests` installs them"
        );
        Podman(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The directory of the place.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `podman`, as far as the place decides it.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        self.add_place(&mut command);
        command
    }

    /// The same where tracefs is mounted, as systemd does it, whether this host has done so or not.
    pub fn command_with_tracefs(&self) -> Command {
        const MOUNT: &str = "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", MOUNT, "sh", "podman"]);
        self.add_place(&mut command);
        command
    }

    fn add_place(&self, command: &mut Command) {
        command.arg("--root").arg(self.path().join("storage"));
        command.arg("--runroot").arg(self.path().join("run"));
        command.args(["--storage-driver", "vfs", "--runtime", "runc"]);
        command.args(["--cgroup-manager", "cgroupfs"]);
    }

    /// Runs this binary as a workload in a container on the host's network, with the host's libraries, in the root
    /// directory `rootfs` of the place, which may have further files. The container's ID comes to the file `id`.
    pub fn workload(&self, arguments: &[&str]) -> Command {
        let root = self.path().join("rootfs");
        fs::create_dir_all(&root).expect("the directory is ours");
        let mut command = self.command();
        command.args(["run", "--rm", "--interactive", "--network", "host"]);
        command.args(LOWER_LIMITS);
        command.arg("--cidfile").arg(self.path().join("id"));
        for name in ["usr", "bin", "lib", "lib64"] {
            let there = Path::new("/").join(name);
            let here = root.join(name);
            match fs::read_link(&there) {
                Ok(target) => symlink(target, &here).expect("the directory is writable"),
                Err(_) => {
                    fs::create_dir_all(&here).expect("the directory is writable");
                    command.arg(format!("--volume=/{name}:/{name}:ro"));
                }
            }
        }
        let binary = workload::binary();
        command.arg(format!("--volume={}:/workload:ro", binary.display()));
        command.arg("--rootfs").arg(root).args(["/workload", FLAG]);
        command.args(arguments);
        command
    }

    /// The ID of the container in which a workload has run.
    ///
    /// # Panics
    /// If none has.
    pub fn workload_id(&self) -> String {
        fs::read_to_string(self.path().join("id")).expect("Podman wrote it")
    }
}

/// Lower limits than one's own need no privilege.
pub const LOWER_LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1000:1000",
];
