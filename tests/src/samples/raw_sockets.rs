//! Sockets that see packets.

use tracer::event::{RawFamily, RawSocket, RawType, SocketId, Task};

use super::processes::curl;

/// One for ICMP, one that sees everything, and one of which little is known.
pub(super) fn all() -> [RawSocket; 3] {
    let icmp = RawSocket {
        socket: Some(SocketId(0xffff_8880_1234_9abc)),
        task: Task {
            tgid: 4312,
            tid: 4312,
            start_ns: Some(curl().key.start_ns),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: curl().name,
        },
        netns: 4_026_531_840,
        family: RawFamily::Ipv4,
        socket_type: RawType::Raw,
        protocol: 1,
    };
    let everything = RawSocket {
        netns: 4_026_532_000,
        family: RawFamily::Packet,
        protocol: 3,
        ..icmp
    };
    let unnamed = RawSocket {
        socket: None,
        netns: 0,
        family: RawFamily::Ipv6,
        protocol: 200,
        ..icmp
    };
    [icmp, everything, unnamed]
}
