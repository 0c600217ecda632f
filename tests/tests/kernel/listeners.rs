//! Sockets that begin and cease to listen.

use tests::expectations::{only, port};
use tests::facts;
use tests::suite::Fact;
use tests::workload::Workload;

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_listener_is_told_with_owner_and_address,
        a_listener_ends_with_its_process
    ]
}

fn a_listener_is_told_with_owner_and_address() {
    let addresses = ["127.0.0.1", "0.0.0.0", "::1", "::"];
    let (listeners, events) = common::observe(|| {
        addresses.map(|ip| {
            let mut listener = Workload::start(
                "listen",
                &[&std::net::SocketAddr::new(ip.parse().expect("an address"), 0).to_string()],
            );
            let port = port(&listener.fact());
            listener.go();
            listener.fact();
            let pid = listener.pid();
            listener.finish();
            (ip, port, pid)
        })
    });
    for (ip, port, pid) in listeners {
        let opened = only(&events, "listen_opened", pid);
        let closed = only(&events, "listen_closed", pid);
        for event in [opened, closed] {
            event.expect("/destination/ip", ip);
            event.expect("/destination/port", port);
            event.expect_absent("/source");
            event.expect(
                "/network/type",
                if ip.contains(':') { "ipv6" } else { "ipv4" },
            );
            event.expect("/process/parent/pid", std::process::id());
        }
    }
}

fn a_listener_ends_with_its_process() {
    let ((pid, port), events) = common::observe(|| {
        let mut listener = Workload::start("listen", &["127.0.0.1:0"]);
        let port = port(&listener.fact());
        let pid = listener.pid();
        listener.kill();
        (pid, port)
    });
    only(&events, "listen_closed", pid).expect("/destination/port", port);
}
