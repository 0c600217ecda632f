//! Bytes carried, counted while connections are open and when they end, each byte once.
//!
//! In: samples of open connections, and final totals. Out: what to add to the counters, never less
//! than nothing.

use hashbrown::HashMap;

use crate::event::Totals;
use crate::observation::ConnectionId;

/// Payload in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// What has been counted of connections that are still open.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    counted: HashMap<ConnectionId, Counted>,
    /// Number of the last sample.
    sample: u32,
}

/// What has been counted of one connection.
#[derive(Debug, Default)]
struct Counted {
    bytes: Bytes,
    /// The last sample that had it.
    sample: u32,
}

impl Transfer {
    /// Takes a sample of **all** open connections; `None` where totals could not be read this time.
    /// A connection that is not in it is forgotten.
    pub(super) fn sample(
        &mut self,
        open: impl IntoIterator<Item = (ConnectionId, Option<Totals>)>,
    ) -> Bytes {
        let mut new = Bytes::default();
        self.sample = self.sample.wrapping_add(1);
        for (id, totals) in open {
            let counted = self.counted.entry(id).or_default();
            counted.sample = self.sample;
            if let Some(totals) = totals {
                counted.bytes = new.add(counted.bytes, totals);
            }
        }
        self.counted
            .retain(|_, counted| counted.sample == self.sample);
        new
    }

    /// A connection was found: what it has carried so far is not to be counted.
    pub(super) fn begin(&mut self, id: ConnectionId, totals: Totals) {
        let bytes = Bytes::default().add(Bytes::default(), totals);
        let sample = self.sample;
        self.counted.insert(id, Counted { bytes, sample });
    }

    /// Takes the final totals of a connection.
    pub(super) fn close(&mut self, id: ConnectionId, totals: Option<Totals>) -> Bytes {
        let mut new = Bytes::default();
        // Without samples the map is empty, and need not be asked.
        let counted = if self.counted.is_empty() {
            None
        } else {
            self.counted.remove(&id)
        };
        if let Some(totals) = totals {
            new.add(counted.unwrap_or_default().bytes, totals);
        }
        new
    }
}

impl Bytes {
    /// Adds what `totals` has more than `before`; returns what is counted then.
    fn add(&mut self, before: Bytes, totals: Totals) -> Bytes {
        self.sent += totals.sent.saturating_sub(before.sent);
        self.received += totals.received.saturating_sub(before.received);
        Bytes {
            sent: totals.sent.max(before.sent),
            received: totals.received.max(before.received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(serial: u32) -> ConnectionId {
        ConnectionId {
            first_seen_ns: 1,
            serial,
        }
    }

    fn totals(sent: u64, received: u64) -> Option<Totals> {
        Some(Totals {
            sent,
            received,
            ..Totals::default()
        })
    }

    #[test]
    fn what_a_connection_carried_before_it_was_found_is_not_counted() {
        let mut transfer = Transfer::default();
        transfer.begin(id(1), totals(1_000, 2_000).unwrap());
        let new = transfer.close(id(1), totals(1_003, 2_000));
        let expected = Bytes {
            sent: 3,
            received: 0,
        };
        assert_eq!(new, expected);
    }

    #[test]
    fn samples_and_final_totals_count_each_byte_once() {
        let mut transfer = Transfer::default();
        assert_eq!(
            transfer.sample([(id(1), totals(10, 0))]),
            Bytes {
                sent: 10,
                received: 0
            }
        );
        let open = [(id(1), totals(15, 7)), (id(2), totals(1, 1))];
        assert_eq!(
            transfer.sample(open),
            Bytes {
                sent: 6,
                received: 8
            }
        );
        assert_eq!(
            transfer.close(id(1), totals(20, 7)),
            Bytes {
                sent: 5,
                received: 0
            }
        );
        assert_eq!(
            transfer.close(id(3), totals(3, 4)),
            Bytes {
                sent: 3,
                received: 4
            }
        );
        assert_eq!(transfer.close(id(2), None), Bytes::default());
    }

    #[test]
    fn a_sample_that_could_not_be_read_or_goes_back_changes_nothing() {
        let mut transfer = Transfer::default();
        transfer.sample([(id(1), totals(10, 10))]);
        assert_eq!(transfer.sample([(id(1), None)]), Bytes::default());
        assert_eq!(transfer.sample([(id(1), totals(9, 10))]), Bytes::default());
        assert_eq!(
            transfer.close(id(1), totals(11, 10)),
            Bytes {
                sent: 1,
                received: 0
            }
        );
    }

    #[test]
    fn what_is_no_longer_open_is_forgotten() {
        let mut transfer = Transfer::default();
        transfer.sample([(id(1), totals(1, 1)), (id(2), totals(1, 1))]);
        transfer.sample([(id(2), totals(1, 1))]);
        assert_eq!(transfer.counted.len(), 1);
    }
}
