//! What the kernel programs count of datagrams.
//!
//! In: the maps `FLOWS` and `UNCOUNTED`. Out: totals of flows as they are asked for, and how many datagrams
//! belong to flows for which there was no room.

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray},
};

use super::losses::take_map;
use crate::{
    connection::flows::Question,
    event::{BootTime, FlowTotals},
    observation::{Loss, LossUnit},
};

/// As `tracer_common::record::FlowTotals` lies in memory.
type RawTotals = [u64; 5];

/// The maps.
pub struct Flows {
    totals: HashMap<MapData, [u64; 4], RawTotals>,
    uncounted: PerCpuArray<MapData, u64>,
    reported: u64,
}

impl Flows {
    /// Takes the maps out of `ebpf`.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            totals: HashMap::try_from(take_map(ebpf, "FLOWS")?)?,
            uncounted: PerCpuArray::try_from(take_map(ebpf, "UNCOUNTED")?)?,
            reported: 0,
        })
    }

    /// The totals that a question asks for; `None` if there are none.
    pub fn answer(&mut self, question: Question) -> Option<FlowTotals> {
        let key = question.key.0;
        let totals = self.totals.get(&key, 0).ok().map(totals);
        if question.last {
            // It was there just now, or never was.
            let _ = self.totals.remove(&key);
        }
        totals
    }

    /// Datagrams that were not counted since the last call.
    pub fn uncounted(&mut self) -> Result<Loss, MapError> {
        let total = self.uncounted.get(&0, 0)?.iter().sum();
        let count = total - std::mem::replace(&mut self.reported, total);
        Ok(Loss {
            stage: "map",
            kind: "flow",
            unit: LossUnit::Packet,
            count,
        })
    }
}

fn totals(
    [
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
        last_ns,
    ]: RawTotals,
) -> FlowTotals {
    FlowTotals {
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
        last: BootTime(last_ns),
    }
}
