//! The report for people: short sections of aligned columns.

use super::report::{
    CheckReport, MomentReport, Report, SocketsReport, TaskIterator, Verdict, WayReport,
};
use crate::kernel::btf::VMLINUX;
use crate::kernel::configuration::KernelOption;
use crate::kernel::facts::Facts;
use crate::kernel::privileges::Privilege;
use crate::output::compact::paint::{Painter, Style};
use crate::output::text::write_terminal;

/// The report, with or without colours.
pub(super) fn render(report: &Report, color: bool) -> Vec<u8> {
    let mut page = Page::new(color);
    let (version, kernel) = (report.version, &report.kernel);
    let (release, architecture) = (&kernel.release, &kernel.architecture);
    page.line(&[plain(format!(
        "tracer {version} on Linux {release}, {architecture}"
    ))]);
    page.section("Kernel", &about_kernel(kernel));
    let (title, rows) = configuration(kernel);
    page.section(&title, &rows);
    page.section("Privileges", &privileges(report));
    match &report.programs_refused {
        Some(refusal) => page.section("Hooks", &[vec![bad("refused"), plain(refusal)]]),
        None => {
            let rows: Vec<_> = report.moments.iter().flat_map(moment).collect();
            page.section("Hooks", &rows);
        }
    }
    if let Some(check) = &report.check {
        page.section("Check", &about_check(report, check));
    }
    problems(&mut page, report);
    page.text
}

fn about_kernel(kernel: &Facts) -> Vec<Row> {
    let mounts = &kernel.mounts;
    let mount = |point: &Option<std::path::PathBuf>, without: &str| match point {
        Some(point) => plain(point.display().to_string()),
        None => plain(format!("not mounted: {without}")),
    };
    let btf = kernel.btf_bytes.map_or_else(
        || bad(format!("none at {VMLINUX}")),
        |bytes| plain(format!("{VMLINUX}, {} KiB", bytes / 1024)),
    );
    let modules = kernel.security_modules.as_ref();
    let mut rows = vec![
        vec![plain("type information"), btf],
        vec![plain("lockdown"), known(kernel.lockdown.as_deref())],
        vec![
            plain("security modules"),
            known(modules.map(|names| names.join(", ")).as_deref()),
        ],
        vec![
            plain("tracefs"),
            mount(
                &mounts.tracefs,
                "tracer mounts its own, given CAP_SYS_ADMIN",
            ),
        ],
        vec![
            plain("cgroup2"),
            mount(
                &mounts.cgroup2,
                "tracer mounts its own, given CAP_SYS_ADMIN",
            ),
        ],
        vec![plain("bpffs"), mount(&mounts.bpffs, "not needed")],
        vec![
            plain("securityfs"),
            mount(
                &mounts.securityfs,
                "tracer mounts its own, given CAP_SYS_ADMIN",
            ),
        ],
    ];
    rows.extend(settings(kernel));
    rows
}

fn settings(kernel: &Facts) -> Vec<Row> {
    let number = |value: Option<u32>| known(value.map(|value| value.to_string()).as_deref());
    let setting = |name, value, meaning| {
        let (style, text) = number(value);
        vec![plain(name), (style, format!("{text} ({meaning})"))]
    };
    let limit = kernel
        .memlock_limit_bytes
        .map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    let meaning = if kernel.counts_memlock() {
        "tracer raises it where it may"
    } else {
        "does not matter from 5.11 on"
    };
    vec![
        setting(
            "unprivileged_bpf_disabled",
            kernel.unprivileged_bpf_disabled,
            "does not matter to whoever has CAP_BPF",
        ),
        setting(
            "bpf_stats_enabled",
            kernel.bpf_stats_enabled,
            "1 gives the metric tracer_bpf_program_runs_total, at some cost a run",
        ),
        setting(
            "bpf_jit_enable",
            kernel.bpf_jit_enable,
            "0 means slow, and no fentry",
        ),
        vec![
            plain("RLIMIT_MEMLOCK"),
            plain(format!("{limit} ({meaning})")),
        ],
    ]
}

fn configuration(kernel: &Facts) -> (String, Vec<Row>) {
    let Some(configuration) = &kernel.configuration else {
        let release = &kernel.release;
        let row = vec![plain(format!(
            "unknown: neither /proc/config.gz nor /boot/config-{release} can be read"
        ))];
        return ("Configuration".to_owned(), vec![row]);
    };
    let row = |option: &KernelOption| {
        let value = option
            .value
            .as_deref()
            .map_or_else(|| bad("not set"), plain);
        vec![plain(option.name), value, faint(option.purpose)]
    };
    let title = format!("Configuration ({})", configuration.source);
    (title, configuration.options.iter().map(row).collect())
}

fn privileges(report: &Report) -> Vec<Row> {
    let row = |privilege: &Privilege| {
        let held = match privilege.held {
            Some(true) => good("held"),
            Some(false) => bad("missing"),
            None => plain("unknown"),
        };
        vec![plain(privilege.capability), held, faint(privilege.purpose)]
    };
    report.privileges.iter().map(row).collect()
}

/// A row for each hook of the ways that work, one for each refusal.
fn moment(moment: &MomentReport) -> Vec<Row> {
    let mut rows: Vec<Row> = moment.ways.iter().flat_map(way).collect();
    if rows.is_empty() {
        rows.push(vec![bad("none"), plain("no hook for it in this mode")]);
    }
    for (index, row) in rows.iter_mut().enumerate() {
        row.insert(0, plain(if index == 0 { moment.name } else { "" }));
    }
    rows
}

fn way(way: &WayReport) -> Vec<Row> {
    let verdict = match way.verdict {
        Verdict::Chosen => good("chosen"),
        Verdict::Works => plain("works too"),
        Verdict::Refused => {
            let hook = way.refused_hook.as_deref().unwrap_or_default();
            let reason = way.reason.as_deref().unwrap_or_default();
            return vec![vec![bad("refused"), plain(hook), faint(reason)]];
        }
    };
    let mut rows: Vec<Row> = Vec::new();
    for hook in &way.hooks {
        let label = if rows.is_empty() {
            verdict.clone()
        } else {
            plain("")
        };
        rows.push(vec![label, plain(hook)]);
    }
    rows
}

fn about_check(report: &Report, check: &CheckReport) -> Vec<Row> {
    if let Some(error) = &check.error {
        return vec![vec![bad("failed"), plain(error)]];
    }
    let names = |keys: &[&str]| {
        let named = report
            .moments
            .iter()
            .filter(|moment| keys.contains(&moment.moment));
        named
            .map(|moment| moment.name)
            .collect::<Vec<_>>()
            .join(" · ")
    };
    let mut rows = vec![
        vec![
            plain("attached in"),
            plain(format!("{} ms", check.attach_ms)),
        ],
        vec![plain("ready in"), plain(format!("{} ms", check.start_ms))],
        vec![plain("canary seen"), good(names(&check.seen))],
    ];
    if !check.unseen.is_empty() {
        rows.push(vec![plain("not seen"), bad(names(&check.unseen))]);
    }
    if !check.unchecked.is_empty() {
        rows.push(vec![plain("not checked"), plain(names(&check.unchecked))]);
    }
    rows.extend(report.task_iterator.as_ref().map(processes));
    rows.push(vec![plain("sockets"), sockets(&check.sockets)]);
    let lost: u64 = check.losses.iter().map(|loss| loss.count).sum();
    let lost = match lost {
        0 => good("nothing"),
        count => bad(format!("{count} records or events")),
    };
    rows.push(vec![plain("lost"), lost]);
    rows
}

fn processes(iterator: &TaskIterator) -> Row {
    let known = match (iterator.processes, &iterator.reason) {
        (Some(count), _) => plain(format!("{count} older ones, exactly, by the task iterator")),
        (None, reason) => bad(format!(
            "older ones by /proc, start times in ticks; task iterator refused: {}",
            reason.as_deref().unwrap_or("unknown")
        )),
    };
    vec![plain("processes"), known]
}

/// What the comparison with the kernel's own sockets found.
fn sockets(found: &SocketsReport) -> Cell {
    let SocketsReport {
        listeners,
        connections,
        missed,
        stale,
        repaired,
        reason,
    } = found;
    if let Some(reason) = reason {
        return bad(format!(
            "older ones are not told, and what the hooks miss is not found: {reason}"
        ));
    }
    let there = format!(
        "{listeners} listening, {connections} connected, in every network namespace; by comparison \
         {missed} missed, {stale} stale, {repaired} repaired"
    );
    if missed + stale + repaired == 0 {
        good(there)
    } else {
        bad(there)
    }
}

fn problems(page: &mut Page, report: &Report) {
    if !report.problems.is_empty() {
        page.heading("Problems");
    }
    let mut problems = report.problems.iter().peekable();
    while let Some(problem) = problems.next() {
        let (mark, style) = if problem.essential {
            ("!", Style::Bad)
        } else {
            ("-", Style::Plain)
        };
        page.line(&[(style, format!("  {mark} {}", problem.problem))]);
        // One remedy for several problems is told once, after the last of them.
        if problems
            .peek()
            .is_none_or(|next| next.remedy != problem.remedy)
        {
            page.line(&[faint(format!("    → {}", problem.remedy))]);
        }
    }
    let verdict = if report.would_run {
        good("tracer runs here")
    } else {
        bad("tracer would not run here")
    };
    page.line(&[]);
    page.line(&[verdict]);
}

/// Text and how it looks.
type Cell = (Style, String);

/// Cells that stand beside one another.
type Row = Vec<Cell>;

fn plain(text: impl Into<String>) -> Cell {
    (Style::Plain, text.into())
}

fn faint(text: impl Into<String>) -> Cell {
    (Style::Faint, text.into())
}

fn good(text: impl Into<String>) -> Cell {
    (Style::Good, text.into())
}

fn bad(text: impl Into<String>) -> Cell {
    (Style::Bad, text.into())
}

fn known(text: Option<&str>) -> Cell {
    plain(text.unwrap_or("unknown"))
}

/// Text that grows downwards. Nothing on it is obeyed by a terminal but our own colours.
struct Page {
    text: Vec<u8>,
    painter: Painter,
}

impl Page {
    fn new(color: bool) -> Self {
        Self {
            text: Vec::new(),
            painter: Painter::new(color),
        }
    }

    fn heading(&mut self, title: &str) {
        self.line(&[]);
        self.line(&[(Style::Strong, title.to_owned())]);
    }

    fn line(&mut self, cells: &[Cell]) {
        for (style, text) in cells {
            let text = safe(text);
            self.painter.paint(*style, text.as_bytes(), &mut self.text);
        }
        self.text.push(b'\n');
    }

    /// A heading and rows whose columns are aligned; the last cell of a row may be of any width.
    fn section(&mut self, title: &str, rows: &[Row]) {
        self.heading(title);
        let mut widths = Vec::new();
        for row in rows {
            let aligned = row.len().saturating_sub(1);
            widths.resize(widths.len().max(aligned), 0);
            for (width, (_, text)) in widths.iter_mut().zip(&row[..aligned]) {
                *width = (*width).max(safe(text).chars().count());
            }
        }
        for row in rows {
            let mut line = Vec::new();
            for (index, (style, text)) in row.iter().enumerate() {
                line.push(plain("  "));
                line.push((*style, text.clone()));
                if index + 1 < row.len() {
                    let width = safe(text).chars().count();
                    line.push(plain(" ".repeat(widths[index] - width)));
                }
            }
            self.line(&line);
        }
    }
}

/// Without anything that a terminal would obey.
fn safe(text: &str) -> String {
    let mut safe = Vec::new();
    write_terminal(text.as_bytes(), &mut safe);
    String::from_utf8_lossy(&safe).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{advice, fixture};
    use super::*;

    fn rendered(color: bool) -> String {
        let mut report = fixture::report();
        report.problems = advice::problems(&report, false);
        String::from_utf8(render(&report, color)).unwrap()
    }

    #[test]
    fn a_report_reads_well() {
        let expected = "\
tracer 1.2.3 on Linux 6.12.1, x86_64

Kernel
  type information           /sys/kernel/btf/vmlinux, 5120 KiB
  lockdown                   none
  security modules           capability, bpf
  tracefs                    not mounted: tracer mounts its own, given CAP_SYS_ADMIN
  cgroup2                    /sys/fs/cgroup
  bpffs                      not mounted: not needed
  securityfs                 not mounted: tracer mounts its own, given CAP_SYS_ADMIN
  unprivileged_bpf_disabled  2 (does not matter to whoever has CAP_BPF)
  bpf_stats_enabled          0 (1 gives the metric tracer_bpf_program_runs_total, at some cost a run)
  bpf_jit_enable             unknown (0 means slow, and no fentry)
  RLIMIT_MEMLOCK             unlimited (does not matter from 5.11 on)

Configuration (/proc/config.gz)
  CONFIG_BPF_JIT                           y        fentry mode
  CONFIG_FUNCTION_TRACER                   y        fentry mode
  CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS  y        fentry mode
  CONFIG_KPROBES                           not set  kprobe mode

Privileges
  CAP_BPF  held  to load programs

Hooks
  connection opens          refused  fentry:tcp_connect     Operation not permitted (os error 1)\\u{1b}[2J
";
        let text = rendered(false);
        assert_eq!(&text[..expected.len().min(text.len())], expected);
        assert!(text.ends_with("\n\ntracer runs here\n"), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colored = rendered(true);
        assert!(colored.contains("\u{1b}[32mchosen\u{1b}[0m"), "{colored}");
        let mut bare = colored;
        for code in ["0", "1", "2", "31", "32"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(bare, rendered(false));
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let text = rendered(false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
}
