//! Turns the kernel's type information into the offsets that the kernel programs use.

use tracer_common::layout::{Layout, Settings};

use super::{
    btf::{Btf, BtfError},
    cgroup::V1,
};

/// Resolves every offset. The first that cannot be resolved is the error.
pub fn resolve(btf: &Btf) -> Result<Layout, BtfError> {
    let mut missing = None;
    let layout = Layout::from_offsets(|structure, member| {
        btf.offset(structure, member).unwrap_or_else(|error| {
            missing.get_or_insert(error);
            0
        })
    });
    let name_within_reach =
        (8..=24).contains(&layout.dentry_name.wrapping_sub(layout.dentry_parent));
    match missing {
        Some(error) => Err(error),
        None if !name_within_reach => Err(BtfError::NoMember {
            structure: "dentry".to_owned(),
            member: "d_name next to d_parent".to_owned(),
        }),
        None => Ok(layout),
    }
}

/// Adds the place of `signal_struct.is_child_subreaper`, a bit field, to `settings`.
pub fn resolve_subreaper(btf: &Btf, settings: &mut Settings) -> Result<(), BtfError> {
    let member = btf.member("signal_struct", "is_child_subreaper")?;
    settings.subreaper_byte = member.bit_offset / 8;
    settings.subreaper_mask = 1 << (member.bit_offset % 8);
    Ok(())
}

/// Adds the place of `mptcp_sock.first` to `settings`, if this kernel has it.
pub fn resolve_mptcp(btf: &Btf, settings: &mut Settings) {
    settings.mptcp_first = btf.offset("mptcp_sock", "first").unwrap_or(0);
}

/// Adds the places of what `task_struct` has of audit to `settings`, if this kernel has it.
pub fn resolve_audit(btf: &Btf, settings: &mut Settings) {
    let offset = |member| btf.offset("task_struct", member).unwrap_or(0);
    settings.task_loginuid = offset("loginuid");
    settings.task_sessionid = offset("sessionid");
}

/// Adds the place of a controller's state, and its hierarchy, to `settings`.
pub fn resolve_v1(btf: &Btf, v1: &V1, settings: &mut Settings) -> Result<(), BtfError> {
    let states = btf.offset("css_set", "subsys")?;
    let controller = format!("{}_cgrp_id", v1.controller);
    let index = btf.enumerator("cgroup_subsys_id", &controller)?;
    settings.cgroup_v1_css = states + index * size_of::<u64>() as u32;
    settings.cgroup_v1_hierarchy = v1.hierarchy;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_is_found_in_the_running_kernel() {
        let btf = Btf::of_running_kernel().unwrap();
        let layout = resolve(&btf).unwrap();
        assert_ne!(layout.task_tgid, 0);
        assert_ne!(layout.sock_v6_daddr, 0);
    }
}
