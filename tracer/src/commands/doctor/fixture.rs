//! A report of a machine that refuses fentry and has no kprobes.

use super::report::{
    CheckReport, MomentReport, Report, SocketsReport, TaskIterator, Verdict, WayReport,
};
use crate::kernel::configuration::{Configuration, KernelOption};
use crate::kernel::facts::{Facts, Mounts};
use crate::kernel::privileges::Privilege;

pub(super) fn report() -> Report {
    Report {
        would_run: true,
        version: "1.2.3",
        hook_mode: None,
        kernel: kernel(),
        privileges: vec![Privilege {
            capability: "CAP_BPF",
            purpose: "to load programs",
            held: Some(true),
        }],
        programs_refused: None,
        moments: moments(),
        task_iterator: Some(TaskIterator {
            processes: Some(57),
            reason: None,
        }),
        check: Some(CheckReport {
            error: None,
            attach_ms: 120,
            start_ms: 150,
            seen: vec!["connect"],
            unseen: Vec::new(),
            unchecked: Vec::new(),
            sockets: SocketsReport {
                listeners: 3,
                connections: 5,
                ..SocketsReport::default()
            },
            events: 9,
            losses: Vec::new(),
        }),
        problems: Vec::new(),
    }
}

fn kernel() -> Facts {
    let option = |name, value: Option<&str>, purpose| KernelOption {
        name,
        value: value.map(str::to_owned),
        purpose,
    };
    Facts {
        release: "6.12.1".to_owned(),
        architecture: "x86_64".to_owned(),
        btf_bytes: Some(5 << 20),
        lockdown: Some("none".to_owned()),
        security_modules: Some(vec!["capability".to_owned(), "bpf".to_owned()]),
        mounts: Mounts {
            cgroup2: Some("/sys/fs/cgroup".into()),
            ..Mounts::default()
        },
        unprivileged_bpf_disabled: Some(2),
        bpf_stats_enabled: Some(0),
        bpf_jit_enable: None,
        memlock_limit_bytes: None,
        configuration: Some(Configuration {
            source: "/proc/config.gz".to_owned(),
            options: vec![
                option("CONFIG_BPF_JIT", Some("y"), "fentry mode"),
                option("CONFIG_FUNCTION_TRACER", Some("y"), "fentry mode"),
                option(
                    "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
                    Some("y"),
                    "fentry mode",
                ),
                option("CONFIG_KPROBES", None, "kprobe mode"),
            ],
        }),
    }
}

fn moments() -> Vec<MomentReport> {
    let errno = "told without their errno";
    vec![
        moment("connect", "connection opens", "tcp_connect", None),
        moment(
            "connect_error_v4",
            "IPv4 connect fails early",
            "tcp_v4_connect",
            Some(errno),
        ),
        moment(
            "connect_error_v6",
            "IPv6 connect fails early",
            "tcp_v6_connect",
            Some(errno),
        ),
    ]
}

fn moment(
    moment: &'static str,
    name: &'static str,
    function: &str,
    lost: Option<&'static str>,
) -> MomentReport {
    let refused = |mode, reason: &str| WayReport {
        mode: Some(mode),
        hooks: vec![format!("{mode}:{function}")],
        verdict: Verdict::Refused,
        refused_hook: Some(format!("{mode}:{function}")),
        reason: Some(reason.to_owned()),
    };
    let chosen = vec!["tp_btf:inet_sock_set_state".to_owned()];
    MomentReport {
        moment,
        name,
        essential: moment == "connect",
        chosen: Some(chosen.clone()),
        lost,
        ways: vec![
            // What the kernel says may hold anything.
            refused("fentry", "Operation not permitted (os error 1)\u{1b}[2J"),
            refused("kprobe", "No such file or directory (os error 2)"),
            WayReport {
                mode: Some("tracepoint"),
                hooks: chosen,
                verdict: Verdict::Chosen,
                refused_hook: None,
                reason: None,
            },
        ],
    }
}
