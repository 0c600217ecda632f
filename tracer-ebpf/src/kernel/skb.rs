//! A datagram: its headers, and how many it is on the wire.

use tracer_common::record::Endpoints;

use crate::dns;

use super::{
    layout::{layout, setting, wide},
    sock,
    source::{Source, read_remote},
};

/// Of `sk_buff.protocol`, include/uapi/linux/if_ether.h, in network byte order.
pub(crate) const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// Length of a UDP header.
pub(crate) const UDP_HEADER: u32 = 8;

/// Where an IPv4 header has both addresses.
const IPV4_SOURCE: u32 = 12;

/// Where an IPv6 header has both addresses.
const IPV6_SOURCE: u32 = 8;

/// Length of an IPv6 header without extensions.
const IPV6_HEADER: u32 = 40;

/// A part of a packet that lies in a page: `skb_frag_t`, include/linux/skbuff.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    page: u64,
    length: u32,
    offset: u32,
}

/// A packet, to be read from its IP header on.
pub(crate) trait Packet {
    /// What lies so many bytes behind the beginning of the IP header.
    fn load<T: Copy>(&self, offset: u32) -> Option<T>;

    /// Where the transport header begins, as far as IPv6's extension headers are understood.
    fn transport(&self) -> Option<u32>;
}

/// In the kernel's memory.
pub(crate) struct InMemory<S> {
    skb: S,
    ip: *const u8,
    network: u16,
}

impl<S: Source> InMemory<S> {
    /// What a `struct sk_buff` holds, its headers in one piece.
    #[inline(always)]
    pub(crate) fn of(skb: S) -> Option<Self> {
        let head: *const u8 = skb.load(layout!(skb_head))?;
        let network: u16 = skb.load(layout!(skb_network_header))?;
        let ip = head.wrapping_add(network.into());
        Some(Self { skb, ip, network })
    }

    /// How many bytes there are from the IP header on.
    #[inline(always)]
    pub(crate) fn from_network_header(&self) -> Option<u32> {
        let data: u64 = self.skb.load(layout!(skb_data))?;
        let length: u32 = self.skb.load(layout!(skb_len))?;
        Some((data.wrapping_sub(self.ip as u64) as u32).wrapping_add(length))
    }

    /// What a UDP datagram carries, as far as it lies in one piece: behind its headers, or in a page of its own.
    #[inline(always)]
    pub(crate) fn payload(&self, ends: &Ends, length: u32) -> Option<dns::InMemory> {
        let elsewhere: u32 = self.skb.load(layout!(skb_data_len))?;
        if elsewhere != 0 && elsewhere >= length {
            let (address, available) = self.first_page()?;
            return Some(dns::InMemory {
                address,
                length,
                available: available.min(length),
            });
        }
        Some(dns::InMemory {
            address: self.ip.wrapping_add((ends.headers + UDP_HEADER) as usize),
            length,
            available: length - elsewhere,
        })
    }

    /// Where the first of its pages has its part of the packet, and how long that is; `None` if it has none that
    /// the processor can read, or it is not known where they lie.
    #[inline(always)]
    fn first_page(&self) -> Option<(*const u8, u32)> {
        let shared = shared(self.skb)?;
        let count: u8 = read_remote(shared.wrapping_add(setting!(pages.count) as usize))?;
        let part: Part = read_remote(shared.wrapping_add(setting!(pages.frags) as usize))?;
        let (pages, size) = (wide!(pages.pages), u64::from(setting!(pages.page)));
        // Memory of a device has the lowest bit set.
        if pages == 0 || count == 0 || part.page & 1 != 0 {
            return None;
        }
        let number = part.page.wrapping_sub(pages).checked_div(size)?;
        let page = wide!(pages.memory).wrapping_add(number << setting!(pages.shift));
        let address = page.wrapping_add(part.offset.into());
        Some((address as *const u8, part.length))
    }
}

impl<S: Source> Packet for InMemory<S> {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        read_remote(self.ip.wrapping_add(offset as usize))
    }

    #[inline(always)]
    fn transport(&self) -> Option<u32> {
        let transport: u16 = self.skb.load(layout!(skb_transport_header))?;
        Some(transport.wrapping_sub(self.network).into())
    }
}

/// An IPv4 header without options, and the ports behind it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version: u8,
    before: [u8; 11],
    source: u32,
    destination: u32,
    ports: [u16; 2],
}

/// An IPv6 header without extensions, and the ports behind it.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct Ipv6 {
    before: [u8; 6],
    next: u8,
    limit: u8,
    source: [u64; 2],
    destination: [u64; 2],
    ports: [u16; 2],
}

/// The ends of a packet, and the length of the headers of IP.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    /// In network byte order, IPv4 as IPv4-mapped.
    pub(crate) source: [u64; 2],
    /// As `source`.
    pub(crate) destination: [u64; 2],
    /// In host byte order.
    pub(crate) source_port: u16,
    /// In host byte order.
    pub(crate) destination_port: u16,
    /// In bytes.
    pub(crate) headers: u32,
}

/// An IPv4 address as an IPv4-mapped one.
#[inline(always)]
fn mapped(ipv4: u32) -> [u64; 2] {
    [0, u64::from(ipv4) << 32 | 0xffff_0000]
}

impl Ends {
    /// Of a datagram of UDP.
    #[inline(always)]
    pub(crate) fn of_udp(packet: &impl Packet) -> Option<Self> {
        Self::of::<{ sock::IPPROTO_UDP }>(packet)
    }

    /// Of a packet of this protocol, which has the ports first.
    #[inline(always)]
    pub(crate) fn of<const PROTOCOL: u16>(packet: &impl Packet) -> Option<Self> {
        let header: Ipv4 = packet.load(0)?;
        if header.version >> 4 == 4 {
            let headers = u32::from(header.version & 15) * 4;
            let ports = if headers == 20 {
                header.ports
            } else {
                packet.load(headers)?
            };
            return Some(Self {
                source: mapped(header.source),
                destination: mapped(header.destination),
                source_port: u16::from_be(ports[0]),
                destination_port: u16::from_be(ports[1]),
                headers,
            });
        }
        let header: Ipv6 = packet.load(0)?;
        let (headers, ports) = if u16::from(header.next) == PROTOCOL {
            (IPV6_HEADER, header.ports)
        } else {
            let transport = packet.transport()?;
            (transport, packet.load(transport)?)
        };
        Some(Self {
            source: header.source,
            destination: header.destination,
            source_port: u16::from_be(ports[0]),
            destination_port: u16::from_be(ports[1]),
            headers,
        })
    }

    /// Of what IP carries for a protocol without ports. The version is the kernel's word: who writes the header
    /// himself may write another one.
    #[inline(always)]
    pub(crate) fn without_ports(packet: &impl Packet, is_ipv4: bool) -> Option<Self> {
        let (source, destination, headers) = if is_ipv4 {
            let (version, ends): (u8, [u32; 2]) = (packet.load(0)?, packet.load(IPV4_SOURCE)?);
            let headers = u32::from(version & 15) * 4;
            (mapped(ends[0]), mapped(ends[1]), headers)
        } else {
            let ends: [[u64; 2]; 2] = packet.load(IPV6_SOURCE)?;
            (ends[0], ends[1], IPV6_HEADER)
        };
        Some(Self {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            headers,
        })
    }

    /// Of what is about to be sent, by its `struct flowi4`.
    #[inline(always)]
    pub(crate) fn of_flow4(flow: impl Source) -> Option<Self> {
        let source = mapped(flow.load(layout!(flow4_source))?);
        let destination = mapped(flow.load(layout!(flow4_destination))?);
        Some(Self::gathered(source, destination))
    }

    /// Of what has gathered in a socket for IPv6.
    #[inline(always)]
    pub(crate) fn of_corked6(inet: impl Source) -> Option<Self> {
        let source = inet.load(layout!(inet_cork_source6))?;
        let destination = inet.load(layout!(inet_cork_destination6))?;
        Some(Self::gathered(source, destination))
    }

    /// Before there are headers.
    #[inline(always)]
    fn gathered(source: [u64; 2], destination: [u64; 2]) -> Self {
        Self {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            headers: 0,
        }
    }

    /// Fills in both ends as `socket` sees them.
    #[inline(always)]
    pub(crate) fn fill(
        &self,
        socket: impl Source,
        received: bool,
        to: *mut Endpoints,
    ) -> Option<()> {
        let net = socket.follow(layout!(sock_net))?;
        let source = (self.source, self.source_port);
        let destination = (self.destination, self.destination_port);
        let (local, remote) = if received {
            (destination, source)
        } else {
            (source, destination)
        };
        // SAFETY: `to` points to a reserved record.
        unsafe {
            (*to).family = sock::AF_INET6;
            (*to).local_port = local.1;
            (*to).remote_port = remote.1;
            (*to).state = 0;
            (*to).padding = 0;
            (*to).netns = net.load(layout!(net_inum))?;
            (*to).padding2 = 0;
            (&raw mut (*to).local).cast::<[u64; 2]>().write(local.0);
            (&raw mut (*to).remote).cast::<[u64; 2]>().write(remote.0);
        }
        Some(())
    }
}

/// Whether it is still in its socket's queue, which then refers to it as well as whoever only peeks.
#[inline(always)]
pub(crate) fn is_queued(skb: impl Source) -> bool {
    skb.load::<u32>(layout!(skb_users)) != Some(1)
}

/// The payload of each datagram that this is on the wire, in bytes; 0 if it is but one. What segmentation cuts, or
/// has put together, has its payload in pages or buffers of its own.
#[inline(always)]
pub(crate) fn segment(skb: impl Source) -> Option<u16> {
    if skb.load::<u32>(layout!(skb_data_len))? == 0 {
        return Some(0);
    }
    read_remote(shared(skb)?.wrapping_add(layout!(shinfo_gso_size) as usize))
}

/// Its `struct skb_shared_info`.
#[inline(always)]
fn shared(skb: impl Source) -> Option<*const u8> {
    let head: *const u8 = skb.load(layout!(skb_head))?;
    let end: u32 = skb.load(layout!(skb_end))?;
    Some(head.wrapping_add(end as usize))
}
