//! The host, as every output names it.
//!
//! In: what the kernel and `/etc` say, read once. Out: name, machine ID and boot ID; what cannot be
//! read is absent. In a container that shares the host's PIDs, `/etc` is the host's.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::identity::BootId;

/// What the host is called, where the kernel would name the container that the tracer runs in.
const NAME: &str = "TRACER_HOST_NAME";

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The path of a file of the host: below the root that PID 1 sees, which is only known from the initial PID
/// namespace.
pub fn path(path: &str) -> Option<PathBuf> {
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let initial = namespace == Path::new(INITIAL_PID_NAMESPACE);
    initial.then(|| PathBuf::from(format!("/proc/1/root{path}")))
}

const MACHINE_ID: &str = "/etc/machine-id";

/// Which host this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name, as `TRACER_HOST_NAME` has it or `uname -n` prints it.
    pub name: String,
    /// `/etc/machine-id`, where there is one.
    pub machine_id: Option<String>,
    /// The kernel's `boot_id`; zeros where it cannot be read.
    pub boot_id: BootId,
}

impl Host {
    /// This host.
    pub fn read() -> Self {
        let line = |path: &Path| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned())
        };
        let is_machine_id =
            |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let machine_id = path(MACHINE_ID).and_then(|path| line(&path));
        let machine_id = machine_id.or_else(|| line(Path::new(MACHINE_ID)));
        let given = env::var(NAME).ok().filter(|name| !name.is_empty());
        let own = || rustix::system::uname().nodename().to_string_lossy().into();
        Self {
            name: given.unwrap_or_else(own),
            machine_id: machine_id.filter(is_machine_id),
            boot_id: line(Path::new("/proc/sys/kernel/random/boot_id"))
                .and_then(|text| BootId::parse(&text))
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_and_a_boot() {
        let host = Host::read();
        assert!(!host.name.is_empty());
        assert_ne!(host.boot_id, BootId::default());
    }
}
