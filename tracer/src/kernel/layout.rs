//! Turns the kernel's type information into the offsets that the kernel programs use.

use tracer_common::layout::{IterLayout, Layout, MptcpLayout, PagesLayout, Settings};

use super::{
    btf::{Btf, BtfError},
    cgroup::V1,
    pages,
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

/// Adds the places of `linux_binprm.secureexec`, a bit field, and of what follows an inode to `settings`.
pub fn resolve_exec(btf: &Btf, settings: &mut Settings) -> Result<(), BtfError> {
    let member = btf.member("linux_binprm", "secureexec")?;
    settings.secureexec_byte = member.bit_offset / 8;
    settings.secureexec_mask = 1 << (member.bit_offset % 8);
    settings.inode_end = btf.size("inode")?;
    (settings.inode_changed_s, settings.inode_changed_ns) = changed(btf)?;
    Ok(())
}

/// Where an inode keeps its change time: since 6.11, before, and before 6.6.
fn changed(btf: &Btf) -> Result<(u32, u32), BtfError> {
    let pair = |seconds, nanoseconds| {
        Ok((
            btf.offset("inode", seconds)?,
            btf.offset("inode", nanoseconds)?,
        ))
    };
    pair("i_ctime_sec", "i_ctime_nsec")
        .or_else(|_: BtfError| pair("__i_ctime.tv_sec", "__i_ctime.tv_nsec"))
        .or_else(|_| pair("i_ctime.tv_sec", "i_ctime.tv_nsec"))
}

/// Adds where `inet_sock` keeps `IP_HDRINCL` to `settings`: a bit field, from 6.6 on a bit of a word of flags.
pub fn resolve_own_header(btf: &Btf, settings: &mut Settings) -> Result<(), BtfError> {
    let bit = match btf.member("inet_sock", "hdrincl") {
        Ok(member) => member.bit_offset,
        Err(_) => {
            let flags = btf.offset("inet_sock", "inet_flags")?;
            flags * 8 + btf.enumerator("", "INET_FLAGS_HDRINCL")?
        }
    };
    settings.own_header_byte = bit / 8;
    settings.own_header_mask = 1 << (bit % 8);
    Ok(())
}

/// Adds where Multipath TCP keeps what is read of it to `settings`, if this kernel has it.
pub fn resolve_mptcp(btf: &Btf, settings: &mut Settings) {
    if let (Ok(kernel_socket), Ok(mptcp)) = (btf.member("sock", "sk_kern_sock"), mptcp(btf)) {
        settings.kernel_socket_byte = kernel_socket.bit_offset / 8;
        settings.kernel_socket_mask = 1 << (kernel_socket.bit_offset % 8);
        settings.mptcp = mptcp;
    }
}

fn mptcp(btf: &Btf) -> Result<MptcpLayout, BtfError> {
    const SUBFLOW: &str = "mptcp_subflow_context";
    let is_mptcp = btf.member("tcp_sock", "is_mptcp")?;
    let capable = btf.member(SUBFLOW, "mp_capable")?.bit_offset;
    let word = capable / 32;
    let bit = |member: &str| match btf.member(SUBFLOW, member)?.bit_offset {
        offset if offset / 32 == word => Ok(1 << (offset % 32)),
        _ => Err(BtfError::NoMember {
            structure: SUBFLOW.to_owned(),
            member: format!("{member} next to mp_capable"),
        }),
    };
    Ok(MptcpLayout {
        first: btf.offset("mptcp_sock", "first")?,
        subflows: btf.offset("mptcp_sock", "conn_list")?,
        subflow_byte: is_mptcp.bit_offset / 8,
        subflow_mask: 1 << (is_mptcp.bit_offset % 8),
        context: btf.offset("inet_connection_sock", "icsk_ulp_data")?,
        node: btf.offset(SUBFLOW, "node")?,
        tcp: btf.offset(SUBFLOW, "tcp_sock")?,
        upper: btf.offset(SUBFLOW, "conn")?,
        bits: word * 4,
        capable: bit("mp_capable")?,
        further: bit("request_join")? | bit("mp_join")?,
    })
}

/// Adds where a system call's parts of memory are told to `settings`, if that is as known.
pub fn resolve_iter(btf: &Btf, settings: &mut Settings) {
    settings.iter = iter(btf).unwrap_or(IterLayout::ZERO);
}

fn iter(btf: &Btf) -> Result<IterLayout, BtfError> {
    /// Before 5.14 the direction is the lowest bit of the kind.
    const WITHOUT_DIRECTION: u32 = 0xfe;
    let member = |name| btf.offset("iov_iter", name);
    let kind = |name| btf.enumerator("iter_type", name);
    let (place, mask) = match member("iter_type") {
        Ok(place) => (place, 0xff),
        Err(_) => (member("type")?, WITHOUT_DIRECTION),
    };
    // Since 6.0.
    let only = member("ubuf").and_then(|place| Ok((place, kind("ITER_UBUF")?)));
    let (only, of_only) = only.unwrap_or((0, u32::MAX));
    Ok(IterLayout {
        message: btf.offset("msghdr", "msg_iter")?,
        kind: place,
        kind_mask: mask,
        done: member("iov_offset")?,
        parts: member("__iov").or_else(|_| member("iov"))?,
        only,
        of_parts: kind("ITER_IOVEC")?,
        of_only,
    })
}

/// Adds where a packet's pages are to `settings`, if that is known.
pub fn resolve_pages(btf: &Btf, settings: &mut Settings) {
    settings.pages = pages(btf).unwrap_or(PagesLayout::ZERO);
}

fn pages(btf: &Btf) -> Option<PagesLayout> {
    // `skb_frag_t` is another structure since 6.9, of the same shape.
    let is_as_known = |structure, [length, offset]: [&str; 2]| {
        btf.offset(structure, length).is_ok_and(|at| at == 8)
            && btf.offset(structure, offset).is_ok_and(|at| at == 12)
    };
    if !is_as_known("skb_frag", ["len", "offset"])
        && !is_as_known("bio_vec", ["bv_len", "bv_offset"])
    {
        return None;
    }
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let page = btf.size("page").ok()?;
    let pages = pages::read(page).ok()??;
    Some(PagesLayout {
        memory: halves(pages.memory),
        pages: halves(pages.pages),
        page,
        shift: rustix::param::page_size().trailing_zeros(),
        count: btf.offset("skb_shared_info", "nr_frags").ok()?,
        frags: btf.offset("skb_shared_info", "frags").ok()?,
    })
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
