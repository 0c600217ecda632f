//! Names of protocols, the same in every output.
//!
//! In: the number of a protocol above IP, or of what an Ethernet frame carries. Out: its name, if it is one that
//! people call by name.

use crate::event::{Protocol, RawFamily, RawSocket};

/// IANA's keywords of what is seen above IP, in small letters.
const TRANSPORTS: [(u32, &str); 15] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (89, "ospf"),
    (103, "pim"),
    (112, "vrrp"),
    (115, "l2tp"),
    (132, "sctp"),
];

/// include/uapi/linux/if_ether.h
const ETHER_TYPES: [(u32, &str); 14] = [
    (0x0003, "all"),
    (0x0004, "802.2"),
    (0x0800, "ipv4"),
    (0x0806, "arp"),
    (0x8035, "rarp"),
    (0x8100, "802.1q"),
    (0x86dd, "ipv6"),
    (0x8847, "mpls"),
    (0x8863, "pppoe-discovery"),
    (0x8864, "pppoe-session"),
    (0x888e, "eapol"),
    (0x88a8, "802.1ad"),
    (0x88cc, "lldp"),
    (0x88f7, "ptp"),
];

/// `network.transport`.
pub fn of(protocol: Protocol) -> Option<&'static str> {
    name(&TRANSPORTS, protocol.0.into())
}

/// `network.transport` of a raw socket.
pub fn transport(socket: &RawSocket) -> Option<&'static str> {
    match socket.family {
        RawFamily::Ipv4 | RawFamily::Ipv6 => name(&TRANSPORTS, socket.protocol),
        RawFamily::Packet => None,
    }
}

/// `tracer.socket.protocol_name`: what a packet socket was opened for.
pub fn ether_type(socket: &RawSocket) -> Option<&'static str> {
    match socket.family {
        RawFamily::Ipv4 | RawFamily::Ipv6 => None,
        RawFamily::Packet => name(&ETHER_TYPES, socket.protocol),
    }
}

/// `network.iana_number`: IANA gives numbers of eight bits, the kernel takes larger ones.
pub fn iana_number(socket: &RawSocket) -> Option<u8> {
    match socket.family {
        RawFamily::Ipv4 | RawFamily::Ipv6 => u8::try_from(socket.protocol).ok(),
        RawFamily::Packet => None,
    }
}

fn name(names: &[(u32, &'static str)], number: u32) -> Option<&'static str> {
    let (_, name) = names.iter().find(|(known, _)| *known == number)?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Words = (Option<&'static str>, Option<&'static str>, Option<u8>);

    fn words(family: RawFamily, protocol: u32) -> Words {
        let socket = RawSocket {
            protocol,
            ..RawSocket::sample(family)
        };
        (
            transport(&socket),
            ether_type(&socket),
            iana_number(&socket),
        )
    }

    #[test]
    fn a_raw_socket_has_a_protocol_of_ip_and_a_packet_socket_an_ether_type() {
        let (ipv4, packet) = (RawFamily::Ipv4, RawFamily::Packet);
        assert_eq!(words(ipv4, 1), (Some("icmp"), None, Some(1)));
        assert_eq!(words(ipv4, 3), (None, None, Some(3)));
        assert_eq!(words(packet, 3), (None, Some("all"), None));
        assert_eq!(words(packet, 1), (None, None, None));
    }

    #[test]
    fn a_number_that_iana_cannot_give_is_not_shortened() {
        assert_eq!(words(RawFamily::Ipv6, 256 + 6), (None, None, None));
        assert_eq!(words(RawFamily::Ipv6, 255), (None, None, Some(255)));
    }
}
