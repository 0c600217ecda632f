//! Cgroups in the hierarchy that the tracer looks at.
//!
//! In: a path as a container runtime makes it. Out: a directory to which processes can be moved, removed
//! again in the end.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

/// Whether containers are in version 1 here: it has the controller for memory.
pub fn is_v1() -> bool {
    mount_of("cgroup", "memory").is_some()
}

/// Root of version 2.
pub fn v2_root() -> Option<PathBuf> {
    mount_of("cgroup2", "rw")
}

/// Where a file system of this type with this option is mounted.
fn mount_of(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, found, options) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = found == kind && options.split(',').any(|other| other == option);
        is_it.then(|| PathBuf::from(place))
    })
}

/// A cgroup that was made for a test.
#[derive(Debug)]
pub struct Cgroup {
    /// What was made, the innermost last.
    made: Vec<PathBuf>,
    directory: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup of this path, such as `docker/ID`, and those above it that are missing.
    ///
    /// # Panics
    /// If no hierarchy is mounted, or it may not be changed.
    pub fn make(path: &(impl AsRef<Path> + ?Sized)) -> Cgroup {
        let root = mount_of("cgroup", "memory").or_else(v2_root);
        Cgroup::make_in(&root.expect("a cgroup hierarchy is mounted"), path)
    }

    /// Makes it in the hierarchy with this root.
    ///
    /// # Panics
    /// As [`make`](Self::make).
    pub fn make_in(root: &Path, path: &(impl AsRef<Path> + ?Sized)) -> Cgroup {
        let mut cgroup = Cgroup {
            made: Vec::new(),
            directory: root.to_owned(),
        };
        let names = path.as_ref().components();
        for name in names.filter(|name| matches!(name, Component::Normal(_))) {
            cgroup.directory.push(name);
            match fs::create_dir(&cgroup.directory) {
                Ok(()) => cgroup.made.push(cgroup.directory.clone()),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
                Err(error) => panic!("{}: {error}", cgroup.directory.display()),
            }
        }
        cgroup
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The same as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn directory(&self) -> &str {
        self.directory.to_str().expect("UTF-8")
    }

    /// Moves a process there.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn attach(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).expect("it may be moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            // A test that failed may have left a process there.
            if let Err(error) = fs::remove_dir(directory) {
                eprintln!("{} stays: {error}", directory.display());
            }
        }
    }
}
