//! What is left of connections over Multipath TCP, and what they carried. The rules themselves are told by
//! `tests/replay/multipath.txt`.

use super::*;
use crate::connection::endpoints::sample as endpoints;
use crate::dns::names::Names;
use crate::event::{BootTime, Name, SocketMoment, Task, TcpState};
use crate::observation::{Fact, Observation, Sink};
use crate::process::table::ProcessTable;
use crate::tls::hellos::Hellos;

const UPPER: SocketId = SocketId(1_000);

/// What was said when connections closed.
#[derive(Default)]
struct Closes(Vec<(Option<Totals>, usize)>);

impl Sink for Closes {
    fn observe(&mut self, observation: &Observation<'_>) {
        if let Fact::ConnectionClosed {
            totals, subflows, ..
        } = observation.fact
        {
            self.0.push((totals, subflows.len()));
        }
    }

    fn flush(&mut self) {}
}

struct Bench {
    table: ConnectionTable,
    processes: ProcessTable,
    closes: Closes,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        Bench {
            table: ConnectionTable::new(capacity),
            processes: ProcessTable::new(8),
            closes: Closes::default(),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut ConnectionTable, &mut Context<'_>)) {
        let mut context = Context {
            time: BootTime(1),
            processes: &mut self.processes,
            names: &Names::new(),
            hellos: &Hellos::default(),
            sink: &mut self.closes,
        };
        act(&mut self.table, &mut context);
    }

    fn open(&mut self, socket: u64, upper: SocketId) {
        let task = Task {
            tgid: 20,
            tid: 20,
            start_ns: Some(1),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: Name::default(),
        };
        let process = self.processes.seen(BootTime(1), &task);
        let moment = SocketMoment {
            socket: SocketId(socket),
            task,
            endpoints: endpoints(socket),
            state: TcpState::SynSent,
        };
        self.act(|table, context| table.connect(&moment, process, context));
        self.subflow(socket, upper, false);
    }

    fn subflow(&mut self, socket: u64, upper: SocketId, further: bool) {
        let subflow = event::Subflow {
            socket: SocketId(socket),
            upper,
            endpoints: endpoints(socket),
            further,
            inbound: false,
        };
        self.act(|table, context| table.subflow(&subflow, context));
    }

    fn close(&mut self, socket: u64, sent: Option<u64>) {
        let close = Close {
            socket: SocketId(socket),
            endpoints: endpoints(socket),
            old_state: TcpState::LastAck,
            errno: None,
            fin_received: true,
            held: false,
            further: socket > 1,
            totals: sent.map(|sent| Totals {
                sent,
                ..Totals::default()
            }),
        };
        self.act(|table, context| table.close(&close, context));
    }

    fn is_empty(&self) -> bool {
        let multipath = &self.table.multipath;
        multipath.uppers.is_empty() && multipath.connections.is_empty()
    }
}

#[test]
fn nothing_is_left_of_a_connection_that_ended() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let mut bench = Bench::new(4);
        bench.open(1, UPPER);
        bench.subflow(2, UPPER, true);
        bench.subflow(3, UPPER, true);
        for socket in order {
            assert!(bench.closes.0.is_empty() && !bench.table.is_empty());
            bench.close(socket, Some(socket * 10));
        }
        let sum = Totals {
            sent: 60,
            ..Totals::default()
        };
        assert_eq!(bench.closes.0, [(Some(sum), 2)]);
        assert!(bench.is_empty() && bench.table.is_empty());
    }
}

#[test]
fn nothing_is_left_of_a_connection_that_made_room() {
    let mut bench = Bench::new(1);
    bench.open(1, UPPER);
    bench.subflow(2, UPPER, true);
    bench.open(3, SocketId(1_001));
    assert_eq!(bench.table.counters().evictions, 1);
    bench.close(2, Some(1));
    bench.close(3, Some(1));
    assert!(bench.is_empty() && bench.table.is_empty());
}

#[test]
fn an_upper_socket_that_begins_anew_ends_what_it_had() {
    let mut bench = Bench::new(4);
    bench.open(1, UPPER);
    bench.subflow(2, UPPER, true);
    bench.open(3, UPPER);
    assert_eq!(bench.table.counters().lost_closes, 1);
    assert_eq!(bench.table.len(), 1);
    bench.close(3, Some(7));
    assert_eq!(bench.closes.0.len(), 1);
    assert!(bench.is_empty());
}

#[test]
fn a_further_subflow_whose_close_was_lost_gives_way() {
    let mut bench = Bench::new(4);
    bench.open(1, UPPER);
    bench.subflow(2, UPPER, true);
    bench.open(2, SocketId(1_001));
    bench.close(1, Some(7));
    assert_eq!(bench.closes.0.len(), 1);
    assert_eq!(bench.table.len(), 1);
}

#[test]
fn totals_that_lack_a_part_are_unknown() {
    let mut bench = Bench::new(4);
    bench.open(1, UPPER);
    bench.subflow(2, UPPER, true);
    bench.close(2, None);
    bench.close(1, Some(7));
    assert_eq!(bench.closes.0, [(None, 1)]);
}

#[test]
fn a_path_that_comes_and_goes_is_listed_so_often_and_counted_always() {
    let mut bench = Bench::new(4);
    bench.open(1, UPPER);
    let rounds = SUBFLOWS_MAX as u64 + 10;
    for _ in 0..rounds {
        bench.subflow(2, UPPER, true);
        bench.close(2, Some(1));
    }
    bench.close(1, Some(0));
    let sum = Totals {
        sent: rounds,
        ..Totals::default()
    };
    assert_eq!(bench.closes.0, [(Some(sum), SUBFLOWS_MAX)]);
    assert!(bench.is_empty());
}
