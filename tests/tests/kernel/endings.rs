//! How a run ends: nothing unsaid, nothing left in the kernel.

use rustix::process::Signal;
use tests::bpf::{Objects, wait_until_gone};
use tests::daemon::{Ended, Tracer};
use tests::expectations::{expect_count, expect_no_loss, port};
use tests::facts;
use tests::procfs::TcpSocket;
use tests::suite::Fact;
use tests::wait::{self, DEADLINE};
use tests::workload::Workload;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        connections_just_before_sigint_are_all_told,
        connections_just_before_sigterm_are_all_told_and_nothing_stays_attached,
        nothing_stays_attached_after_sigkill,
    ]
}

/// Connections between the signal and the moment before it.
const LAST: usize = 200;

/// Makes connections and signals at once; what the tracer said by its end.
fn end_after_connections(tracer: Tracer, signal: Signal) -> (u32, u32, Ended) {
    let count = LAST.to_string();
    let mut server = Workload::start("serve", &[&count, "127.0.0.1:0"]);
    let port = port(&server.fact());
    let address = format!("127.0.0.1:{port}");
    let mut client = Workload::start("connect", &[&count, &address]);
    client.fact();
    server.fact();
    // The last of them may still wait for the acknowledgement of its end.
    wait::until("the connections to end", || {
        let is_open = |socket: &TcpSocket| {
            [socket.local, socket.remote].contains(&port)
                && ![TcpSocket::TIME_WAIT, TcpSocket::LISTEN].contains(&socket.state)
        };
        (!TcpSocket::all().iter().any(is_open)).then_some(())
    });
    let ended = tracer.stop(signal);
    let pids = (client.pid(), server.pid());
    client.finish();
    server.finish();
    (pids.0, pids.1, ended)
}

fn expect_last(client: u32, server: u32, ended: &Ended) {
    // First, since a loss explains a count that is not met.
    expect_no_loss(&ended.events);
    expect_count(&ended.events, "connection_opened", client, LAST);
    expect_count(&ended.events, "connection_accepted", server, LAST);
    expect_count(&ended.events, "connection_closed", client, LAST);
    expect_count(&ended.events, "connection_closed", server, LAST);
}

fn connections_just_before_sigint_are_all_told() {
    let (client, server, ended) = end_after_connections(Tracer::start(&[]), Signal::INT);
    expect_last(client, server, &ended);
}

fn connections_just_before_sigterm_are_all_told_and_nothing_stays_attached() {
    let tracer = Tracer::start(&[]);
    let held = attached(&tracer);
    let (client, server, ended) = end_after_connections(tracer, Signal::TERM);
    expect_last(client, server, &ended);
    wait_until_gone(&held);
}

fn nothing_stays_attached_after_sigkill() {
    let tracer = Tracer::start(&[]);
    let held = attached(&tracer);
    tracer.signal(Signal::KILL);
    let ended = tracer.wait(DEADLINE);
    assert_eq!(ended.status.code(), None);
    wait_until_gone(&held);
}

/// What a tracer holds in the kernel, which is at least something.
fn attached(tracer: &Tracer) -> Objects {
    let held = Objects::held_by(tracer.pid());
    assert!(!held.programs.is_empty(), "it holds no program");
    assert_eq!(
        held.both(&Objects::loaded()),
        held,
        "what it holds is loaded"
    );
    held
}
