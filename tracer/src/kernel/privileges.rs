//! What the kernel asks of whoever loads programs (capabilities(7)).
//!
//! In: this process's effective capabilities. Out: the names of those that are missing, and what is lost without
//! those that it can do without.

use std::fs;

use serde::Serialize;

/// A capability that is needed, and what also grants it.
struct Needed {
    name: &'static str,
    bit: u32,
    purpose: &'static str,
}

/// Bit of `CAP_SYS_ADMIN`, which includes the two newer ones.
const SYS_ADMIN: u32 = 21;

const NEEDED: [Needed; 3] = [
    Needed {
        name: "CAP_BPF",
        bit: 39,
        purpose: "to load programs",
    },
    Needed {
        name: "CAP_PERFMON",
        bit: 38,
        purpose: "to attach them and to read kernel memory",
    },
    Needed {
        name: "CAP_NET_ADMIN",
        bit: 12,
        purpose: "to attach programs to cgroups",
    },
];

/// What tells more of processes of other users. Who may also write what others forbid (`CAP_DAC_OVERRIDE`) may read it.
const OF_USE: [(&str, &[u32], &str); 2] = [
    (
        "CAP_SYS_PTRACE",
        &[19],
        "paths of others' older processes, and hashes and packages of what others run, stay unknown",
    ),
    (
        "CAP_DAC_READ_SEARCH",
        &[1, 2],
        "hashes of files that only their user may read stay unknown",
    ),
];

/// A capability that is needed, and whether this process has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Privilege {
    /// As capabilities(7) names it.
    pub capability: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether it, or one that includes it, is effective; `None` where /proc does not tell.
    pub held: Option<bool>,
}

impl Needed {
    fn is_in(&self, set: u64) -> bool {
        let has = |bit: u32| set >> bit & 1 == 1;
        has(self.bit) || (self.bit >= 38 && has(SYS_ADMIN))
    }
}

/// Every capability that is needed.
pub fn needed() -> Vec<Privilege> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = effective(&status);
    let privilege = |needed: &Needed| Privilege {
        capability: needed.name,
        purpose: needed.purpose,
        held: set.map(|set| needed.is_in(set)),
    };
    NEEDED.iter().map(privilege).collect()
}

/// What is missing, each with its purpose; empty if nothing is.
pub fn missing() -> Vec<String> {
    // Where /proc does not tell, the kernel will.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).map_or_else(Vec::new, missing_from)
}

/// What stays unknown for lack of a privilege, each a sentence.
pub fn remarks() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).map_or_else(Vec::new, remarks_on)
}

fn remarks_on(set: u64) -> Vec<String> {
    OF_USE
        .iter()
        .filter(|(_, bits, _)| bits.iter().all(|bit| set >> bit & 1 == 0))
        .map(|(name, _, lost)| format!("without {name}, {lost}"))
        .collect()
}

/// The set of effective capabilities, from the text of a `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_from(set: u64) -> Vec<String> {
    NEEDED
        .iter()
        .filter(|needed| !needed.is_in(set))
        .map(|needed| format!("{} ({})", needed.name, needed.purpose))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_capabilities_that_were_split_from_it() {
        assert_eq!(missing_from(1 << SYS_ADMIN | 1 << 12), Vec::<String>::new());
        let missing = missing_from(1 << SYS_ADMIN);
        assert_eq!(missing, ["CAP_NET_ADMIN (to attach programs to cgroups)"]);
    }

    #[test]
    fn what_is_only_of_use_is_told_of_when_it_is_missing() {
        assert_eq!(remarks_on(1 << 19 | 1 << 1), Vec::<String>::new());
        let remarks = remarks_on(1 << 2);
        assert!(remarks.len() == 1 && remarks[0].contains("CAP_SYS_PTRACE"));
    }

    #[test]
    fn without_any_all_are_named() {
        let set = effective("Name:\tx\nCapEff:\t0000000000000000\n").unwrap();
        assert_eq!(missing_from(set).len(), 3);
    }
}
