//! The numbers that stand for words in a file of the history, and the way back.
//!
//! In: values of the domain. Out: their place in a list, which never changes: new values come last.

use crate::detect::rule::Severity;
use crate::dns::Flags;
use crate::dns::names::KnownFrom;
use crate::event::{RawFamily, RawType};
use crate::observation::{ConnState, Direction, FlowStage, LossUnit, Opening};
use crate::process::cause::Certainty;
use crate::process::content::PackageKind;
use crate::process::image::Provenance;

/// Values in the order of their numbers.
pub(crate) trait Coded: Copy + PartialEq + 'static {
    const VALUES: &'static [Self];

    fn code(self) -> i64 {
        let place = Self::VALUES.iter().position(|&value| value == self);
        place.map_or(-1, |place| place as i64)
    }

    fn of_code(code: i64) -> Option<Self> {
        Self::VALUES.get(usize::try_from(code).ok()?).copied()
    }
}

macro_rules! coded {
    ($($type:ident: $($value:ident)+;)+) => {$(
        impl Coded for $type {
            const VALUES: &'static [Self] = &[$(Self::$value),+];
        }
    )+};
}

coded! {
    Direction: Egress Ingress Unknown;
    ConnState: SF S0 REJ S1 RSTO RSTR OTH;
    Provenance: Kernel Procfs Inferred Unknown;
    Opening: Connect Accept AcceptExit PeerName ConnectError Attempt State Inventory DatagramSent
        DatagramReceived PacketSent PacketWritten PacketReceived;
    KnownFrom: Process Container Host ClientHello;
    Certainty: Likely Possible;
    FlowStage: Start Info End;
    LossUnit: Record Event Packet;
    PackageKind: Deb Rpm;
    RawFamily: Ipv4 Ipv6 Packet;
    RawType: Raw Datagram Packet;
    Severity: Low Medium High;
}

/// In place of the row of a cause: there is none, although there is one of the process.
pub(super) const NO_CAUSE: i64 = 0;

/// Several yes or no in one number, the first in its lowest bit.
pub(super) fn bits<const N: usize>(flags: [bool; N]) -> i64 {
    let bits = flags.iter().enumerate();
    bits.fold(0, |bits, (place, &flag)| bits | i64::from(flag) << place)
}

/// The way back.
pub(super) fn flags<const N: usize>(bits: i64) -> [bool; N] {
    std::array::from_fn(|place| bits >> place & 1 == 1)
}

/// The header of a message.
pub(super) fn of_header(header: Flags) -> i64 {
    bits([
        header.authoritative,
        header.truncated,
        header.recursion_desired,
        header.recursion_available,
        header.authentic_data,
        header.checking_disabled,
    ])
}

/// The way back.
pub(super) fn header(bits: i64) -> Flags {
    let [
        authoritative,
        truncated,
        recursion_desired,
        recursion_available,
        authentic_data,
        checking_disabled,
    ] = flags(bits);
    Flags {
        authoritative,
        truncated,
        recursion_desired,
        recursion_available,
        authentic_data,
        checking_disabled,
    }
}

/// An expression of SQL that turns a number into its word.
pub(super) fn words<T: Coded>(column: &str, word: impl Fn(T) -> &'static str) -> String {
    let mut cases = String::new();
    for &value in T::VALUES {
        cases += &format!(" WHEN {} THEN '{}'", value.code(), word(value));
    }
    format!("CASE {column}{cases} END")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_its_number() {
        for &state in ConnState::VALUES {
            assert_eq!(ConnState::of_code(state.code()), Some(state));
        }
        for direction in Direction::ALL {
            assert_eq!(Direction::of_code(direction.code()), Some(direction));
        }
        assert_eq!(ConnState::of_code(99), None);
        assert_eq!(ConnState::of_code(-1), None);
    }

    #[test]
    fn flags_keep_their_places() {
        let bits = bits([true, false, true]);
        assert_eq!(bits, 5);
        assert_eq!(flags(bits), [true, false, true]);
    }
}
