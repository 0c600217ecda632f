//! What `run` and `trace` share: the one place that wires everything together.
//!
//! Build: whatever can fail without privileges comes first, so that nothing is attached for nothing.
//! Spawn: attach, check, say «ready». Drain: detach, take in the rest, write it out.

use std::{
    io::{self, Write as _},
    process::Child,
    sync::atomic::Ordering,
    time::Duration,
};

use hashbrown::HashMap;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::launch::{self, Launched};
use crate::{
    clock::{self, WallOffset},
    config::{Config, DetectConfig, SocketConfig},
    configuration::Configuration,
    detect::{Engine, sink::Detecting},
    event::{Close, ProcessKey, SocketId, Transport},
    failure::Failure,
    file::examiner::ExaminerSink,
    filter::Filter,
    history::{HistorySink, store},
    host::Host,
    http::Bound,
    kernel::{self, netns, privileges, sockets},
    local,
    metrics::{self, Metrics, MetricsSink},
    observation::{Observation, Sink},
    output::{
        Context,
        names::HookNames,
        sink::LineSink,
        users::Users,
        writer::{Chunks, Writer},
    },
    session::{Facts, Session, StartError, describe},
    state::{Limits, State},
    supervision::{self, Supervision},
};

/// How often losses are read, gauges set, and held outcomes released although nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// How often the totals of open connections are read for the metrics, in ticks.
const SAMPLE: u64 = 10;

/// When the state is first compared with the kernel's own sockets, in ticks: soon, for what the attaching of
/// the hooks overlapped with.
const FIRST_COMPARISON: u64 = 1;

/// How long the reader of the output has for the rest.
const FINISH: Duration = Duration::from_secs(4);

/// No process has this key.
const NOBODY: ProcessKey = ProcessKey {
    tgid: 0,
    start_ns: u64::MAX,
};

/// Where observations go.
struct Sinks {
    lines: LineSink,
    metrics: MetricsSink,
    /// `None` if executed files are not to be read.
    files: Option<ExaminerSink>,
    /// `None` if nothing is to be kept.
    history: Option<HistorySink>,
}

impl Sink for Sinks {
    fn observe(&mut self, observation: &Observation<'_>) {
        // First: an exec may take away what was known of a content, of which no line is to tell then.
        if let Some(files) = &mut self.files {
            files.observe(observation);
        }
        self.lines.observe(observation);
        self.metrics.observe(observation);
        if let Some(history) = &mut self.history {
            history.observe(observation);
        }
    }

    fn flush(&mut self) {
        self.lines.flush();
        self.metrics.flush();
        if let Some(files) = &mut self.files {
            files.flush();
        }
        if let Some(history) = &mut self.history {
            history.flush();
        }
    }

    fn has_room(&self) -> bool {
        self.lines.has_room()
    }
}

/// Runs until a signal, the timeout, the command's end or the reader's going away.
pub(super) fn live(config: Config) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?
        .block_on(trace(config))
}

async fn trace(config: Config) -> Result<(), Failure> {
    require_privileges()?;
    let mut ends = Ends::install(config.timeout)
        .map_err(|error| Failure::failed(format_args!("cannot wait for signals: {error}")))?;
    let (chunks, mut writer) =
        Writer::spawn(config.output.target.clone()).map_err(Failure::failed)?;
    let bound = config
        .metrics
        .as_ref()
        .map(|metrics| Bound::bind(metrics.listen))
        .transpose();
    let bound = bound.map_err(Failure::failed)?;
    let named = config
        .metrics
        .as_ref()
        .map_or(&[][..], |metrics| &metrics.processes);
    let (metrics, metrics_sink) =
        metrics::metrics(named, Filter::default()).map_err(Failure::failed)?;
    let server = bound
        .map(|bound| bound.serve(metrics.registry().clone()))
        .transpose();
    let server = server.map_err(Failure::failed)?;
    let mut local = serve_local(config.socket.as_ref())?;

    let offset = WallOffset::measure();
    let files = examiner(&config, &offset)?;
    let state = State::new(Limits::default()).masking(config.secrets.clone());
    let mut failed = None;
    let mut session = Session::start(&config.capture, state, |facts| {
        let history = history(&config, &facts, &offset).unwrap_or_else(|failure| {
            failed = Some(failure);
            None
        });
        sinks(
            &config,
            facts,
            &offset,
            chunks,
            metrics_sink,
            files,
            history,
        )
    })
    .map_err(start_failure)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if config.capture.log_level > 0 {
        kernel::log::pass_on(&mut session.programs).map_err(Failure::failed)?;
    }
    let launched = Launched::start(&config.command, &mut session)?;
    if let Some(launched) = &launched {
        show_only(session.pipeline.sinks(), launched.key());
    }
    session.pipeline.sinks().inner().lines.release();
    tell_ready(&session);
    if let Some(launched) = launched {
        ends.command = Some(launched.release()?);
    }
    if let Some(server) = &server {
        server.readiness().ready();
    }

    let ended = run(
        &mut session,
        &mut ends,
        &mut writer,
        &mut local,
        &metrics,
        &offset,
        &config,
    )
    .await;
    supervision::stopping();
    drop(local);
    tell_history_losses(&mut session);
    // Before the hooks go: they go one by one, and what some still see then is half a story.
    let sinks = session.pipeline.finish();
    drop(session.programs);
    if let Some(server) = server {
        server.stop(Duration::from_millis(200)).await;
    }
    if let Ok(sinks) = sinks.map(Detecting::into_inner) {
        sinks.lines.close();
        if let Some(history) = sinks.history {
            history.close(FINISH);
        }
    }
    ended.and_then(|()| writer.finish(FINISH).map_err(Failure::failed))
}

/// The loop: records as they come, a tick a second, and whatever ends it.
async fn run(
    session: &mut Session<Detecting<Sinks>>,
    ends: &mut Ends,
    writer: &mut Writer,
    local: &mut Option<local::server::Server>,
    metrics: &Metrics,
    offset: &WallOffset,
    config: &Config,
) -> Result<(), Failure> {
    let mut rounds = Rounds {
        tick: 0,
        comparison: config.comparison.as_secs().max(1),
        samples: config.metrics.is_some(),
        supervision: Supervision::begin(),
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            turned = session.pipeline.turn() => turned.map_err(|error| {
                Failure::failed(format_args!("cannot read the kernel's records: {error}"))
            })?,
            _ = ticks.tick() => {
                offset.renew();
                tick(session, metrics)?;
                rounds.take(session, metrics);
            }
            Some(ask) = next(local) => {
                // Whoever asked may have gone away.
                let told = session.tell(&ask);
                let _ = ask.reply.send(told);
            }
            ended = writer.ended() => return ended.map_err(Failure::failed),
            next = ends.next() => match next {
                Next::End(reason) => return reason,
                Next::Reload => {
                    writer.reopen();
                    reload(session, config.detect.as_ref());
                }
            },
        }
    }
}

fn history(
    config: &Config,
    facts: &Facts,
    offset: &WallOffset,
) -> Result<Option<HistorySink>, Failure> {
    let start = |options: &store::Options| {
        let mut context = context(facts.hooks.clone(), offset);
        HistorySink::start(options.clone(), &mut context, Filter::default())
    };
    let history = config.history.as_ref().map(start).transpose();
    history.map_err(|error| {
        Failure::failed(format_args!(
            "cannot start the thread that writes the history: {error}; --history off goes without"
        ))
    })
}

fn examiner(config: &Config, offset: &WallOffset) -> Result<Option<ExaminerSink>, Failure> {
    let start = |options| ExaminerSink::start(options, Filter::default(), offset.clone());
    let examiner = config.files.map(start).transpose();
    examiner.map_err(|error| {
        Failure::failed(format_args!(
            "cannot start the thread that reads executed files: {error}; --hash-limit off goes without"
        ))
    })
}

/// Listens for other commands. That nobody can ask is a failure only where it was asked for.
fn serve_local(config: Option<&SocketConfig>) -> Result<Option<local::server::Server>, Failure> {
    let Some(config) = config else {
        return Ok(None);
    };
    let server = local::server::Bound::bind(&config.path, config.group)
        .and_then(local::server::Bound::serve);
    match server {
        Ok(server) => Ok(Some(server)),
        Err(error) if config.is_required => Err(Failure::failed(error)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "tracer: note: {error}");
            Ok(None)
        }
    }
}

async fn next(local: &mut Option<local::server::Server>) -> Option<local::server::Ask> {
    match local {
        Some(server) => server.next().await,
        None => std::future::pending().await,
    }
}

fn tick(session: &mut Session<Detecting<Sinks>>, metrics: &Metrics) -> Result<(), Failure> {
    tell_history_losses(session);
    session.pipeline.sinks().advance(clock::boot_time());
    let counters = session.pipeline.tick().map_err(|error| {
        Failure::failed(format_args!(
            "cannot read the kernel programs' counters: {error}"
        ))
    })?;
    metrics.update(&counters);
    metrics.shed(
        session
            .pipeline
            .sinks()
            .inner()
            .lines
            .shed_total()
            .load(Ordering::Relaxed),
    );
    if let Some(files) = &session.pipeline.sinks().inner().files {
        metrics.files_examined(files.counts());
    }
    for runs in session.pipeline.losses().runs() {
        metrics.program_runs(runs.hook, runs.count);
    }
    Ok(())
}

fn tell_history_losses(session: &mut Session<Detecting<Sinks>>) {
    let history = session.pipeline.sinks().inner().history.as_mut();
    if let Some(loss) = history.and_then(HistorySink::take_loss) {
        session.pipeline.lost(loss);
    }
}

/// What is done at some ticks only.
struct Rounds {
    tick: u64,
    /// How often to compare with the kernel's own sockets, in ticks.
    comparison: u64,
    /// Whether there is someone to see samples.
    samples: bool,
    supervision: Supervision,
}

impl Rounds {
    fn take(&mut self, session: &mut Session<Detecting<Sinks>>, metrics: &Metrics) {
        let every = |ticks: u64| self.tick > 0 && self.tick.is_multiple_of(ticks);
        if self.tick == FIRST_COMPARISON || every(self.comparison) {
            // Where the iterators are refused, the start has said so.
            let _ = session.compare();
        }
        if self.samples && every(SAMPLE) {
            sample(session, metrics);
        }
        self.supervision.alive();
        self.tick += 1;
    }
}

/// Adds to the metrics what open connections have carried so far. Where the iterator is refused, the
/// bytes are counted when connections close.
fn sample(session: &mut Session<Detecting<Sinks>>, metrics: &Metrics) {
    let own_key = Some(session.own_key);
    let open = session.pipeline.state().open_connections();
    let mut open = open
        .filter(|connection| connection.owner != own_key)
        .peekable();
    if open.peek().is_none() {
        return;
    }
    let held = sockets::held(&mut session.programs, Transport::Tcp).unwrap_or_default();
    let totals: HashMap<SocketId, Close> = held
        .into_iter()
        .map(|held| (held.close.socket, held.close))
        .collect();
    metrics.sample(open.map(|connection| {
        let close = totals.get(&connection.socket);
        // Another address means that the socket's memory is another connection's by now.
        let same = close.filter(|close| close.endpoints.remote == connection.endpoints.remote);
        (connection.id, same.and_then(|close| close.totals))
    }));
}

fn sinks(
    config: &Config,
    facts: Facts,
    offset: &WallOffset,
    chunks: Chunks,
    mut metrics: MetricsSink,
    mut files: Option<ExaminerSink>,
    mut history: Option<HistorySink>,
) -> Detecting<Sinks> {
    // Until the command's process is known, nobody's events are shown.
    let scope = Filter {
        hidden: (!config.include_self).then_some(facts.own_key),
        only_tree: (!config.command.is_empty()).then_some(NOBODY),
        ..Filter::hiding(facts.own_key)
    };
    let filter = Filter {
        hidden: scope.hidden,
        only_tree: scope.only_tree,
        ..config.filter.clone()
    };
    if let Some(files) = &mut files {
        files.filter_mut().clone_from(&scope);
    }
    if let Some(history) = &mut history {
        history.filter_mut().clone_from(&scope);
    }
    *metrics.filter_mut() = scope.clone();
    let mut lines = config
        .output
        .sink(context(facts.hooks, offset), filter, chunks);
    lines.hold();
    let sinks = Sinks {
        lines,
        metrics,
        files,
        history,
    };
    let detect = config.detect.as_ref();
    let engine = detect.map(|detect| Engine::new(detect.settings.clone()));
    Detecting::new(sinks, engine, scope)
}

fn context(hooks: HookNames, offset: &WallOffset) -> Context {
    Context {
        host: Host::read(),
        offset: offset.clone(),
        hooks,
        users: Users::of_host(),
        netns: netns::Names::of_host(),
    }
}

/// From now on only what a command does is told.
fn show_only(sinks: &mut Detecting<Sinks>, tree: ProcessKey) {
    sinks.filter_mut().only_tree = Some(tree);
    let sinks = sinks.inner();
    sinks.lines.filter_mut().only_tree = Some(tree);
    sinks.metrics.filter_mut().only_tree = Some(tree);
    if let Some(files) = &mut sinks.files {
        files.filter_mut().only_tree = Some(tree);
    }
}

pub(super) fn require_privileges() -> Result<(), Failure> {
    let missing = privileges::missing();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(Failure::unsupported(format_args!(
        "missing privilege: {missing}; run as root or grant these capabilities"
    )))
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Load(_) | StartError::Blind(_) => Failure::unsupported(error),
        _ => Failure::failed(error),
    }
}

/// Remarks, and then the one line that scripts wait for.
fn tell_ready(session: &Session<Detecting<Sinks>>) {
    let mut text = String::new();
    for remark in session.remarks.iter().chain(&privileges::remarks()) {
        text += &format!("tracer: note: {remark}\n");
    }
    let hooks: Vec<String> = session
        .choices
        .iter()
        .map(|choice| format!("{}: {}", choice.moment.name(), describe(choice)))
        .collect();
    let (start, attach) = (
        session.start_took.as_millis(),
        session.attach_took.as_millis(),
    );
    text += &format!(
        "tracer: ready in {start} ms (attached in {attach} ms); {}\n",
        hooks.join(", ")
    );
    // Where stderr is closed, nobody waits for it.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Reads the configuration again. A wrong one changes nothing.
fn reload(session: &mut Session<Detecting<Sinks>>, detect: Option<&DetectConfig>) {
    let (Some(detect), Some(engine)) = (detect, session.pipeline.sinks().engine()) else {
        return;
    };
    let told = match Configuration::load(detect.file.as_deref()) {
        Ok(configuration) => {
            engine.configure(configuration.detect);
            "the configuration was read again".to_owned()
        }
        Err(error) => format!("{error}; the configuration stays as it was"),
    };
    // Where stderr is closed, nobody waits for it.
    let _ = writeln!(io::stderr(), "tracer: note: {told}");
}

/// What interrupts a run.
enum Next {
    /// It is over; an error is a command that could not be run.
    End(Result<(), Failure>),
    /// The configuration is to be read again, and a log that was renamed made anew.
    Reload,
}

/// What ends a run, or interrupts it.
struct Ends {
    interrupt: Signal,
    hangup: Signal,
    terminate: Signal,
    child: Signal,
    timeout: Option<Instant>,
    command: Option<Child>,
}

impl Ends {
    fn install(timeout: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            child: signal(SignalKind::child())?,
            timeout: timeout.map(|timeout| Instant::now() + timeout),
            command: None,
        })
    }

    /// Waits for the first of them.
    async fn next(&mut self) -> Next {
        loop {
            let timeout = async {
                match self.timeout {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.interrupt.recv() => return Next::End(Ok(())),
                _ = self.terminate.recv() => return Next::End(Ok(())),
                _ = self.hangup.recv() => return Next::Reload,
                () = timeout => return Next::End(Ok(())),
                _ = self.child.recv() => {
                    if let Some(command) = &mut self.command
                        && let Ok(Some(status)) = command.try_wait()
                    {
                        return Next::End(launch::judge(status));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::event::FileVersion;
    use crate::file::examiner::Options;
    use crate::observation::Fact;
    use crate::output::{Format, record::Record, writer::Target};
    use crate::process::content::{self, Content};
    use crate::process::image::{Image, Program};

    /// Whether each line knew what its process runs.
    struct Known(Arc<Mutex<Vec<bool>>>);

    impl Format for Known {
        fn line(&mut self, record: &Record<'_>, _: u64, _: &mut Vec<u8>) {
            let facts = record.process.and_then(|image| image.program.facts());
            self.0.lock().unwrap().push(facts.is_some());
        }
    }

    fn sinks(known: &Arc<Mutex<Vec<bool>>>) -> (Sinks, Writer) {
        let null = Target::File("/dev/null".into());
        let (chunks, writer) = Writer::spawn(null).unwrap();
        let options = Options {
            size_limit: 0,
            bytes_per_second: u64::MAX,
        };
        let format = Box::new(Known(Arc::clone(known)));
        let files = ExaminerSink::start(options, Filter::default(), WallOffset::measure());
        let sinks = Sinks {
            lines: LineSink::new(format, Filter::default(), chunks),
            metrics: metrics::metrics(&[], Filter::default()).unwrap().1,
            files: Some(files.unwrap()),
            history: None,
        };
        (sinks, writer)
    }

    #[test]
    fn an_exec_that_makes_a_content_ambiguous_is_told_without_its_facts() {
        let now = clock::boot_time();
        let content = Arc::new(Content::new(FileVersion {
            changed_ns: WallOffset::measure().unix_nanoseconds(now),
            ..FileVersion::default()
        }));
        // It was examined while its first executor ran.
        content.request();
        content.learn(content::Facts::default());
        let program = Arc::new(Program {
            content: Some(content),
            ..Program::default()
        });
        let known = Arc::default();
        let (mut sinks, _writer) = sinks(&known);
        for pid in [1, 2] {
            let image = Arc::new(Image {
                program: Arc::clone(&program),
                ..Image::sample(pid, b"young")
            });
            sinks.observe(&Observation {
                time: now,
                fact: Fact::ProcessExecuted(&image),
            });
        }
        assert_eq!(*known.lock().unwrap(), [true, false]);
    }
}
