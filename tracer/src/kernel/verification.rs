//! Has the kernel verify programs: most of what a start takes, and so many at the same time.
//!
//! In: an object that is loaded, and the mode that is asked for. Out: programs that are loaded and attached
//! nowhere, and [`Verdicts`].

use std::{fs, sync::mpsc, thread};

use aya::{
    Ebpf,
    programs::{Program, ProgramError},
};
use hashbrown::HashMap;

use super::{
    btf::Btf,
    hooks::{self, Hook, HookMode, Moment, Point, StandIn, Way},
    loader::{Attacher, Options, programs, reason},
};

/// What Aya reads to attach a kprobe, and what a kernel without them lacks.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// What the kernel said of each program that it has been given: nothing against it, or why not.
#[derive(Debug, Default)]
pub(super) struct Verdicts(HashMap<&'static str, Result<(), String>>);

impl Verdicts {
    /// Every program that there is a verdict of.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// A program has been unloaded.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// What will be attached, as far as is known, and where.
    fn expected_programs(&self, btf: &Btf, options: &Options) -> Vec<(&'static str, Point)> {
        let moments = Moment::wanted(options.tls);
        let ways = expected(moments, options.mode, |hook| self.of(btf, hook));
        let hooks = ways.iter().flat_map(|way| way.hooks);
        hooks
            .flat_map(|hook| programs(hook).map(|name| (name, hook.point)))
            .collect()
    }

    /// What is known of a hook.
    fn of(&self, btf: &Btf, hook: &Hook) -> Standing {
        let verdicts: Vec<_> = programs(hook).map(|name| self.0.get(name)).collect();
        let is_refusal = |verdict: &&Result<(), String>| verdict.is_err();
        if check_point(btf, hook.point).is_err() || verdicts.iter().flatten().any(is_refusal) {
            Standing::Refused
        } else if verdicts.contains(&None) {
            Standing::Open
        } else {
            Standing::Loaded
        }
    }
}

/// What is known of a hook before it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing yet.
    Open,
    /// All its programs are loaded.
    Loaded,
    /// It cannot be attached.
    Refused,
}

/// The ways in which `moments` will be seen, as far as `standing` tells: of each moment the first that
/// nothing is known against.
fn expected(
    moments: impl Iterator<Item = Moment>,
    mode: Option<HookMode>,
    standing: impl Fn(&Hook) -> Standing,
) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut stand_in = StandIn::default();
    let mut is_settled = true;
    for moment in moments {
        // What it has to stand in for has to be known first.
        if moment == Moment::State && !is_settled {
            continue;
        }
        let way = hooks::ways(moment, stand_in).iter().find(|way| {
            let refused = |hook| standing(hook) == Standing::Refused;
            way.is_allowed(mode) && !way.hooks.iter().any(refused)
        });
        stand_in.learn(moment, way);
        let hooks = way.map_or(&[][..], |way| way.hooks);
        if matches!(moment, Moment::Connect | Moment::Accept) {
            is_settled &= hooks.iter().all(|hook| standing(hook) == Standing::Loaded);
        }
        ways.extend(way);
    }
    ways
}

impl Attacher<'_> {
    /// Loads what is expected to be attached, all at the same time, and what is then expected wherever the
    /// kernel refuses something. It decides nothing: what is missing afterwards is loaded when it is attached.
    pub(super) fn load_expected(&mut self, options: &Options) {
        let (btf, aya_btf, verdicts) = (self.btf, self.aya_btf, &mut self.verdicts);
        let mut left: HashMap<&str, &mut Program> = self.ebpf.programs_mut().collect();
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let mut under_way = 0;
            loop {
                for (name, point) in verdicts.expected_programs(btf, options) {
                    let Some(program) = left.remove(name) else {
                        continue; // Loaded, or under way.
                    };
                    let sender = sender.clone();
                    let verify = move || sender.send((name, verify(program, point, aya_btf)));
                    let thread = thread::Builder::new().spawn_scoped(scope, verify);
                    under_way += usize::from(thread.is_ok());
                }
                if under_way == 0 {
                    return;
                }
                let (name, verdict) = receiver.recv().expect("this thread could send as well");
                verdicts.0.insert(name, verdict);
                under_way -= 1;
            }
        });
    }

    /// Loads a program, unless there is a verdict of it.
    pub(super) fn load(&mut self, name: &'static str, point: Point) -> Result<(), String> {
        let program = program(self.ebpf, name)?;
        let verdict = self.verdicts.0.entry(name);
        verdict
            .or_insert_with(|| verify(program, point, self.aya_btf))
            .clone()
    }
}

/// A program of the object.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    ebpf.program_mut(name)
        .ok_or_else(|| format!("the object has no program {name}"))
}

fn verify(program: &mut Program, point: Point, btf: &aya::Btf) -> Result<(), String> {
    let result = match (program, point) {
        (Program::BtfTracePoint(program), Point::BtfTracepoint(name)) => program.load(name, btf),
        (Program::FEntry(program), Point::Fentry(name)) => program.load(name, btf),
        (Program::FExit(program), Point::Fexit(name, _)) => program.load(name, btf),
        (Program::KProbe(program), _) => program.load(),
        (Program::CgroupSockAddr(program), _) => program.load(),
        (Program::CgroupSock(program), _) => program.load(),
        (Program::CgroupSkb(program), _) => program.load(),
        (Program::TracePoint(program), _) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    result.map_err(|error| reason(&error))
}

/// What is not worth a try: a function that is missing, or has another signature; any kprobe where there are none.
pub(super) fn check_point(btf: &Btf, point: Point) -> Result<(), String> {
    if let Point::Kprobe(_) | Point::Kretprobe(_) = point {
        fs::metadata(KPROBES).map_err(|error| format!("`{KPROBES}`: {error}"))?;
    }
    let Some(function) = point.function() else {
        return Ok(());
    };
    let parameters = btf
        .parameters(function)
        .map_err(|error| error.to_string())?;
    match (point, parameters) {
        (Point::Fexit(_, wanted), Some(has)) if wanted != has => Err(format!(
            "the function takes {has} arguments here, not {wanted}"
        )),
        // Without type information, e.g. in a module, a kprobe may still find it.
        (Point::Fentry(_) | Point::Fexit(..), None) => {
            Err("this kernel has no such function".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all programs that are expected, if `loaded` are loaded and `refused` are refused.
    fn names(mode: Option<HookMode>, loaded: &[&str], refused: &[&str]) -> Vec<&'static str> {
        let standing = |hook: &Hook| match hook.program {
            name if refused.iter().any(|prefix| name.contains(prefix)) => Standing::Refused,
            name if loaded.contains(&name) => Standing::Loaded,
            _ => Standing::Open,
        };
        let ways = expected(Moment::wanted(false), mode, standing);
        let hooks = ways.iter().flat_map(|way| way.hooks);
        hooks.map(|hook| hook.program).collect()
    }

    #[test]
    fn of_each_moment_the_first_way_that_is_not_refused_is_expected() {
        let names = names(None, &[], &["tcp_connect_fentry"]);
        assert!(names.contains(&"tcp_connect_kprobe"), "{names:?}");
        assert!(names.contains(&"security_sock_graft_fentry"), "{names:?}");
        assert!(!names.contains(&"security_sock_graft_kprobe"), "{names:?}");
    }

    #[test]
    fn state_changes_wait_until_it_is_known_what_they_stand_in_for() {
        let is_state = |name: &&str| name.starts_with("inet_sock_set_state");
        let state = |loaded: &[&str], refused: &[&str]| {
            let names = names(None, loaded, refused);
            names.into_iter().find(is_state)
        };
        let (connect, accept) = ("tcp_connect_fentry", "security_sock_graft_fentry");
        assert_eq!(state(&[], &[]), None);
        assert_eq!(state(&[connect], &[]), None);
        assert_eq!(state(&[connect, accept], &[]), Some("inet_sock_set_state"));
        // In tracepoint mode, an outbound connection has no hook of its own that could be refused.
        let refused = &["tcp_connect_"];
        assert_eq!(state(&[accept], refused), Some("inet_sock_set_state_c"));
    }

    #[test]
    fn ways_of_other_modes_are_not_expected() {
        let names = names(Some(HookMode::Kprobe), &[], &[]);
        assert!(names.contains(&"tcp_connect_kprobe"), "{names:?}");
        assert!(
            !names.iter().any(|name| name.contains("fentry")),
            "{names:?}"
        );
        assert!(names.contains(&"sched_process_exec"), "{names:?}");
    }

    #[test]
    fn client_hellos_are_not_expected_unless_asked_for() {
        let programs = |tls| {
            let ways = expected(Moment::wanted(tls), None, |_| Standing::Open);
            let hooks = ways.iter().flat_map(|way| way.hooks);
            let is_one = |hook: &&Hook| hook.program.starts_with("client_hello");
            hooks.filter(is_one).count()
        };
        assert_eq!([false, true].map(programs), [0, 1]);
    }
}
