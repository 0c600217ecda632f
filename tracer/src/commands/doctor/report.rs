//! What the doctor found, in the form that `-o json` prints.
//!
//! In: facts, privileges, the survey of hooks and the check. Out: a [`Report`], problems included.

use serde::Serialize;

use super::advice;
use super::check::Check;
use crate::commands::VERSION;
use crate::connection::table::ConnectionCounters;
use crate::kernel::facts::Facts;
use crate::kernel::hooks::{HookMode, Moment, Point, Way};
use crate::kernel::loader::{LoadError, Options};
use crate::kernel::privileges::Privilege;
use crate::kernel::survey::{Survey, Surveyed, Trial};
use crate::observation::{Loss, LossUnit};

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether `run` with these options would work.
    pub(super) would_run: bool,
    /// Of the tracer.
    pub(super) version: &'static str,
    /// The mode that was asked for.
    pub(super) hook_mode: Option<&'static str>,
    pub(super) kernel: Facts,
    pub(super) privileges: Vec<Privilege>,
    /// Why no hook could be tried.
    pub(super) programs_refused: Option<String>,
    pub(super) moments: Vec<MomentReport>,
    pub(super) task_iterator: Option<TaskIterator>,
    pub(super) check: Option<CheckReport>,
    pub(super) problems: Vec<Problem>,
}

/// A moment and the ways to see it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MomentReport {
    /// For programs.
    pub(super) moment: &'static str,
    /// For people.
    pub(super) name: &'static str,
    pub(super) essential: bool,
    /// The hooks that serve it.
    pub(super) chosen: Option<Vec<String>>,
    /// What the chosen way does not show.
    pub(super) lost: Option<&'static str>,
    pub(super) ways: Vec<WayReport>,
}

/// A way that was tried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WayReport {
    /// `None` if it serves in every mode.
    pub(super) mode: Option<&'static str>,
    pub(super) hooks: Vec<String>,
    pub(super) verdict: Verdict,
    /// The hook that was refused.
    pub(super) refused_hook: Option<String>,
    /// The kernel's words.
    pub(super) reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Chosen,
    Works,
    Refused,
}

/// How the processes are known that are older than the tracer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TaskIterator {
    /// How many processes it showed.
    pub(super) processes: Option<usize>,
    /// The kernel's words, if it is refused.
    pub(super) reason: Option<String>,
}

/// What came of a session.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CheckReport {
    /// Why there was none.
    pub(super) error: Option<String>,
    pub(super) attach_ms: u64,
    pub(super) start_ms: u64,
    /// Names of the moments that the canary showed.
    pub(super) seen: Vec<&'static str>,
    /// Those that have a hook which did not see the canary.
    pub(super) unseen: Vec<&'static str>,
    /// Those that have a hook and were not tried.
    pub(super) unchecked: Vec<&'static str>,
    pub(super) sockets: SocketsReport,
    /// Events of the host during the check.
    pub(super) events: u64,
    pub(super) losses: Vec<LossReport>,
}

/// What a comparison with the kernel's own sockets, of every network namespace, found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct SocketsReport {
    pub(super) listeners: u64,
    pub(super) connections: u64,
    /// Connections that the hooks missed during the check.
    pub(super) missed: u64,
    /// Ends that the hooks missed.
    pub(super) stale: u64,
    /// Accepts that the hooks missed.
    pub(super) repaired: u64,
    /// Why there was no comparison.
    pub(super) reason: Option<String>,
}

/// Something that was lost during the check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LossReport {
    pub(super) stage: &'static str,
    pub(super) kind: &'static str,
    pub(super) unit: &'static str,
    pub(super) count: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Whether `run` fails by it.
    pub(super) essential: bool,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        kernel: Facts,
        privileges: Vec<Privilege>,
        survey: Result<Survey, LoadError>,
        check: Option<Check>,
    ) -> Self {
        let (survey, programs_refused) = match survey {
            Ok(survey) => (Some(survey), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let moments: Vec<_> = survey
            .iter()
            .flat_map(|survey| &survey.moments)
            .map(MomentReport::new)
            .collect();
        let mut report = Self {
            would_run: false,
            version: VERSION,
            hook_mode: options.mode.map(HookMode::name),
            kernel,
            privileges,
            programs_refused,
            check: check.map(|check| CheckReport::new(check, &moments)),
            moments,
            task_iterator: survey.map(|survey| TaskIterator::new(survey.task_iterator)),
            problems: Vec::new(),
        };
        report.problems = advice::problems(&report, options.degraded);
        report.would_run = !report.problems.iter().any(|problem| problem.essential);
        report
    }
}

impl MomentReport {
    fn new(surveyed: &Surveyed) -> Self {
        let chosen = surveyed.chosen();
        Self {
            moment: key(surveyed.moment),
            name: surveyed.moment.name(),
            essential: surveyed.moment.is_essential(),
            chosen: chosen.map(|way| hooks(surveyed.moment, &way)),
            lost: chosen.and_then(|way| lost(surveyed.moment, &way)),
            ways: surveyed
                .trials
                .iter()
                .map(|trial| WayReport::new(surveyed.moment, trial, chosen))
                .collect(),
        }
    }
}

impl WayReport {
    fn new(moment: Moment, trial: &Trial, chosen: Option<Way>) -> Self {
        let refusal = trial.refusal.as_ref();
        let verdict = match refusal {
            Some(_) => Verdict::Refused,
            None if chosen == Some(trial.way) => Verdict::Chosen,
            None => Verdict::Works,
        };
        Self {
            mode: trial.way.mode.map(HookMode::name),
            hooks: hooks(moment, &trial.way),
            verdict,
            refused_hook: refusal.map(|refusal| refusal.hook.point.to_string()),
            reason: refusal.map(|refusal| refusal.reason.clone()),
        }
    }
}

impl TaskIterator {
    fn new(result: Result<usize, String>) -> Self {
        Self {
            processes: result.as_ref().ok().copied(),
            reason: result.err(),
        }
    }
}

impl CheckReport {
    fn new(check: Check, moments: &[MomentReport]) -> Self {
        let is_blind = |moment: &Moment| check.blind.iter().any(|blind| blind.moment == *moment);
        let (unseen, seen): (Vec<Moment>, Vec<Moment>) =
            check.checked.iter().partition(|moment| is_blind(moment));
        let keys = |moments: &[Moment]| moments.iter().map(|&moment| key(moment)).collect();
        let checked: Vec<_> = keys(&check.checked);
        let unchecked = moments
            .iter()
            .filter(|moment| moment.chosen.is_some() && !checked.contains(&moment.moment));
        Self {
            attach_ms: milliseconds(check.attach_took),
            start_ms: milliseconds(check.start_took),
            seen: keys(&seen),
            unseen: keys(&unseen),
            unchecked: unchecked.map(|moment| moment.moment).collect(),
            sockets: SocketsReport::new(check.sockets),
            events: check.observations,
            losses: check.losses.iter().map(LossReport::new).collect(),
            error: check.error,
        }
    }
}

impl SocketsReport {
    fn new(compared: Result<ConnectionCounters, String>) -> Self {
        match compared {
            Ok(counters) => Self {
                listeners: counters.listeners,
                connections: counters.active_egress
                    + counters.active_ingress
                    + counters.active_unknown,
                missed: counters.compared.missed,
                stale: counters.compared.stale,
                repaired: counters.compared.repaired,
                reason: None,
            },
            Err(reason) => Self {
                reason: Some(reason),
                ..Self::default()
            },
        }
    }
}

impl LossReport {
    fn new(loss: &Loss) -> Self {
        Self {
            stage: loss.stage,
            kind: loss.kind,
            unit: match loss.unit {
                LossUnit::Record => "record",
                LossUnit::Event => "event",
                LossUnit::Packet => "packet",
            },
            count: loss.count,
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What programs call a moment.
fn key(moment: Moment) -> &'static str {
    match moment {
        Moment::Fork => "fork",
        Moment::Exec => "exec",
        Moment::Exit => "exit",
        Moment::Connect => "connect",
        Moment::Accept => "accept",
        Moment::ConnectErrorV4 => "connect_error_v4",
        Moment::ConnectErrorV6 => "connect_error_v6",
        Moment::State => "state",
        Moment::Reset => "reset",
        Moment::Cgroup => "cgroup",
        Moment::Datagram => "datagram",
        Moment::DnsStream => "dns_stream",
        Moment::RawSocket => "raw_socket",
        Moment::ClientHello => "client_hello",
    }
}

/// The hooks of a way, or what stands in for them.
fn hooks(moment: Moment, way: &Way) -> Vec<String> {
    let points = way.points(moment).into_iter();
    points.map(|point| point.to_string()).collect()
}

/// What a way shows less of than the best one.
fn lost(moment: Moment, way: &Way) -> Option<&'static str> {
    let has = |wanted: fn(Point) -> bool| way.hooks.iter().any(|hook| wanted(hook.point));
    match (moment, way.mode?) {
        (Moment::Accept, HookMode::Fentry) if has(|point| matches!(point, Point::Fexit(..))) => {
            Some("an accept that was already waiting when tracing began is not seen")
        }
        (Moment::Accept, HookMode::Kprobe) if has(|point| matches!(point, Point::Kretprobe(_))) => {
            Some(
                "an accept that was already waiting when tracing began is not seen, and one can be \
                 missed when very many are under way at once",
            )
        }
        (Moment::Accept, HookMode::Tracepoint) => Some(
            "an accept through io_uring that does not ask for the peer's address is attributed to the \
             listener's owner, as inferred",
        ),
        (Moment::ConnectErrorV4 | Moment::ConnectErrorV6, HookMode::Tracepoint) => {
            Some("attempts that fail before they begin are told without their errno")
        }
        (Moment::DnsStream, HookMode::Kprobe | HookMode::Tracepoint) => Some(
            "of a connection to a name server whose packets come out of order, what follows is unknown",
        ),
        (Moment::RawSocket, HookMode::Tracepoint) => {
            Some("raw and packet sockets are not seen if io_uring or a 32-bit program opens them")
        }
        (Moment::ClientHello, HookMode::Tracepoint) => {
            Some("a ClientHello that is sent in several packets is cut after the first")
        }
        _ => None,
    }
}
