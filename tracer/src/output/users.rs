//! Names of users.
//!
//! In: a user ID of the initial user namespace, as the kernel has it. Out: the name that the host's
//! `/etc/passwd` gives it, or nothing. The file is read again when it has changed. Only this file is
//! asked: a lookup over the network would make connections of its own, and wait.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::event::BootTime;
use crate::host;
use crate::passwd;
use crate::process::image::Image;

/// How often to look whether the file has changed, in nanoseconds.
const CHECK_INTERVAL_NS: u64 = 10_000_000_000;

/// The host's users.
#[derive(Debug, Default)]
pub struct Users {
    file: Option<PathBuf>,
    names: passwd::Names,
    modified: Option<SystemTime>,
    checked: Option<BootTime>,
}

impl Users {
    /// The host's users. The host's file is the one that PID 1 sees, which is only known from the
    /// initial PID namespace; elsewhere no user has a name.
    pub fn of_host() -> Self {
        Self {
            file: host::path("/etc/passwd"),
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

    /// All of them, as they are now.
    pub fn names(&mut self) -> &passwd::Names {
        self.refresh();
        &self.names
    }

    /// Those that somebody wrote down.
    pub fn remembered(names: passwd::Names) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// The name of a process's effective user, by the `/etc/passwd` of the root in which it lives: the
    /// host's, or that of its container once its file has been examined there.
    pub fn of<'a>(&'a mut self, image: &'a Image, now: BootTime) -> Option<&'a str> {
        let id = image.euid?;
        if image.has_host_users() {
            return self.name(id, now);
        }
        let users = image.program.facts()?.users.as_ref();
        let users = users.filter(|_| !image.in_user_namespace)?;
        users.get(&id).map(String::as_str)
    }

    /// The name of whoever logged in, if that was on the host.
    pub fn login<'a>(&'a mut self, image: &Image, now: BootTime) -> Option<&'a str> {
        let id = image.session.login_uid.filter(|_| image.has_host_users())?;
        self.name(id, now)
    }

    /// The name of a user; `now` decides whether to look at the file again.
    fn name(&mut self, id: u32, now: BootTime) -> Option<&str> {
        let is_due = |checked| now.since(checked) >= CHECK_INTERVAL_NS;
        if self.checked.is_none_or(is_due) {
            self.checked = Some(now);
            self.refresh();
        }
        self.names.get(&id).map(String::as_str)
    }

    fn refresh(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        let modified = fs::metadata(file)
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified.is_none() || modified != self.modified {
            self.names = fs::read_to_string(file)
                .map(|text| passwd::parse(&text))
                .unwrap_or_default();
            self.modified = modified;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_nobody_knows_has_no_name() {
        let mut users = Users::fixed(&[(0, "root")]);
        assert_eq!(users.name(0, BootTime(0)), Some("root"));
        assert_eq!(users.name(1000, BootTime(0)), None);
    }
}
