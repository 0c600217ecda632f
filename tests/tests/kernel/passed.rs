//! Descriptors that change hands: who accepts from a listener is not who opened it, and who closes a
//! connection does not become its owner.

use tests::event::Event;
use tests::expectations::{Exchange, expect_count, expect_totals, only, pid, port, select};
use tests::suite::Fact;
use tests::workload::{self, Workload};
use tests::{expectations, facts};

use crate::common;
use crate::ownership::{expect_accepted, meet};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        accept_from_an_inherited_listener_belongs_to_the_acceptor,
        accept_from_a_listener_of_socket_activation_belongs_to_the_service,
        accept_from_a_passed_listener_belongs_to_the_acceptor,
        a_duplicated_connection_closes_once_under_its_opener,
        a_connection_that_a_child_closed_too_closes_once_under_its_opener,
        a_connection_left_to_a_child_stays_its_openers,
        a_connection_left_to_an_executed_child_stays_its_openers,
        a_connection_passed_to_another_process_stays_its_openers,
        a_connection_taken_by_another_process_stays_its_openers,
        a_connection_kept_over_exec_stays_its_openers_with_its_new_image,
    ]
}

fn accept_from_an_inherited_listener_belongs_to_the_acceptor() {
    expect_taker("inherited");
}

fn accept_from_a_listener_of_socket_activation_belongs_to_the_service() {
    expect_taker("activated");
}

fn accept_from_a_passed_listener_belongs_to_the_acceptor() {
    expect_taker("passed");
}

/// One process listens, another accepts, and each keeps what it did.
#[track_caller]
fn expect_taker(way: &str) {
    let ((opener, fact, exchange), events) = common::observe(|| {
        let mut server = Workload::start("hand-listener", &[way]);
        let (opener, fact) = (server.pid(), server.fact());
        let (fact, exchange) = meet(server, fact);
        (opener, fact, exchange)
    });
    let acceptor = expect_accepted(&events, &fact, &exchange);
    assert_ne!(acceptor, opener, "nothing was handed over");
    let accepted = only(&events, "connection_accepted", acceptor);
    accepted.expect("/process/parent/pid", opener);
    assert_eq!(accepted.words("/process/args")[2], "take-listener");
    for action in ["listen_opened", "listen_closed"] {
        only(&events, action, opener).expect("/destination/port", port(&fact));
        expect_count(&events, action, acceptor, 0);
    }
}

fn a_duplicated_connection_closes_once_under_its_opener() {
    let handed = hand_over("duplicated");
    assert_eq!(handed.closer, handed.opener);
    handed.expect_opener("hand-over");
}

fn a_connection_that_a_child_closed_too_closes_once_under_its_opener() {
    hand_over("lent").expect_opener("hand-over");
}

fn a_connection_left_to_a_child_stays_its_openers() {
    hand_over("forked").expect_opener_although_another_closes();
}

fn a_connection_left_to_an_executed_child_stays_its_openers() {
    hand_over("inherited").expect_opener_although_another_closes();
}

fn a_connection_passed_to_another_process_stays_its_openers() {
    hand_over("passed").expect_opener_although_another_closes();
}

fn a_connection_taken_by_another_process_stays_its_openers() {
    hand_over("taken").expect_opener_although_another_closes();
}

fn a_connection_kept_over_exec_stays_its_openers_with_its_new_image() {
    let handed = hand_over("executed");
    assert_eq!(handed.closer, handed.opener);
    handed.expect_opener("keep");
}

/// What became of a connection of a process to itself.
struct Handed {
    opener: u32,
    closer: u32,
    exchange: Exchange,
    events: Vec<Event>,
}

fn hand_over(way: &str) -> Handed {
    let ((opener, fact), events) = common::observe(|| workload::run("hand-over", &[way]));
    assert_eq!(pid(&fact, "opener"), opener);
    let local = fact["local"].as_u64().expect("a port");
    let exchange = Exchange {
        port: u16::try_from(local).expect("a port"),
        up: 5,
        down: 0,
    };
    Handed {
        opener,
        closer: pid(&fact, "closer"),
        exchange,
        events,
    }
}

impl Handed {
    /// Expects both ends to be the opener's from beginning to end; `last` is what it was at the end.
    #[track_caller]
    fn expect_opener(&self, last: &str) {
        let events = &self.events;
        let opened = only(events, "connection_opened", self.opener);
        let accepted = only(events, "connection_accepted", self.opener);
        expect_count(events, "connection_closed", self.opener, 2);
        for (begun, direction) in [(opened, "egress"), (accepted, "ingress")] {
            begun.expect("/source/port", self.exchange.port);
            begun.expect("/network/direction", direction);
            assert_eq!(begun.words("/process/args")[2], "hand-over");
            let id = begun.connection_id();
            let closes = select(events, "connection_closed", self.opener);
            let close = closes.into_iter().find(|close| close.connection_id() == id);
            let close = close.unwrap_or_else(|| panic!("never closed: {begun}"));
            close.expect("/network/direction", direction);
            close.expect("/process/entity_id", begun.text("/process/entity_id"));
            assert_eq!(close.words("/process/args")[2], last);
            expect_totals(close, &self.exchange, "SF");
        }
        expectations::expect_no_loss(events);
    }

    #[track_caller]
    fn expect_opener_although_another_closes(&self) {
        assert_ne!(self.closer, self.opener, "nothing was handed over");
        self.expect_opener("hand-over");
        let of_closer = |event: &&Event| {
            event.pid() == Some(self.closer) && event.get("/tracer/connection_id").is_some()
        };
        let named = self.events.iter().find(of_closer);
        assert!(named.is_none(), "{}", named.expect("there is one"));
    }
}
