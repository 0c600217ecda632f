//! The systemd unit: what it lets the daemon do.

use std::process::Command;

use crate::{path, read, succeed};

/// What `systemd-analyze security` may find at most, of 10.
const EXPOSURE: &str = "30";

#[test]
fn the_unit_is_exposed_by_three_of_ten_at_most() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args([
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold",
        EXPOSURE,
    ]);
    let said = succeed(analyze.arg(path("systemd/tracer.service")));
    assert!(said.contains("Overall exposure level"), "{said}");
}

#[test]
fn the_unit_has_the_capabilities_of_the_daemonset() {
    let unit = read("systemd/tracer.service");
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let set = set.expect("it has a bounding set").split(' ');
    let of_unit: Vec<_> = set.filter_map(|name| name.strip_prefix("CAP_")).collect();
    assert_eq!(of_unit, crate::manifests::capabilities());
}
