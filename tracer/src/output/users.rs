//! Names of users.
//!
//! In: a user ID of the initial user namespace, as the kernel has it. Out: the name that the host's
//! `/etc/passwd` gives it, or nothing. The file is read again when it has changed. Only this file is
//! asked: a lookup over the network would make connections of its own, and wait.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use hashbrown::HashMap;

use crate::event::BootTime;

/// How often to look whether the file has changed, in nanoseconds.
const CHECK_INTERVAL_NS: u64 = 10_000_000_000;

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The host's users.
#[derive(Debug, Default)]
pub struct Users {
    file: Option<&'static Path>,
    names: HashMap<u32, String>,
    modified: Option<SystemTime>,
    checked: Option<BootTime>,
}

impl Users {
    /// The host's users. The host's file is the one that PID 1 sees, which is only known from the
    /// initial PID namespace; elsewhere no user has a name.
    pub fn of_host() -> Self {
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        let initial = namespace.is_some_and(|link| link == Path::new(INITIAL_PID_NAMESPACE));
        Self {
            file: initial.then_some(Path::new("/proc/1/root/etc/passwd")),
            ..Self::default()
        }
    }

    /// Fixed users, for tests.
    pub fn fixed(names: &[(u32, &str)]) -> Self {
        let names = names
            .iter()
            .map(|&(id, name)| (id, name.to_owned()))
            .collect();
        Self {
            names,
            ..Self::default()
        }
    }

    /// The name of a user; `now` decides whether to look at the file again.
    pub fn name(&mut self, id: u32, now: BootTime) -> Option<&str> {
        if let Some(file) = self.file
            && self
                .checked
                .is_none_or(|checked| now.since(checked) >= CHECK_INTERVAL_NS)
        {
            self.checked = Some(now);
            self.refresh(file);
        }
        self.names.get(&id).map(String::as_str)
    }

    fn refresh(&mut self, file: &Path) {
        let modified = fs::metadata(file)
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified.is_none() || modified != self.modified {
            self.names = fs::read_to_string(file)
                .map(|text| parse(&text))
                .unwrap_or_default();
            self.modified = modified;
        }
    }
}

/// Reads lines of `NAME:PASSWORD:UID:…`; of two names for an ID the first counts, as for `getpwuid`.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            && let Ok(id) = id.parse()
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let names = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# none\nbad:x:y\nwww:x:33:33::/:\n",
        );
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&33], "www");
    }

    #[test]
    fn a_user_that_nobody_knows_has_no_name() {
        let mut users = Users::fixed(&[(0, "root")]);
        assert_eq!(users.name(0, BootTime(0)), Some("root"));
        assert_eq!(users.name(1000, BootTime(0)), None);
    }
}
