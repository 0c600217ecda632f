//! Datagrams, counted by socket and peer.
//!
//! A million datagrams are not a million records: they are added up in a map, and only the first one between
//! a socket and a peer is told. User space reads the totals when it wants them, and removes them. A socket's
//! address is used again after its close; so the key has a generation, which changes with each close.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use tracer_common::record::{
    DatagramClose, Endpoints, FLOW_NO_TASK, FLOW_OWN_HEADER, FLOW_RECEIVED, Flow, FlowKey,
    FlowTotals, kind,
};

use crate::{
    kernel::{number, skb::Ends, task},
    ring,
};

/// Flows that are counted at a time, made room for in advance: 128 bytes each.
const FLOWS_MAX: u32 = 32_768;

/// Sockets share these, so that a flow may be told a second time after another socket's close.
const GENERATIONS_MAX: u32 = 65_536;

#[map]
static FLOWS: HashMap<FlowKey, FlowTotals> = HashMap::with_max_entries(FLOWS_MAX, 0);

#[map]
static GENERATIONS: Array<u64> = Array::with_max_entries(GENERATIONS_MAX, 0);

/// Datagrams of flows for which there was no room.
#[map]
static UNCOUNTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// One datagram, or several that segmentation has put together.
#[derive(Clone, Copy)]
pub(crate) struct Datagram {
    /// What is counted.
    pub(crate) key: FlowKey,
    /// Whether it came, rather than being sent.
    pub(crate) received: bool,
    /// Payload in bytes.
    pub(crate) bytes: u64,
    /// Payload of each that it is on the wire, in bytes; 0 if it is but one.
    pub(crate) segment: u16,
    /// Whether the process wrote its IP header.
    pub(crate) own_header: bool,
}

impl Datagram {
    /// One datagram between `socket` and the far one of `ends`.
    #[inline(always)]
    pub(crate) fn new(socket: u64, protocol: u16, received: bool, ends: &Ends, bytes: u64) -> Self {
        let (peer, peer_port) = if received {
            (ends.source, ends.source_port)
        } else {
            (ends.destination, ends.destination_port)
        };
        Self {
            key: FlowKey {
                socket,
                peer,
                peer_port,
                protocol,
                generation: current_generation(socket),
            },
            received,
            bytes,
            segment: 0,
            own_header: false,
        }
    }

    /// How many it is on the wire.
    #[inline(always)]
    fn packets(&self) -> u64 {
        if self.segment == 0 {
            1
        } else {
            self.bytes.div_ceil(self.segment.into())
        }
    }
}

/// The generation of the sockets that share this one's.
#[inline(always)]
fn generation(socket: u64) -> Option<*mut u64> {
    let slot = socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    GENERATIONS.get_ptr_mut(slot as u32 % GENERATIONS_MAX)
}

/// What [`FlowKey::generation`] is now.
#[inline(always)]
pub(crate) fn current_generation(socket: u64) -> u32 {
    // SAFETY: a value of an array, which lives as long as the map.
    generation(socket).map_or(0, |generation| unsafe { generation.read_volatile() } as u32)
}

/// From now on a socket at this address is another one.
#[inline(always)]
pub(crate) fn next_generation(socket: u64) {
    if let Some(generation) = generation(socket) {
        // SAFETY: as above.
        unsafe { add(generation, 1) };
    }
}

/// Adds to a number that other CPUs add to as well.
///
/// # Safety
/// `to` must point into a value of a map.
#[inline(always)]
unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: by the caller's promise. Not fetching, which 5.10 does not know.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) value);
    }
}

/// Counts a datagram, and tells of it if it is the first between its socket and its peer.
#[inline(always)]
pub(crate) fn count(
    datagram: &Datagram,
    owner: Owner,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if let Some(totals) = FLOWS.get_ptr_mut(&datagram.key) {
        // SAFETY: a value of the map.
        unsafe { add_to(totals, datagram, now) };
        return;
    }
    begin(datagram, owner, now, fill);
}

/// Who is told with the first datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The current task, which sends or receives.
    Current,
    /// Nobody: the current task is a stranger.
    Unknown,
}

#[inline(always)]
fn begin(
    datagram: &Datagram,
    owner: Owner,
    now: u64,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) {
    let mut totals = FlowTotals {
        sent_packets: 0,
        sent_bytes: 0,
        received_packets: 0,
        received_bytes: 0,
        last_ns: now,
    };
    if datagram.received {
        (totals.received_packets, totals.received_bytes) = (datagram.packets(), datagram.bytes);
    } else {
        (totals.sent_packets, totals.sent_bytes) = (datagram.packets(), datagram.bytes);
    }
    if FLOWS
        .insert(datagram.key, totals, BPF_NOEXIST.into())
        .is_err()
    {
        // Another CPU was faster, or there is no room.
        match FLOWS.get_ptr_mut(&datagram.key) {
            // SAFETY: a value of the map.
            Some(totals) => unsafe { add_to(totals, datagram, now) },
            None => uncounted(datagram.packets()),
        }
        return;
    }
    if !tell(datagram, owner, fill) {
        // Whoever comes next tries again.
        let _ = FLOWS.remove(&datagram.key);
        uncounted(datagram.packets());
    }
}

/// Whether the record was submitted.
#[inline(always)]
fn tell(
    datagram: &Datagram,
    owner: Owner,
    fill: impl FnOnce(*mut Endpoints) -> Option<()>,
) -> bool {
    let direction = if datagram.received { FLOW_RECEIVED } else { 0 };
    let known = if owner == Owner::Current {
        0
    } else {
        FLOW_NO_TASK
    };
    let written = if datagram.own_header {
        FLOW_OWN_HEADER
    } else {
        0
    };
    let mut told = false;
    ring::submit(
        kind::FLOW,
        direction | known | written,
        |record: *mut Flow| {
            // SAFETY: a reserved record.
            unsafe {
                (*record).key = datagram.key;
                match owner {
                    Owner::Current => task::fill_current(&raw mut (*record).task)?,
                    Owner::Unknown => (&raw mut (*record).task).cast::<[u64; 7]>().write([0; 7]),
                }
                fill(&raw mut (*record).endpoints)?;
                (*record).bytes = datagram.bytes;
                (*record).packets = datagram.packets() as u32;
                (*record).padding = 0;
            }
            told = true;
            Some(())
        },
    );
    told
}

/// # Safety
/// `totals` must point to a value of the map.
#[inline(always)]
unsafe fn add_to(totals: *mut FlowTotals, datagram: &Datagram, now: u64) {
    // SAFETY: by the caller's promise. The time is a plain write: whichever CPU is last, it is nearly now.
    unsafe {
        if datagram.received {
            add(&raw mut (*totals).received_packets, datagram.packets());
            add(&raw mut (*totals).received_bytes, datagram.bytes);
        } else {
            add(&raw mut (*totals).sent_packets, datagram.packets());
            add(&raw mut (*totals).sent_bytes, datagram.bytes);
        }
        (&raw mut (*totals).last_ns).write_volatile(now);
    }
}

#[inline(always)]
fn uncounted(packets: u64) {
    if let Some(counter) = UNCOUNTED.get_ptr_mut(0) {
        // SAFETY: a value of the map; a softirq may interrupt this program.
        unsafe { add(counter, packets) };
    }
}

/// Tells that a socket is closed.
#[inline(always)]
pub(crate) fn closed(socket: *const u8) {
    let socket = number(socket);
    ring::submit(kind::DATAGRAM_CLOSE, 0, |record: *mut DatagramClose| {
        // SAFETY: a reserved record.
        unsafe { (*record).socket = socket };
        Some(())
    });
    next_generation(socket);
}
