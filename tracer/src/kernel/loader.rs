//! Loads the kernel programs and attaches them, moment by moment, the best way that works.
//!
//! In: options, the kernel's type information and the embedded object. Out: [`Attached`], which
//! holds every link, so that dropping it (or the end of the process) leaves nothing behind.

use std::{
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, RingBuf},
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkbAttachType, FEntry, FExit, KProbe, Program,
        ProgramError, TracePoint,
    },
};
use thiserror::Error;
use tracer_common::layout::{BACKUPS_IF_PREEMPTED, CGROUP_TASK_BTF, CGROUP_TASK_POINTER, Settings};

use super::{
    btf::{Btf, BtfError},
    cgroup, hooks,
    hooks::{Hook, HookMode, Moment, Point, StandIn, Way},
    layout,
    tracefs::in_private_tracefs,
    verification::{Verdicts, check_point, program},
};
use crate::{clock, event::BootTime};

/// The kernel programs, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_EBPF_OBJECT"));

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only the ways of this mode.
    pub mode: Option<HookMode>,
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Also look for TLS handshakes.
    pub tls: bool,
    /// Go on without an essential moment that cannot be seen.
    pub degraded: bool,
    /// Lowest level of the kernel programs' own messages that is passed on; 0 is none.
    pub log_level: u8,
}

/// Why the programs cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No type information.
    #[error("{0}; tracer needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted")]
    Btf(#[from] BtfError),
    /// The object or its maps are refused.
    #[error("the kernel refuses the programs' maps: {0}{advice}", advice = advice(.0))]
    Object(String),
    /// An essential moment cannot be seen.
    #[error("{0}")]
    Moment(MomentError),
}

/// What else than a capability can be missing.
fn advice(reason: &str) -> &'static str {
    if reason.contains("Operation not permitted") {
        "; if no capability is missing, a seccomp profile or another policy forbids bpf(2), or, before \
         Linux 5.11, RLIMIT_MEMLOCK is too low"
    } else {
        ""
    }
}

/// No way to see a moment works.
#[derive(Debug)]
pub struct MomentError {
    /// Which moment.
    pub moment: Moment,
    /// The mode that was asked for.
    pub mode: Option<HookMode>,
    /// Each way that was tried, and what the kernel said.
    pub refusals: Vec<Refusal>,
}

/// A hook that the kernel refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which one.
    pub hook: Hook,
    /// What the kernel said: an errno, or the last line of the verifier.
    pub reason: String,
}

impl Refusal {
    /// Debian's and Ubuntu's kernels refuse perf events to everybody else where `kernel.perf_event_paranoid` is above 2,
    /// which it is unless somebody sets it.
    fn is_of_perf_events(&self) -> bool {
        self.reason.contains("perf_event_open") && self.reason.contains("Permission denied")
    }
}

impl std::fmt::Display for MomentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this kernel offers no way to see «{}»",
            self.moment.name()
        )?;
        if let Some(mode) = self.mode {
            write!(f, " in {mode} mode")?;
        }
        for (index, refusal) in self.refusals.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{}: {}", refusal.hook.point, refusal.reason)?;
        }
        if self.refusals.iter().any(Refusal::is_of_perf_events) {
            f.write_str(
                "; this kernel lets perf_event_open(2) through only with CAP_SYS_ADMIN, as its sysctl \
                 kernel.perf_event_paranoid says",
            )?;
        }
        match self.mode {
            Some(_) => f.write_str("; try without --hook-mode, or see `tracer doctor`"),
            None => f.write_str("; see `tracer doctor`, or go on without it by --degraded"),
        }
    }
}

/// How a moment is seen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which moment.
    pub moment: Moment,
    /// The way chosen; `None` if there is none and the daemon goes on without.
    pub way: Option<Way>,
    /// What was tried before it and refused.
    pub refusals: Vec<Refusal>,
}

/// The programs at work.
pub struct Attached {
    /// Holds the programs and their links.
    pub ebpf: Ebpf,
    /// The records.
    pub ring: RingBuf<MapData>,
    /// How each moment is seen.
    pub choices: Vec<Choice>,
    /// When the last hook had been attached.
    pub complete_since: BootTime,
    /// How long loading and attaching took.
    pub took: Duration,
    /// Aya's view of the type information, for the iterators. It takes memory: not to be kept.
    pub btf: aya::Btf,
}

/// What has to be read before anything can be loaded.
pub(super) struct Groundwork {
    /// For offsets and signatures.
    pub(super) btf: Btf,
    /// The same as Aya wants it, as far as it has to look names up.
    pub(super) aya_btf: aya::Btf,
    pub(super) loader: EbpfLoader<'static>,
}

impl Groundwork {
    /// Reads the kernel's type information. Aya's loader reads all of it for itself, which takes longer than
    /// all else here: meanwhile the rest is done, and Aya is asked what the kernel can do, which it keeps.
    pub(super) fn lay() -> Result<Self, LoadError> {
        // Before Aya asks: it takes a map that may not be made for one that the kernel does not know.
        raise_memlock_limit();
        let (loader, btf, outline) = thread::scope(|scope| {
            let loader = scope.spawn(EbpfLoader::new);
            let btf = Btf::of_running_kernel()?;
            let outline = btf.outline()?;
            aya::features();
            let loader = loader.join().expect("reading does not panic");
            Ok::<_, LoadError>((loader, btf, outline))
        })?;
        // After the loader: the larger a block glibc has mapped and seen freed, the more it keeps from then on.
        // By now it puts this one, which is the largest, among all others.
        let aya_btf = aya::Btf::parse(&outline, aya::Endianness::default())
            .map_err(|error| LoadError::Object(error.to_string()))?;
        Ok(Self {
            btf,
            aya_btf,
            loader,
        })
    }
}

/// Loads and attaches.
pub fn attach(options: &Options) -> Result<Attached, LoadError> {
    let begin = Instant::now();
    let Groundwork {
        btf,
        aya_btf,
        loader,
    } = Groundwork::lay()?;
    let mut ebpf = load_object(options, &btf, loader)?;
    let ring = ebpf
        .take_map("EVENTS")
        .ok_or_else(|| LoadError::Object("the object has no map EVENTS".to_owned()))?;
    let ring = RingBuf::try_from(ring).map_err(|error| LoadError::Object(chain(&error)))?;
    let choices = Attacher::new(&mut ebpf, &btf, &aya_btf).attach_all(options)?;
    Ok(Attached {
        ebpf,
        ring,
        choices,
        complete_since: clock::boot_time(),
        took: begin.elapsed(),
        btf: aya_btf,
    })
}

/// An object none of whose programs is attached, for walks over what is there.
pub struct Unattached {
    /// Holds the programs.
    pub ebpf: Ebpf,
    /// Aya's view of the type information.
    pub btf: aya::Btf,
}

/// Loads the object and attaches nothing.
pub fn load_only() -> Result<Unattached, LoadError> {
    /// Nothing is written to it.
    const SMALLEST_RING: u32 = 4096;
    let Groundwork {
        btf,
        aya_btf,
        loader,
    } = Groundwork::lay()?;
    let options = Options {
        mode: None,
        tls: false,
        ring_bytes: SMALLEST_RING,
        degraded: false,
        log_level: 0,
    };
    Ok(Unattached {
        ebpf: load_object(&options, &btf, loader)?,
        btf: aya_btf,
    })
}

/// Loads the object; its programs come later, one by one.
pub(super) fn load_object(
    options: &Options,
    btf: &Btf,
    loader: EbpfLoader<'static>,
) -> Result<Ebpf, LoadError> {
    let layout = layout::resolve(btf)?;
    let has_task_btf = btf.parameters("bpf_get_current_task_btf")?.is_some();
    let mut settings = Settings {
        task_btf: u32::from(has_task_btf),
        cgroup_task: if has_task_btf {
            CGROUP_TASK_BTF
        } else {
            CGROUP_TASK_POINTER
        },
        backups: backups(),
        ..Settings::ZERO
    };
    layout::resolve_subreaper(btf, &mut settings)?;
    layout::resolve_exec(btf, &mut settings)?;
    layout::resolve_own_header(btf, &mut settings)?;
    layout::resolve_mptcp(btf, &mut settings);
    layout::resolve_audit(btf, &mut settings);
    layout::resolve_iter(btf, &mut settings);
    layout::resolve_pages(btf, &mut settings);
    if let Some(v1) = cgroup::V1::of_containers() {
        layout::resolve_v1(btf, &v1, &mut settings)?;
    }
    // Borrows for less than what it was made for.
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .override_global("LAYOUT", &layout, true)
        .override_global("SETTINGS", &settings, true)
        .override_global(aya_log::LEVEL, &options.log_level, false)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries(
            "SCRATCH",
            if backups() < BACKUPS_IF_PREEMPTED {
                1
            } else {
                1 + backups()
            },
        )
        .load(OBJECT)
        .map_err(|error| LoadError::Object(chain(&error)))
}

/// How many backups a program has that the kernel may skip: one for a softirq that interrupts it, and
/// from 7.0 on, where tracepoints can be preempted, one for another task.
fn backups() -> u32 {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let major = release.split('.').next().and_then(|word| word.parse().ok());
    if major.is_some_and(|major: u32| major < 7) {
        1
    } else {
        BACKUPS_IF_PREEMPTED
    }
}

/// The programs of a hook that this kernel needs.
pub(super) fn programs(hook: &Hook) -> impl Iterator<Item = &'static str> {
    let backups = match backups() {
        fewer if hook.is_among_tasks() && fewer < BACKUPS_IF_PREEMPTED => 0,
        backups => backups,
    };
    hook.programs().take(1 + backups as usize)
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK. Where it may not be raised, loading tells.
fn raise_memlock_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
}

/// Attaches programs of an object that is loaded.
pub(super) struct Attacher<'a> {
    pub(super) ebpf: &'a mut Ebpf,
    pub(super) btf: &'a Btf,
    pub(super) aya_btf: &'a aya::Btf,
    /// What has been loaded, and what was refused.
    pub(super) verdicts: Verdicts,
    root_cgroup: Option<OwnedFd>,
}

impl<'a> Attacher<'a> {
    pub(super) fn new(ebpf: &'a mut Ebpf, btf: &'a Btf, aya_btf: &'a aya::Btf) -> Self {
        Self {
            ebpf,
            btf,
            aya_btf,
            verdicts: Verdicts::default(),
            root_cgroup: None,
        }
    }

    fn attach_all(&mut self, options: &Options) -> Result<Vec<Choice>, LoadError> {
        self.load_expected(options);
        let mut stand_in = StandIn::default();
        let mut choices = Vec::new();
        for moment in Moment::wanted(options.tls) {
            let choice = self.attach_moment(moment, stand_in, options)?;
            stand_in.learn(moment, choice.way.as_ref());
            choices.push(choice);
        }
        self.unload_all_but(&choices);
        Ok(choices)
    }

    fn attach_moment(
        &mut self,
        moment: Moment,
        stand_in: StandIn,
        options: &Options,
    ) -> Result<Choice, LoadError> {
        let mut refusals = Vec::new();
        for &way in hooks::ways(moment, stand_in) {
            if !way.is_allowed(options.mode) {
                continue;
            }
            match self.attach_way(&way) {
                Ok(()) => {
                    return Ok(Choice {
                        moment,
                        way: Some(way),
                        refusals,
                    });
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        if moment.is_essential() && !options.degraded {
            return Err(LoadError::Moment(MomentError {
                moment,
                mode: options.mode,
                refusals,
            }));
        }
        Ok(Choice {
            moment,
            way: None,
            refusals,
        })
    }

    /// Attaches all hooks of a way, or none.
    pub(super) fn attach_way(&mut self, way: &Way) -> Result<(), Refusal> {
        for &hook in way.hooks {
            if let Err(reason) = self.attach_hook(hook) {
                for hook in way.hooks {
                    self.unload(hook);
                }
                return Err(Refusal { hook, reason });
            }
        }
        Ok(())
    }

    fn attach_hook(&mut self, hook: Hook) -> Result<(), String> {
        check_point(self.btf, hook.point)?;
        for name in programs(&hook) {
            self.attach_program(name, hook.point)?;
        }
        Ok(())
    }

    fn attach_program(&mut self, name: &'static str, point: Point) -> Result<(), String> {
        self.load(name, point)?;
        let program = program(self.ebpf, name)?;
        let result = match point {
            Point::BtfTracepoint(_) => attach_btf_tracepoint(program),
            Point::Fentry(_) => attach_fentry(program),
            Point::Fexit(..) => attach_fexit(program),
            Point::Kprobe(name) | Point::Kretprobe(name) => attach_kprobe(program, name),
            Point::Cgroup(name) => {
                if self.root_cgroup.is_none() {
                    let root = cgroup::open_root().map_err(|error| error.to_string())?;
                    self.root_cgroup = Some(root);
                }
                let Some(root) = &self.root_cgroup else {
                    unreachable!("opened just now")
                };
                attach_cgroup(program, name, root)
            }
            Point::Tracepoint(category, name) => attach_tracepoint(program, category, name),
        };
        result.map_err(|error| reason(&error))
    }

    /// Where a moment turned out to be seen otherwise than expected, programs may be left that nobody needs.
    fn unload_all_but(&mut self, choices: &[Choice]) {
        let ways = choices.iter().filter_map(|choice| choice.way);
        let used: Vec<_> = ways
            .flat_map(|way| way.hooks.iter().flat_map(Hook::programs))
            .collect();
        for name in self.verdicts.names() {
            if !used.contains(&name) {
                self.unload_program(name);
            }
        }
    }

    pub(super) fn unload(&mut self, hook: &Hook) {
        for program in hook.programs() {
            self.unload_program(program);
        }
    }

    fn unload_program(&mut self, program: &str) {
        self.verdicts.forget(program);
        // What is not loaded need not be unloaded: that error says nothing.
        let _ = match self.ebpf.program_mut(program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::KProbe(program)) => program.unload(),
            Some(Program::CgroupSockAddr(program)) => program.unload(),
            Some(Program::CgroupSock(program)) => program.unload(),
            Some(Program::CgroupSkb(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

fn attach_btf_tracepoint(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = program.try_into()?;
    program.attach().map(drop)
}

fn attach_fentry(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut FEntry = program.try_into()?;
    program.attach().map(drop)
}

fn attach_fexit(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut FExit = program.try_into()?;
    program.attach().map(drop)
}

fn attach_kprobe(program: &mut Program, name: &str) -> Result<(), ProgramError> {
    let program: &mut KProbe = program.try_into()?;
    program.attach(name, 0).map(drop)
}

fn attach_cgroup(program: &mut Program, name: &str, root: &OwnedFd) -> Result<(), ProgramError> {
    // Links take no flags: each is beside the others, so that programs of others stay.
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => program.attach(root, MODE).map(drop),
        Program::CgroupSock(program) => program.attach(root, MODE).map(drop),
        Program::CgroupSkb(program) => {
            let way = match name {
                "skb_ingress" => CgroupSkbAttachType::Ingress,
                _ => CgroupSkbAttachType::Egress,
            };
            program.attach(root, way, MODE).map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_tracepoint(
    program: &mut Program,
    category: &str,
    name: &str,
) -> Result<(), ProgramError> {
    let program: &mut TracePoint = program.try_into()?;
    in_private_tracefs(|| program.attach(category, name).map(drop))?
}

/// What the kernel said, on one line: the errno, and the verifier's last words if it had any.
pub(super) fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last = log
                .lines()
                .rfind(|line| !line.is_empty() && !line.starts_with("processed "))
                .unwrap_or_default();
            let separator = if last.is_empty() { "" } else { ": " };
            format!("{io_error}{separator}{last}")
        }
        other => chain(other),
    }
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
