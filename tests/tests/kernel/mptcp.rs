//! Multipath TCP: one connection for those who use it, whatever the kernel makes of it.
//!
//! Where a kernel makes no such sockets, that is what is tested and listed instead.

use tests::environment;
use tests::expectations::{Exchange, expect_totals, only, port, select};
use tests::suite::Fact;
use tests::workload::{self, mptcp};
use tests::{expectations, facts, procfs};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    if mptcp::refusal().is_some() {
        return facts![this_kernel_makes_no_multipath_sockets];
    }
    facts![a_multipath_connection_is_told_once_from_each_side_with_its_owners]
}

fn this_kernel_makes_no_multipath_sockets() {
    let refusal = mptcp::refusal().expect("it did when the tests were listed");
    // Debian's 5.10 is built without.
    let may_refuse = !environment::in_vm() || procfs::kernel() < (6, 0);
    assert!(may_refuse, "in the matrix it does: {refusal}");
    let known = [libc::EPROTONOSUPPORT, libc::ENOPROTOOPT, libc::EINVAL];
    let errno = refusal.raw_os_error().expect("an errno");
    assert!(known.contains(&errno), "{refusal}");
    eprintln!("not offered by this kernel: Multipath TCP: {refusal}");
}

fn a_multipath_connection_is_told_once_from_each_side_with_its_owners() {
    let ((pid, fact), events) = common::observe(|| workload::run("mptcp", &[]));
    let local = fact["local"].as_u64().expect("a port");
    let exchange = Exchange {
        port: u16::try_from(local).expect("a port"),
        up: 5,
        down: 7,
    };
    for action in ["listen_opened", "listen_closed"] {
        only(&events, action, pid).expect("/destination/port", port(&fact));
    }
    let opened = only(&events, "connection_opened", pid);
    let accepted = only(&events, "connection_accepted", pid);
    let closed = select(&events, "connection_closed", pid);
    assert_eq!(closed.len(), 2, "{closed:?}");
    for (begun, direction) in [(opened, "egress"), (accepted, "ingress")] {
        begun.expect("/network/transport", "tcp");
        begun.expect("/network/direction", direction);
        begun.expect("/source/port", exchange.port);
        begun.expect("/destination/port", port(&fact));
        begun.expect("/tracer/owner_provenance", "kernel");
        let id = begun.connection_id();
        let close = closed.iter().find(|close| close.connection_id() == id);
        expect_totals(close.expect("it is closed"), &exchange, "SF");
    }
    expectations::expect_no_loss(&events);
}
