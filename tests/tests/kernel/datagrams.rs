//! Flows of datagrams: who exchanges how many with whom.

use rustix::process::Signal;
use serde_json::Value;
use tests::daemon::Tracer;
use tests::environment::{self, HookMode};
use tests::event::Event;
use tests::expectations::select;
use tests::facts;
use tests::suite::Fact;
use tests::workload::{self, uring};

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        datagrams_of_a_connected_socket_are_one_flow_each_way,
        datagrams_of_a_connected_socket_over_ipv6_are_one_flow_each_way,
        datagrams_of_an_unconnected_socket_are_one_flow_each_way,
        datagrams_of_an_unconnected_socket_over_ipv6_are_one_flow_each_way,
        an_ipv6_socket_that_sends_over_ipv4_is_told_with_ipv4_addresses,
        datagrams_of_batches_are_counted_one_by_one,
        datagrams_that_segmentation_cuts_are_counted_one_by_one,
        a_datagram_that_is_peeked_at_is_counted_once,
        datagrams_without_payload_are_counted,
        a_datagram_that_is_taken_in_part_counts_whole,
        a_receiver_that_never_sends_has_a_flow,
        datagrams_through_io_uring_belong_to_the_process_in_every_way,
        datagrams_between_network_namespaces_are_told_with_both,
        a_flow_belongs_to_the_child_that_uses_an_inherited_socket,
        many_datagrams_are_few_events,
        a_ping_socket_has_a_flow,
        a_ping_socket_over_ipv6_has_a_flow,
        a_raw_socket_that_pings_has_a_flow_with_all_that_it_hears,
        a_raw_socket_that_pings_over_ipv6_has_a_flow_with_all_that_it_hears,
        a_raw_socket_of_any_protocol_has_a_flow,
        a_raw_socket_that_writes_ip_headers_has_a_flow,
    ]
}

/// What the common run must not see, since it loses by it.
pub(crate) fn facts_of_floods() -> Vec<Fact> {
    // Sending so many takes an emulated machine a minute.
    if environment::in_vm() {
        return Vec::new();
    }
    facts![datagrams_to_more_peers_than_there_is_room_for_are_counted_as_lost]
}

fn datagrams_of_a_connected_socket_are_one_flow_each_way() {
    expect_flows("connected", 300);
}

fn datagrams_of_a_connected_socket_over_ipv6_are_one_flow_each_way() {
    expect_flows("connected-v6", 300);
}

fn datagrams_of_an_unconnected_socket_are_one_flow_each_way() {
    expect_flows("unconnected", 5);
}

fn datagrams_of_an_unconnected_socket_over_ipv6_are_one_flow_each_way() {
    expect_flows("unconnected-v6", 5);
}

fn an_ipv6_socket_that_sends_over_ipv4_is_told_with_ipv4_addresses() {
    for event in expect_flows("mapped", 3) {
        event.expect("/source/ip", "127.0.0.1");
        event.expect("/destination/ip", "127.0.0.1");
        event.expect("/network/type", "ipv4");
    }
}

fn datagrams_of_batches_are_counted_one_by_one() {
    expect_flows("many", 4);
}

fn datagrams_that_segmentation_cuts_are_counted_one_by_one() {
    expect_flows("segmented", 4);
}

fn a_datagram_that_is_peeked_at_is_counted_once() {
    expect_flows("peeked", 3);
}

fn datagrams_without_payload_are_counted() {
    expect_flows("empty", 3);
}

fn a_datagram_that_is_taken_in_part_counts_whole() {
    expect_flows("cut", 3);
}

fn a_receiver_that_never_sends_has_a_flow() {
    for event in expect_flows("one-way", 3) {
        let is_receiver = event.text("/network/direction") == "ingress";
        let (sent, received) = ("/destination/packets", "/source/packets");
        if is_receiver {
            event.expect(sent, 0);
        } else {
            event.expect(
                received,
                if event.words("/event/type").contains(&"start") {
                    1
                } else {
                    3
                },
            );
        }
    }
}

fn datagrams_through_io_uring_belong_to_the_process_in_every_way() {
    if let Some(refusal) = uring::refusal() {
        assert!(
            !environment::in_vm(),
            "in the matrix it is offered: {refusal}"
        );
        return eprintln!("not offered by this kernel: io_uring: {refusal}");
    }
    for way in ["uring-plain", "uring-worker", "uring-polled"] {
        expect_flows(way, 4);
    }
}

fn datagrams_between_network_namespaces_are_told_with_both() {
    let events = expect_flows("between-namespaces", 5);
    let namespaces = |direction: &str| {
        let of_side = events
            .iter()
            .filter(|event| event.text("/network/direction") == direction);
        let namespaces: Vec<_> = of_side
            .map(|event| event.number("/tracer/netns/id"))
            .collect();
        assert_eq!(namespaces[0], namespaces[1], "a start and an end");
        namespaces[0]
    };
    assert_ne!(namespaces("egress"), namespaces("ingress"));
    for event in &events {
        event.expect("/source/ip", "192.0.2.1");
        event.expect("/destination/ip", "192.0.2.2");
    }
}

fn many_datagrams_are_few_events() {
    let events = expect_flows("connected", 20_000);
    assert_eq!(events.len(), 4, "a start and an end for each socket");
}

fn datagrams_to_more_peers_than_there_is_room_for_are_counted_as_lost() {
    const ROOM: u64 = 32_768;
    const PEERS: u64 = 100_000;
    let tracer = Tracer::start(&["-e", "events_lost"]);
    workload::run("datagrams", &["to-many", &PEERS.to_string()]);
    let ended = tracer.stop(Signal::TERM);
    let lost = ended.events.iter().map(|event| {
        event.expect("/tracer/lost/stage", "map");
        event.expect("/tracer/lost/kind", "flow");
        event.expect("/tracer/lost/unit", "packet");
        event.number("/tracer/lost/count")
    });
    let lost: u64 = lost.sum();
    // Others on this machine may have a few flows.
    assert!(
        (PEERS - ROOM..PEERS - ROOM + 100).contains(&lost),
        "{lost} lost"
    );
}

/// Both sockets' flows begin and end, with what the workload says that they carried.
#[track_caller]
fn expect_flows(way: &str, times: u32) -> Vec<Event> {
    let ((pid, fact), events) =
        common::observe(|| workload::run("datagrams", &[way, &times.to_string()]));
    let flows = select(&events, "datagram_flow", pid);
    let (client, server) = (port(&fact, "client"), port(&fact, "server"));
    for (direction, by) in [("egress", "by_client"), ("ingress", "by_server")] {
        let of_socket = flows
            .iter()
            .filter(|event| event.text("/network/direction") == direction);
        let [start, end] = of_socket.collect::<Vec<_>>()[..] else {
            panic!("a start and an end of the {direction} flow in {flows:#?}")
        };
        for event in [start, end] {
            event.expect("/network/transport", "udp");
            event.expect("/source/port", client);
            event.expect("/destination/port", server);
            // Of a socket that was connected, nothing else may be known.
            if event.text("/network/direction") == "ingress" || !is_by_connect() {
                event.expect("/tracer/owner_provenance", "kernel");
            }
        }
        start.expect("/event/type", serde_json::json!(["connection", "start"]));
        end.expect("/event/type", serde_json::json!(["connection", "end"]));
        assert_eq!(start.connection_id(), end.connection_id());
        let (sent, received) = match direction {
            "egress" => ("source", "destination"),
            _ => ("destination", "source"),
        };
        for (end_of, what) in [(sent, "sent"), (received, "received")] {
            end.expect(&format!("/{end_of}/packets"), fact[by][what][0].clone());
            end.expect(&format!("/{end_of}/bytes"), fact[by][what][1].clone());
        }
    }
    flows.into_iter().cloned().collect()
}

fn port(fact: &Value, name: &str) -> u64 {
    fact[name].as_u64().expect("a port")
}

/// Whether the owner of a connected socket is known only by its connect: tracepoint mode before 6.3.
fn is_by_connect() -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|word| word.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    environment::hook_mode() == HookMode::Tracepoint && version < (6, 3)
}

fn a_flow_belongs_to_the_child_that_uses_an_inherited_socket() {
    if is_by_connect() {
        return expect_connector_is_inferred();
    }
    let ((pid, fact), events) = common::observe(|| workload::run("datagrams-inherited", &[]));
    let child = u32::try_from(fact["child"].as_u64().expect("a PID")).expect("a PID");
    let of_child = select(&events, "datagram_flow", child);
    assert_eq!(of_child.len(), 2, "the sender's: {of_child:#?}");
    for event in of_child {
        event.expect("/network/direction", "egress");
        event.expect("/process/parent/pid", pid);
        event.expect("/destination/port", port(&fact, "server"));
    }
    let of_parent = select(&events, "datagram_flow", pid);
    assert_eq!(of_parent.len(), 2, "the receiver's: {of_parent:#?}");
    for event in of_parent {
        event.expect("/network/direction", "ingress");
    }
}

/// Who connected it is named instead, and that this is no more than likely.
fn expect_connector_is_inferred() {
    let ((pid, _), events) = common::observe(|| workload::run("datagrams-inherited", &[]));
    let sent = |event: &&Event| event.text("/network/direction") == "egress";
    let flows: Vec<_> = select(&events, "datagram_flow", pid)
        .into_iter()
        .filter(sent)
        .collect();
    assert_eq!(flows.len(), 2, "{flows:#?}");
    for event in flows {
        event.expect("/tracer/owner_provenance", "inferred");
    }
}

fn a_ping_socket_has_a_flow() {
    expect_flow_without_ports("ping", Some("icmp"), "1");
}

fn a_ping_socket_over_ipv6_has_a_flow() {
    expect_flow_without_ports("ping-v6", Some("ipv6-icmp"), "58");
}

fn a_raw_socket_that_pings_has_a_flow_with_all_that_it_hears() {
    expect_flow_without_ports("raw", Some("icmp"), "1");
}

fn a_raw_socket_that_pings_over_ipv6_has_a_flow_with_all_that_it_hears() {
    expect_flow_without_ports("raw-v6", Some("ipv6-icmp"), "58");
}

fn a_raw_socket_of_any_protocol_has_a_flow() {
    expect_flow_without_ports("experiment", None, "253");
}

/// It is told with the protocol of the socket, IPPROTO_RAW.
fn a_raw_socket_that_writes_ip_headers_has_a_flow() {
    expect_flow_without_ports("own-header", None, "255");
}

/// One flow begins and ends, with what the workload says that it carried; none where the mode tells none.
#[track_caller]
/// The hook that sees it send.
fn sender(way: &str) -> String {
    let function = match way {
        "own-header" => "raw_sendmsg",
        "ping-v6" | "raw-v6" => "ip6_push_pending_frames",
        _ => "ip_push_pending_frames",
    };
    let kind = match environment::hook_mode() {
        HookMode::Tracepoint => return "cgroup:skb_egress".to_owned(),
        HookMode::Kprobe if way == "own-header" => "kretprobe",
        HookMode::Kprobe => "kprobe",
        HookMode::Fentry if way == "own-header" => "fexit",
        HookMode::Fentry => "fentry",
    };
    format!("{kind}:{function}")
}

fn expect_flow_without_ports(way: &str, transport: Option<&str>, number: &str) {
    let ((pid, fact), events) =
        common::observe(|| workload::run("datagrams-without-ports", &[way]));
    let is_owned = !is_by_connect();
    let flows = events.iter().filter(|event| {
        event.action() == "datagram_flow"
            && event.text("/network/iana_number") == number
            && (!is_owned || event.pid() == Some(pid))
    });
    let flows = flows.collect::<Vec<_>>();
    let [start, end] = flows[..] else {
        panic!("a start and an end of one flow: {flows:#?}")
    };
    let hook = sender(way);
    for event in [start, end] {
        match transport {
            Some(name) => event.expect("/network/transport", name),
            None => event.expect_absent("/network/transport"),
        }
        event.expect("/network/direction", "egress");
        let provenance = if is_owned { "kernel" } else { "unknown" };
        event.expect("/tracer/owner_provenance", provenance);
        event.expect("/tracer/hook", hook.as_str());
        for absent in ["/source/port", "/destination/port", "/network/community_id"] {
            event.expect_absent(absent);
        }
    }
    for (end_of, what) in [("source", "sent"), ("destination", "received")] {
        end.expect(&format!("/{end_of}/packets"), fact[what][0].clone());
        end.expect(&format!("/{end_of}/bytes"), fact[what][1].clone());
    }
}
