//! Connections that the kernel makes for itself, in threads of its own.
//!
//! Where a kernel has nothing that does so, that is what is tested and listed instead.

use tests::environment;
use tests::event::Event;
use tests::expectations::port;
use tests::facts;
use tests::suite::Fact;
use tests::workload::{self, kernel_client};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    if !kernel_client::is_offered() {
        return facts![this_kernel_has_no_file_system_over_tcp];
    }
    facts![a_connection_of_the_kernel_belongs_to_a_kernel_thread]
}

fn this_kernel_has_no_file_system_over_tcp() {
    assert!(
        !kernel_client::is_offered(),
        "it had none when the tests were listed"
    );
    assert!(!environment::in_vm(), "in the matrix it has one");
    eprintln!("not offered by this kernel: NFS");
}

fn a_connection_of_the_kernel_belongs_to_a_kernel_thread() {
    let is_egress = |event: &Event| event.get("/network/direction") == Some(&"egress".into());
    let ((pid, fact), events) = common::run(|tracer| {
        let act = || workload::run("mount-nfs", &[]);
        tracer.observe_until(act, "the end of the kernel's socket", |(_, fact), event| {
            event.action() == "connection_closed"
                && is_egress(event)
                && event.destination_port() == port(fact)
        })
    });
    let told: Vec<_> = events
        .iter()
        .filter(|event| is_egress(event) && event.destination_port() == port(&fact))
        .filter(|event| event.get("/source/port") == Some(&fact["local"]))
        .collect();
    let actions: Vec<_> = told.iter().map(|event| event.action()).collect();
    assert_eq!(actions, ["connection_opened", "connection_closed"]);
    for event in told {
        assert_ne!(event.pid(), Some(pid), "{event}");
        assert!(
            event.words("/tracer/flags").contains(&"kernel_thread"),
            "{event}"
        );
        event.expect("/tracer/owner_provenance", "kernel");
        event.expect_absent("/process/executable");
        assert!(event.descends_from(2), "{event}");
    }
}
