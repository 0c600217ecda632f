//! The programs of the system's packages that the tests run, here or inside a guest.

use super::{Item, Scope, apt};
use crate::paths;

/// Program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 14] = [
    ("bash", "bash"),
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("dig", "bind9-dnsutils"),
    ("getent", "libc-bin"),
    ("ldd", "libc-bin"),
    ("logrotate", "logrotate"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
    ("xz", "xz-utils"),
];

pub(super) fn item() -> Item {
    Item {
        name: "Podman and small programs for the tests".to_owned(),
        scope: Scope::Tests,
        find: Box::new(|| {
            missing()
                .is_empty()
                .then(|| paths::program("podman"))
                .flatten()
                .map(|podman| podman.display().to_string())
        }),
        install: Box::new(|| apt::install(&missing())),
        by_hand: Box::new(|| vec![apt::by_hand(&missing())]),
    }
}

fn missing() -> Vec<String> {
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| paths::program(program).is_none());
    let mut packages: Vec<String> = missing.map(|(_, package)| (*package).to_owned()).collect();
    packages.dedup();
    packages
}
