//! A tracing session from nothing to «ready»: attach, take inventory, see whether the hooks see.
//!
//! In: options and a way to make the sinks. Out: a [`Session`] whose pipeline runs. On an error
//! nothing stays attached.

use std::{
    io,
    time::{Duration, Instant},
};

use aya::{Ebpf, maps::MapError};
use thiserror::Error;

use crate::{
    clock,
    event::{ProcessKey, Transport},
    kernel::{
        canary::Canary,
        cgroup,
        flows::Flows,
        hooks::{Moment, Point},
        inventory, iterator,
        loader::{self, Attached, Choice, LoadError, Options},
        losses::Losses,
        sockets,
    },
    listing::Holdings,
    local::server::{Ask, Told},
    observation::Sink,
    output::names::{ByFamily, HookNames},
    pipeline::{self, Pipeline},
    process::population::Population,
    state::State,
};

/// How long the hooks have for showing the canary.
const CANARY_DEADLINE: Duration = Duration::from_secs(1);

/// Why there is no session.
#[derive(Debug, Error)]
pub enum StartError {
    /// The kernel programs cannot be attached.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map cannot be used.
    #[error("cannot read the kernel programs' counters: {0}")]
    Map(#[from] MapError),
    /// Neither the iterator nor /proc tells who is there.
    #[error("cannot list the running processes: {0}")]
    Inventory(io::Error),
    /// The canary could not be made.
    #[error("cannot run a copy of tracer to check the hooks: {0}")]
    Canary(io::Error),
    /// Hooks that are attached do not see.
    #[error(
        "attached, but blind within {}s: {}; see `tracer doctor`, or go on by --degraded",
        CANARY_DEADLINE.as_secs(),
        list(.0)
    )]
    Blind(Vec<Blind>),
    /// The ring cannot be waited for.
    #[error("cannot wait for the kernel's records: {0}")]
    Ring(io::Error),
}

/// A moment that the canary should have shown.
#[derive(Clone, Debug)]
pub struct Blind {
    /// Which moment.
    pub moment: Moment,
    /// The hooks that claim to show it.
    pub hooks: String,
}

fn list(blind: &[Blind]) -> String {
    let texts: Vec<String> = blind
        .iter()
        .map(|blind| format!("«{}» by {}", blind.moment.name(), blind.hooks))
        .collect();
    texts.join(", ")
}

/// Tracing, as long as it is kept.
pub struct Session<S> {
    /// What turns records into observations.
    pub pipeline: Pipeline<S>,
    /// The programs; dropping them detaches every hook.
    pub programs: Ebpf,
    /// How each moment is seen.
    pub choices: Vec<Choice>,
    /// The tracer itself.
    pub own_key: ProcessKey,
    /// The moments that the canary was to show.
    pub checked: Vec<Moment>,
    /// Those of them that nothing showed.
    pub blind: Vec<Blind>,
    /// What to tell about the start, for people: each a sentence.
    pub remarks: Vec<String>,
    /// From the first look at the kernel to the last hook attached.
    pub attach_took: Duration,
    /// From the beginning to the canary seen.
    pub start_took: Duration,
}

/// What the sinks have to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which hook serves each moment.
    pub hooks: HookNames,
    /// The tracer itself.
    pub own_key: ProcessKey,
}

impl<S: Sink> Session<S> {
    /// Attaches, takes inventory into an empty `state`, and checks. Must run in a tokio runtime.
    pub fn start(
        options: &Options,
        mut state: State,
        sinks: impl FnOnce(Facts) -> S,
    ) -> Result<Self, StartError> {
        let begin = Instant::now();
        let mut attached = loader::attach(options)?;
        let mut remarks = refusals(&attached.choices);
        let own_key = take_inventory(&mut attached, &mut state, &mut remarks)?;
        let losses = Losses::watch(&mut attached)?;
        let flows = Flows::take(&mut attached.ebpf)?;
        let sinks = sinks(Facts {
            hooks: hook_names(&attached.choices),
            own_key,
        });
        let kernel = pipeline::Kernel {
            ring: attached.ring,
            losses,
            flows,
            complete_since: attached.complete_since,
        };
        let pipeline = Pipeline::new(kernel, state, sinks).map_err(StartError::Ring)?;
        let mut session = Self {
            pipeline,
            programs: attached.ebpf,
            choices: attached.choices,
            own_key,
            checked: Vec::new(),
            blind: Vec::new(),
            remarks,
            attach_took: attached.took,
            start_took: Duration::ZERO,
        };
        session.check(options.degraded)?;
        session.start_took = begin.elapsed();
        Ok(session)
    }

    /// Compares what the records told with the kernel's own sockets: repairs and counts what was missed.
    pub fn compare(&mut self) -> io::Result<()> {
        self.pipeline.take_all();
        if self.pipeline.state().is_comparing() {
            return Ok(()); // The last one is still being told.
        }
        let mut snapshot = sockets::snapshot(&mut self.programs)?;
        let state = self.pipeline.state();
        let suspects = state.suspects(&snapshot, sockets::EXAMINED_LIMIT);
        snapshot.examined = sockets::examine(&mut self.programs, &suspects)?;
        snapshot.complete_at = clock::boot_time();
        self.pipeline.compare(snapshot);
        Ok(())
    }

    /// Every socket of `transports` that processes have open, and who opened it.
    fn holdings(&mut self, transports: &[Transport]) -> io::Result<Holdings> {
        let held = |&transport| Ok((transport, sockets::held(&mut self.programs, transport)?));
        let found: io::Result<Vec<_>> = transports.iter().map(held).collect();
        // Records of what has been found are in the ring by now.
        self.pipeline.take_all();
        let mut holdings = Holdings::default();
        for (transport, found) in found? {
            holdings.add(transport, found, self.pipeline.state());
        }
        Ok(holdings)
    }

    /// What other commands ask for.
    pub fn tell(&mut self, ask: &Ask) -> io::Result<Told> {
        let holdings = self.holdings(&ask.transports)?;
        let population = if ask.processes {
            self.pipeline.state().population()
        } else {
            Population::default()
        };
        Ok(Told {
            holdings,
            population,
        })
    }

    /// Releases the canary and looks for it in the ring.
    fn check(&mut self, degraded: bool) -> Result<(), StartError> {
        let hooked = self.choices.iter().filter(|choice| choice.way.is_some());
        let canary = Canary::release(self.own_key.tgid, hooked.map(|choice| choice.moment))
            .map_err(StartError::Canary)?;
        if let Some(error) = &canary.no_loopback {
            self.remarks.push(format!(
                "no connection over loopback ({error}), so the hooks on connections are unchecked"
            ));
        }
        self.checked = canary.waiting().to_vec();
        self.pipeline.watch_for(canary);
        let deadline = Instant::now() + CANARY_DEADLINE;
        while self.is_waiting() && Instant::now() < deadline {
            self.pipeline.take_all();
            std::thread::sleep(Duration::from_millis(1));
        }
        let Some(canary) = self.pipeline.take_canary() else {
            return Ok(());
        };
        let blind: Vec<Blind> = canary
            .waiting()
            .iter()
            .map(|&moment| self.blind(moment))
            .collect();
        if blind.is_empty() {
            return Ok(());
        }
        self.blind.clone_from(&blind);
        let error = StartError::Blind(blind);
        if !degraded {
            return Err(error);
        }
        self.remarks.push(error.to_string());
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.pipeline
            .canary()
            .is_some_and(|canary| !canary.waiting().is_empty())
    }

    fn blind(&self, moment: Moment) -> Blind {
        let choice = self.choices.iter().find(|choice| choice.moment == moment);
        Blind {
            moment,
            hooks: choice.map_or_else(String::new, describe),
        }
    }
}

fn take_inventory(
    attached: &mut Attached,
    state: &mut State,
    remarks: &mut Vec<String>,
) -> Result<ProcessKey, StartError> {
    let taken_at = clock::boot_time();
    let inventory =
        match iterator::load(&mut attached.ebpf, &attached.btf, "existing_tasks", "task") {
            Ok(iterator) => inventory::from_iterator(iterator),
            Err(refusal) => {
                remarks.push(format!(
                "task iterator refused ({refusal}): processes that are older than tracer are known \
                 from /proc, with start times in ticks"
            ));
                inventory::from_proc()
            }
        };
    let inventory = inventory.map_err(StartError::Inventory)?;
    // After the processes: where each of them is, or was until it was moved, is then listed.
    for (id, path) in cgroup::list() {
        state.cgroup(id, &path);
    }
    state.inventory(taken_at, inventory.processes);
    let sockets = sockets::load(&mut attached.ebpf, &attached.btf)
        .map_err(io::Error::other)
        .and_then(|()| sockets::snapshot(&mut attached.ebpf));
    match sockets {
        Ok(snapshot) => state.compare(snapshot),
        Err(error) => remarks.push(format!(
            "file iterator refused ({error}): connections and listeners that are older than tracer \
             cannot be told, nor what the hooks miss, and open connections have no live totals"
        )),
    }
    Ok(inventory.own_key)
}

/// Moments that will be missing, each a sentence.
fn refusals(choices: &[Choice]) -> Vec<String> {
    choices
        .iter()
        .filter(|choice| choice.way.is_none())
        .map(|choice| {
            let refusal = choice.refusals.last();
            let reason = refusal.map_or("no hook for it in this mode", |last| &last.reason);
            format!("«{}» will not be seen: {reason}", choice.moment.name())
        })
        .collect()
}

/// The hooks of a choice, e.g. `fentry:tcp_connect`.
pub fn describe(choice: &Choice) -> String {
    let Some(way) = choice.way else {
        return "nothing".to_owned();
    };
    let points = way.points(choice.moment).into_iter();
    let points: Vec<String> = points.map(|point| point.to_string()).collect();
    points.join("+")
}

/// What `tracer.hook` says for each opening.
fn hook_names(choices: &[Choice]) -> HookNames {
    let choice = |moment| choices.iter().find(|choice| choice.moment == moment);
    let nth = |moment, wanted: fn(Point) -> bool, index| {
        let way = choice(moment).and_then(|choice| choice.way);
        let hooks = way.map_or(&[][..], |way| way.hooks).iter();
        let hook = hooks.filter(|hook| wanted(hook.point)).nth(index);
        hook.map_or_else(String::new, |hook| hook.point.to_string())
    };
    let cgroup = |point| matches!(point, Point::Cgroup(_));
    let not_cgroup = |point| !matches!(point, Point::Cgroup(_));
    let by_family = |wanted| ByFamily {
        ipv4: nth(Moment::ConnectErrorV4, wanted, 0),
        ipv6: nth(Moment::ConnectErrorV6, wanted, 0),
    };
    let at_accept = |point| !matches!(point, Point::Cgroup(_) | Point::Tracepoint(..));
    let of_datagrams = |ipv4: &str, ipv6: &str, packets: &str| {
        // One cgroup program sees all packets of a direction.
        let name = |function: &str| {
            let way = choice(Moment::Datagram).and_then(|choice| choice.way);
            let points = way
                .map_or(&[][..], |way| way.hooks)
                .iter()
                .map(|hook| hook.point);
            let is_it = |point: &Point| match point {
                Point::Cgroup(name) => *name == packets,
                point => point.function() == Some(function),
            };
            let hook = points.into_iter().find(is_it);
            hook.map_or_else(String::new, |point| point.to_string())
        };
        ByFamily {
            ipv4: name(ipv4),
            ipv6: name(ipv6),
        }
    };
    let sent = |ipv4, ipv6| of_datagrams(ipv4, ipv6, "skb_egress");
    let received = |function| of_datagrams(function, function, "skb_ingress").ipv4;
    HookNames {
        connect: choice(Moment::Connect).map_or_else(String::new, describe),
        accept: nth(Moment::Accept, at_accept, 0),
        accept_exit: nth(
            Moment::Accept,
            |point| matches!(point, Point::Tracepoint(..)),
            0,
        ),
        // The way's cgroup programs stand in this order.
        peer_name: ByFamily {
            ipv4: nth(Moment::Accept, cgroup, 0),
            ipv6: nth(Moment::Accept, cgroup, 1),
        },
        connect_error: by_family(not_cgroup),
        attempt: by_family(cgroup),
        state: nth(Moment::State, |_| true, 0),
        inventory: "iter:task_file".to_owned(),
        datagram_sent: sent("ip_send_skb", "ip6_send_skb"),
        datagram_received: received("skb_consume_udp"),
        packet_sent: sent("ip_push_pending_frames", "ip6_push_pending_frames"),
        packet_written: sent("raw_sendmsg", "rawv6_sendmsg"),
        packet_received: received("skb_free_datagram"),
    }
}
