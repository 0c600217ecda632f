//! How often the kernel did not get to a kprobe or a kretprobe: because another was under way on that
//! processor, or because more calls than it has room for were waiting to return.
//!
//! In: a program that is attached to one. Out: the count of its link, which the kernel tells since 6.7.

use std::{fs, mem::offset_of, os::fd::RawFd};

/// `BPF_OBJ_GET_INFO_BY_FD`, include/uapi/linux/bpf.h.
const GET_INFO_BY_FD: libc::c_long = 15;

/// `enum bpf_perf_event_type`: `BPF_PERF_EVENT_KPROBE`, `BPF_PERF_EVENT_KRETPROBE`.
const PROBES: [u32; 2] = [3, 4];

/// `bpf_attr.info`.
#[repr(C)]
struct Attributes {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` of a probe.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    link: u32,
    program: u32,
    padding: u32,
    event: u32,
    padding2: u32,
    name: u64,
    name_length: u32,
    offset: u32,
    address: u64,
    missed: u64,
}

const _: () = assert!(offset_of!(LinkInfo, missed) == 48);

/// The link of a program that is attached to a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeLink {
    descriptor: RawFd,
    program: u32,
}

impl ProbeLink {
    /// The link of the program with this ID, among the descriptors of this process. There is none
    /// before 5.15.
    pub(super) fn of(program: u32) -> Option<Self> {
        let descriptors = fs::read_dir("/proc/self/fdinfo").ok()?;
        descriptors.flatten().find_map(|entry| {
            let fdinfo = fs::read_to_string(entry.path()).ok()?;
            let descriptor = entry.file_name().to_str()?.parse().ok()?;
            is_link_of(program, &fdinfo).then_some(Self {
                descriptor,
                program,
            })
        })
    }

    /// How often it was missed; `None` if the kernel does not tell.
    pub(super) fn missed(self) -> Option<u64> {
        let info = self.info()?;
        (info.program == self.program && PROBES.contains(&info.event)).then_some(info.missed)
    }

    fn info(self) -> Option<LinkInfo> {
        let mut info = LinkInfo::default();
        let attributes = Attributes {
            descriptor: self.descriptor.try_into().ok()?,
            length: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the kernel reads `attributes` and writes at most `length` bytes to `info`. A descriptor
        // that means something else by now is an error, or another program's link.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                GET_INFO_BY_FD,
                &raw const attributes,
                size_of::<Attributes>(),
            )
        };
        (result == 0).then_some(info)
    }
}

/// Whether the descriptor is a link, and that program's.
fn is_link_of(program: u32, fdinfo: &str) -> bool {
    let value = |name| {
        fdinfo.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then(|| value.trim())
        })
    };
    value("link_type").is_some() && value("prog_id").and_then(|id| id.parse().ok()) == Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_by_its_program() {
        let link = "pos:\t0\nlink_type:\tperf\nlink_id:\t7\nprog_tag:\t0a\nprog_id:\t34\n";
        let program = "pos:\t0\nprog_type:\t2\nprog_id:\t34\n";
        assert!(is_link_of(34, link));
        assert!(!is_link_of(3, link));
        assert!(!is_link_of(34, program));
    }
}
