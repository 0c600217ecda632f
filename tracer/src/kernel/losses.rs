//! What the kernel side lost: our own counters, and those that the kernel keeps for each program.
//!
//! In: the map LOST and the programs' descriptors. Out: how much was lost since the last look.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use hashbrown::HashMap;
use tracer_common::record::kind;

use super::hooks::{Point, StandIn};
use super::loader::{Attached, Choice};
use super::missed::ProbeLink;
use crate::observation::{Loss, LossUnit};

/// A program that is attached, and where its counters stand.
#[derive(Debug)]
struct Program {
    /// Where it is attached, e.g. `fentry:tcp_connect`.
    point: &'static str,
    descriptor: i32,
    /// Where what backups saw is counted, if it has any.
    backups: Option<u32>,
    /// Where the kernel counts how often it did not get to the probe at all.
    link: Option<ProbeLink>,
    skipped: u64,
    /// As of the last look.
    runs: u64,
}

/// Remembers what has been reported.
pub struct Losses {
    records: PerCpuArray<MapData, [u64; kind::COUNT]>,
    backed_up: PerCpuArray<MapData, u64>,
    reported: [u64; kind::COUNT],
    programs: Vec<Program>,
    stand_in: StandIn,
}

/// How often a program ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Where it is attached, e.g. `fentry:tcp_connect`.
    pub hook: &'static str,
    /// The kernel's count; it counts only while `kernel.bpf_stats_enabled` is set.
    pub count: u64,
}

impl Losses {
    /// Begins to watch. Takes the maps out of `attached`.
    pub fn watch(attached: &mut Attached) -> Result<Self, MapError> {
        let lost = take_map(&mut attached.ebpf, "LOST")?;
        let backed_up = take_map(&mut attached.ebpf, "BACKED_UP")?;
        let mut stand_in = StandIn::default();
        for choice in &attached.choices {
            stand_in.learn(choice.moment, choice.way.as_ref());
        }
        Ok(Self {
            records: PerCpuArray::try_from(lost)?,
            backed_up: PerCpuArray::try_from(backed_up)?,
            reported: [0; kind::COUNT],
            programs: programs(&attached.ebpf, &attached.choices),
            stand_in,
        })
    }

    /// What was lost since the last call.
    pub fn since_last(&mut self) -> Result<Vec<Loss>, MapError> {
        let mut losses = Vec::new();
        let per_cpu = self.records.get(&0, 0)?;
        for (kind, reported) in self.reported.iter_mut().enumerate() {
            let total = per_cpu.iter().map(|counters| counters[kind]).sum();
            if let Some((name, unit)) = describe(kind as u16, self.stand_in)
                && total > *reported
            {
                losses.push(Loss {
                    stage: "ring",
                    kind: name,
                    unit,
                    count: total - *reported,
                });
            }
            *reported = total;
        }
        for program in &mut self.programs {
            let counters = counters(program.descriptor);
            program.runs = counters.runs;
            let missed = program.link.and_then(ProbeLink::missed).unwrap_or(0);
            let mut skipped = counters.recursion_misses + missed;
            if let Some(hook) = program.backups {
                // Read later, it may be ahead of the skips; the next look has them.
                let backed_up: u64 = self.backed_up.get(&hook, 0)?.iter().sum();
                skipped = skipped.saturating_sub(backed_up);
            }
            if skipped > program.skipped {
                losses.push(Loss {
                    stage: "hook",
                    kind: program.point,
                    unit: LossUnit::Record,
                    count: skipped - program.skipped,
                });
                program.skipped = skipped;
            }
        }
        Ok(losses)
    }

    /// How often the programs of each hook had run at the last look.
    pub fn runs(&self) -> Vec<Runs> {
        let mut runs: Vec<Runs> = Vec::new();
        for program in &self.programs {
            // Programs for two moments may be at one place.
            match runs.iter_mut().find(|runs| runs.hook == program.point) {
                Some(runs) => runs.count += program.runs,
                None => runs.push(Runs {
                    hook: program.point,
                    count: program.runs,
                }),
            }
        }
        runs
    }
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName {
        name: name.to_owned(),
    })
}

/// Name of a record's kind, and whether each lost one is exactly one lost output event.
fn describe(kind: u16, stand_in: StandIn) -> Option<(&'static str, LossUnit)> {
    use LossUnit::{Event, Record};
    Some(match kind {
        kind::FORK => ("fork", Event),
        kind::EXEC => ("exec", Event),
        kind::EXIT => ("exit", Event),
        kind::CONNECT => ("connect", Record),
        kind::ATTEMPT => ("attempt", Record),
        kind::CONNECT_ERROR => ("connect_error", Record),
        // In tracepoint mode an accept may be told twice.
        kind::ACCEPT => ("accept", if stand_in.accept { Record } else { Event }),
        kind::LISTEN => ("listen", Event),
        kind::ESTABLISHED => ("established", if stand_in.accept { Record } else { Event }),
        kind::SUBFLOW => ("subflow", Record),
        kind::CLOSE => ("close", Event),
        kind::RESET_SENT => ("reset_sent", Record),
        kind::CGROUP_MKDIR => ("cgroup_mkdir", Record),
        kind::CGROUP_RMDIR => ("cgroup_rmdir", Record),
        kind::CGROUP_ATTACH => ("cgroup_attach", Record),
        kind::FLOW => ("flow", Record),
        kind::DATAGRAM_OWNER => ("datagram_owner", Record),
        kind::DATAGRAM_CLOSE => ("datagram_close", Record),
        kind::DNS => ("dns", Record),
        kind::SOCKET_CREATED => ("socket_created", Event),
        kind::CLIENT_HELLO => ("client_hello", Record),
        _ => return None,
    })
}

/// Every attached program once, with its point as a name that lives as long as the process.
fn programs(ebpf: &Ebpf, choices: &[Choice]) -> Vec<Program> {
    choices
        .iter()
        .filter_map(|choice| choice.way)
        .flat_map(|way| way.hooks)
        .filter_map(|hook| {
            let program = ebpf.program(hook.program)?;
            let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
            let is_probe = matches!(hook.point, Point::Kprobe(_) | Point::Kretprobe(_));
            let link = is_probe
                .then(|| ProbeLink::of(program.info().ok()?.id()))
                .flatten();
            Some(Program {
                // A handful, once: worth the leak for a plain `&'static str` in every loss.
                point: hook.point.to_string().leak(),
                descriptor,
                backups: hook.counter_of_backups(),
                link,
                skipped: 0,
                runs: 0,
            })
        })
        .collect()
}

/// The kernel's own counters of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    runs: u64,
    recursion_misses: u64,
}

/// Reads the program's `fdinfo` (bpf_prog_show_fdinfo, kernel/bpf/syscall.c). What the kernel does not
/// show counts as zero: `recursion_misses` came with 5.12.
fn counters(descriptor: i32) -> Counters {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    parse(&text)
}

fn parse(fdinfo: &str) -> Counters {
    let values: HashMap<&str, u64> = fdinfo
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim().parse().ok()?))
        })
        .collect();
    let value = |name| values.get(name).copied().unwrap_or(0);
    Counters {
        runs: value("run_cnt"),
        recursion_misses: value("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_counters_are_found_in_its_fdinfo() {
        let fdinfo =
            "pos:\t0\nprog_type:\t26\nprog_tag:\t7fe1c0\nrun_cnt:\t12\nrecursion_misses:\t3\n";
        assert_eq!(
            parse(fdinfo),
            Counters {
                runs: 12,
                recursion_misses: 3
            }
        );
    }

    #[test]
    fn every_kind_of_record_has_a_name() {
        for kind in 1..kind::COUNT as u16 {
            assert!(describe(kind, StandIn::default()).is_some(), "kind {kind}");
        }
    }
}
