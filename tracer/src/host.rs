//! The host, as every output names it.
//!
//! In: what the kernel and `/etc` say, read once. Out: name, machine ID and boot ID; what cannot be
//! read is absent.

use std::fs;

use crate::identity::BootId;

/// Which host this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name, as `uname -n` prints it.
    pub name: String,
    /// `/etc/machine-id`, where there is one.
    pub machine_id: Option<String>,
    /// The kernel's `boot_id`; zeros where it cannot be read.
    pub boot_id: BootId,
}

impl Host {
    /// This host.
    pub fn read() -> Self {
        let line = |path| {
            fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().to_owned())
        };
        let is_machine_id =
            |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self {
            name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            machine_id: line("/etc/machine-id").filter(is_machine_id),
            boot_id: line("/proc/sys/kernel/random/boot_id")
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
