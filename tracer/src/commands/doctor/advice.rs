//! Each problem that the report shows, and what to do about it.
//!
//! Nothing is guessed: a remedy follows from what was read, or says where the reason must be sought.

use super::report::{CheckReport, MomentReport, Problem, Report, Verdict};
use crate::kernel::btf::VMLINUX;
use crate::kernel::configuration::Configuration;
use crate::kernel::facts::Facts;

/// Options without which a mode is refused.
const NEEDED_BY_MODE: [(&str, &[&str]); 3] = [
    (
        "fentry",
        &[
            "CONFIG_BPF_JIT",
            "CONFIG_FUNCTION_TRACER",
            "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        ],
    ),
    ("kprobe", &["CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS"]),
    (
        "tracepoint",
        &["CONFIG_CGROUP_BPF", "CONFIG_FTRACE_SYSCALLS"],
    ),
];

/// All of them; those by which `run` fails first. `degraded`: it would go on with moments missing.
pub(super) fn problems(report: &Report, degraded: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(missing_privileges(report));
    problems.extend(type_information(&report.kernel));
    problems.extend(lockdown(&report.kernel));
    problems.extend(refused_object(report));
    problems.extend(unseen_moments(report, degraded));
    problems.extend(lesser_ways(report));
    if let Some(check) = &report.check {
        problems.extend(failed_check(check));
        problems.extend(blind_hooks(report, check, degraded));
        problems.extend(unchecked_hooks(check));
        problems.extend(losses(check));
    }
    problems.extend(no_compiler(&report.kernel));
    problems.extend(no_iterator(report));
    problems.sort_by_key(|problem| !problem.essential);
    problems
}

fn problem(essential: bool, problem: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem {
        essential,
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

fn missing_privileges(report: &Report) -> impl Iterator<Item = Problem> {
    let missing = report
        .privileges
        .iter()
        .filter(|privilege| privilege.held == Some(false));
    missing.map(|privilege| {
        let name = privilege.capability;
        problem(
            true,
            format!("{name} is missing ({})", privilege.purpose),
            format!(
                "run as root, or grant {name} (setcap, or the settings of the service or container)"
            ),
        )
    })
}

fn type_information(kernel: &Facts) -> Option<Problem> {
    if kernel.btf_bytes.is_some() {
        return None;
    }
    let configuration = kernel.configuration.as_ref();
    let remedy = match configuration.map(|known| known.has("CONFIG_DEBUG_INFO_BTF")) {
        Some(true) => "the kernel was built with it: mount sysfs (mount -t sysfs sysfs /sys)",
        Some(false) => "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y; this one was not",
        None => "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, and have sysfs mounted at /sys",
    };
    Some(problem(
        true,
        format!("the kernel's type information is not at {VMLINUX}"),
        remedy,
    ))
}

fn lockdown(kernel: &Facts) -> Option<Problem> {
    (kernel.lockdown.as_deref() == Some("confidentiality")).then(|| {
        problem(
            false,
            "lockdown is in confidentiality mode, in which no program may read kernel memory",
            "boot with lockdown=integrity, or without lockdown",
        )
    })
}

fn refused_object(report: &Report) -> Option<Problem> {
    let refusal = report.programs_refused.as_ref()?;
    let kernel = &report.kernel;
    let remedy = match kernel.memlock_limit_bytes {
        // Said already, with its remedy.
        _ if kernel.btf_bytes.is_none() => return None,
        _ if missing_privileges(report).next().is_some() => elsewhere(report, "the object"),
        Some(limit) if kernel.counts_memlock() => format!(
            "maps count against RLIMIT_MEMLOCK before Linux 5.11, which is {limit} bytes: raise it \
             (ulimit -l unlimited)"
        ),
        _ => elsewhere(report, "the object"),
    };
    Some(problem(true, refusal, remedy))
}

fn unseen_moments(report: &Report, degraded: bool) -> Vec<Problem> {
    let mode = report
        .hook_mode
        .map_or_else(String::new, |mode| format!(" in {mode} mode"));
    let unseen = report
        .moments
        .iter()
        .filter(|moment| moment.chosen.is_none());
    alike(unseen.map(|moment| {
        let mut remedy = remedy(report, moment);
        if report.hook_mode.is_some() {
            remedy = format!("leave --hook-mode away; {remedy}");
        } else if moment.essential {
            remedy += "; --degraded goes on without it";
        }
        let essential = moment.essential && !degraded;
        let refused = problem(
            essential,
            format!("cannot be seen{mode}: every way is refused"),
            remedy,
        );
        (moment.name, refused)
    }))
}

/// Moments of which a better way would show more.
fn lesser_ways(report: &Report) -> Vec<Problem> {
    let lesser = report
        .moments
        .iter()
        .filter_map(|moment| Some((moment, moment.lost?)));
    alike(lesser.map(|(moment, lost)| {
        let remedy = match report.hook_mode {
            Some(_) => "leave --hook-mode away, if the kernel offers a better one".to_owned(),
            None => remedy(report, moment),
        };
        (moment.name, problem(false, lost, remedy))
    }))
}

/// One problem for all moments that have the same, with their names before it.
fn alike(problems: impl Iterator<Item = (&'static str, Problem)>) -> Vec<Problem> {
    let mut groups: Vec<(String, Problem)> = Vec::new();
    for (name, problem) in problems {
        match groups.iter_mut().find(|(_, other)| *other == problem) {
            Some((names, _)) => *names += &format!(", «{name}»"),
            None => groups.push((format!("«{name}»"), problem)),
        }
    }
    let named = |(names, problem): (String, Problem)| Problem {
        problem: format!("{names}: {}", problem.problem),
        ..problem
    };
    groups.into_iter().map(named).collect()
}

/// What would make the kernel accept what it refused.
fn remedy(report: &Report, moment: &MomentReport) -> String {
    let kernel = &report.kernel;
    let mut causes: Vec<String> = Vec::new();
    let refused = moment
        .ways
        .iter()
        .filter(|way| way.verdict == Verdict::Refused);
    for way in refused {
        let hook = way.refused_hook.as_deref().unwrap_or_default();
        let cause = mount(kernel, hook)
            .or_else(|| unset(kernel.configuration.as_ref(), way.mode))
            .unwrap_or_else(|| {
                let mode = way.mode.map(|mode| format!("{mode} mode"));
                elsewhere(report, mode.as_deref().unwrap_or(hook))
            });
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes.join("; ")
}

/// A file system whose mount would spare the tracer one of its own.
fn mount(kernel: &Facts, hook: &str) -> Option<String> {
    let mounts = &kernel.mounts;
    if hook.starts_with("tracepoint:") && mounts.tracefs.is_none() {
        Some("mount tracefs (mount -t tracefs tracefs /sys/kernel/tracing)".to_owned())
    } else if hook.starts_with("cgroup:") && mounts.cgroup2.is_none() {
        Some("mount cgroup2 (mount -t cgroup2 cgroup2 /sys/fs/cgroup)".to_owned())
    } else {
        None
    }
}

/// The options that a mode needs and that this kernel was built without.
fn unset(configuration: Option<&Configuration>, mode: Option<&str>) -> Option<String> {
    let (mode, needed) = NEEDED_BY_MODE
        .into_iter()
        .find(|(name, _)| mode == Some(name))?;
    let configuration = configuration?;
    let unset: Vec<_> = needed
        .iter()
        .filter(|name| !configuration.has(name))
        .copied()
        .collect();
    let names = unset.join(", ");
    (!unset.is_empty()).then(|| format!("{mode} mode takes a kernel built with {names}"))
}

/// What to do when nothing else that was read explains why `what` is refused.
fn elsewhere(report: &Report, what: &str) -> String {
    if missing_privileges(report).next().is_some() {
        return "grant the missing capabilities first".to_owned();
    }
    let modules = match &report.kernel.security_modules {
        Some(modules) => modules.join(", "),
        None => "unknown".to_owned(),
    };
    format!(
        "nothing read here explains why {what} is refused: look for a policy against it (active \
         security modules: {modules}) and into the kernel's log"
    )
}

fn failed_check(check: &CheckReport) -> Option<Problem> {
    let error = check.error.as_ref()?;
    Some(problem(
        true,
        format!("a session does not start: {error}"),
        "the message names what failed; nothing else is known",
    ))
}

fn blind_hooks(
    report: &Report,
    check: &CheckReport,
    degraded: bool,
) -> impl Iterator<Item = Problem> {
    let unseen = report
        .moments
        .iter()
        .filter(|moment| check.unseen.contains(&moment.moment));
    unseen.map(move |moment| {
        let hooks = moment.chosen.as_deref().unwrap_or_default().join("+");
        let other = moment
            .ways
            .iter()
            .find(|way| way.verdict == Verdict::Works)
            .and_then(|way| way.mode);
        let remedy = other.map_or_else(
            || "no other way works: --degraded goes on without it".to_owned(),
            |mode| format!("try --hook-mode {mode}, which the kernel accepts too"),
        );
        let name = moment.name;
        problem(
            !degraded,
            format!("«{name}»: {hooks} is attached and did not see the canary"),
            remedy,
        )
    })
}

fn unchecked_hooks(check: &CheckReport) -> Option<Problem> {
    check.unchecked.contains(&"connect").then(|| {
        problem(
            false,
            "no connection over loopback, so the hooks on connections are unchecked",
            "bring loopback up (ip link set lo up)",
        )
    })
}

fn losses(check: &CheckReport) -> impl Iterator<Item = Problem> {
    check.losses.iter().map(|loss| {
        let remedy = match loss.stage {
            "ring" => "give more room by --ring-size",
            "hook" => {
                "the kernel skipped a program while another ran on that CPU; look for other tracers"
            }
            _ => "report this: a record could not be understood",
        };
        let (count, unit, stage, kind) = (loss.count, loss.unit, loss.stage, loss.kind);
        problem(
            false,
            format!("lost during the check: {count} × {unit} ({stage}, {kind})"),
            remedy,
        )
    })
}

fn no_compiler(kernel: &Facts) -> Option<Problem> {
    (kernel.bpf_jit_enable == Some(0)).then(|| {
        problem(
            false,
            "kernel programs are interpreted, which is slow and excludes fentry mode",
            "sysctl net.core.bpf_jit_enable=1",
        )
    })
}

fn no_iterator(report: &Report) -> Option<Problem> {
    let reason = report.task_iterator.as_ref()?.reason.as_ref()?;
    Some(problem(
        false,
        format!(
            "the task iterator is refused ({reason}): processes older than tracer are known from \
             /proc, with start times in ticks"
        ),
        elsewhere(report, "the iterator"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::kernel::configuration::KernelOption;

    fn problems_of(change: impl FnOnce(&mut Report)) -> Vec<Problem> {
        let mut report = fixture::report();
        change(&mut report);
        problems(&report, false)
    }

    #[test]
    fn moments_with_the_same_problem_share_it() {
        let problems = problems_of(|_| ());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0]
                .problem
                .starts_with("«IPv4 connect fails early», «IPv6 connect fails early»: ")
        );
        assert!(!problems[0].essential);
    }

    #[test]
    fn a_refusal_is_explained_by_the_configuration_or_not_at_all() {
        let remedy = problems_of(|_| ()).remove(0).remedy;
        assert!(remedy.contains("why fentry mode is refused"), "{remedy}");
        assert!(
            remedy.contains("kprobe mode takes a kernel built with CONFIG_KPROBES"),
            "{remedy}"
        );
        let unknown = problems_of(|report| report.kernel.configuration = None);
        assert!(!unknown[0].remedy.contains("CONFIG_"), "{unknown:?}");
    }

    #[test]
    fn what_stops_tracer_comes_first() {
        let problems = problems_of(|report| report.privileges[0].held = Some(false));
        assert!(problems[0].essential);
        assert!(problems[0].problem.starts_with("CAP_BPF is missing"));
        assert!(problems[0].remedy.contains("CAP_BPF"));
        assert!(!problems[1].essential);
    }

    #[test]
    fn a_hook_that_is_blind_stops_tracer_unless_degraded() {
        let mut report = fixture::report();
        let check = report.check.as_mut().unwrap();
        check.unseen = vec!["connect"];
        assert!(problems(&report, false)[0].essential);
        assert!(
            !problems(&report, true)
                .iter()
                .any(|problem| problem.essential)
        );
    }

    #[test]
    fn type_information_that_was_built_in_wants_a_mount() {
        let problems = problems_of(|report| {
            report.kernel.btf_bytes = None;
            let configuration = report.kernel.configuration.as_mut().unwrap();
            configuration.options.push(KernelOption {
                name: "CONFIG_DEBUG_INFO_BTF",
                value: Some("y".to_owned()),
                purpose: "",
            });
        });
        assert!(
            problems[0].remedy.contains("mount -t sysfs"),
            "{problems:?}"
        );
    }
}
