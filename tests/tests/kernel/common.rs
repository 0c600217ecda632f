//! The run that most tests share: it begins with the first of them and is ended by the last.

use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::expect_no_loss;
use tests::facts;
use tests::procfs::Process;
use tests::suite::Fact;

static RUN: Mutex<Option<Tracer>> = Mutex::new(None);

pub(crate) fn facts() -> Vec<Fact> {
    facts![a_run_that_saw_all_this_lost_nothing_and_ends_in_order]
}

/// Uses the common run, starting it if need be. A test that failed leaves it usable.
pub(crate) fn run<T>(act: impl FnOnce(&mut Tracer) -> T) -> T {
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let (name, group) = (own_name(), SOCKET_GROUP.to_string());
    let arguments = ["--metrics-process", &name, "--socket-group", &group];
    act(run.get_or_insert_with(|| Tracer::start_with_socket(&socket(), &arguments)))
}

/// Which group may ask it.
pub(crate) const SOCKET_GROUP: u32 = 4711;

/// Where the common run answers other commands.
pub(crate) fn socket() -> String {
    let path = std::env::temp_dir().join(format!("tracer-tests-{}", std::process::id()));
    path.into_os_string()
        .into_string()
        .expect("its name is UTF-8")
}

/// The name of this process and its workloads, whose metrics are kept apart.
pub(crate) fn own_name() -> String {
    Process::read(std::process::id()).expect("it lives").name
}

/// Does something and returns the events that came of it in the common run.
#[track_caller]
pub(crate) fn observe<T>(act: impl FnOnce() -> T) -> (T, Vec<Event>) {
    run(|tracer| tracer.observe(act))
}

/// Ends the common run if no test has.
pub(crate) fn abandon() {
    drop(RUN.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn a_run_that_saw_all_this_lost_nothing_and_ends_in_order() {
    run(|_| ());
    let tracer = RUN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .expect("it has just run");
    let ended = tracer.stop(Signal::TERM);
    expect_no_loss(&ended.events);
}
