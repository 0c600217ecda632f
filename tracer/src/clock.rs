//! The kernel's clock made readable.
//!
//! In: nanoseconds of `CLOCK_BOOTTIME` and how far the wall clock is ahead of them. Out: RFC 3339 in
//! UTC with nanoseconds, for every event, so without allocation: the text up to the second is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use rustix::time::{ClockId, clock_gettime};

use crate::event::BootTime;

const NANOSECONDS: i64 = 1_000_000_000;

/// Nanoseconds by which two measurements of the same offset may differ. Adjusting the clock's rate does
/// not change the offset, since it changes both clocks.
const TOLERANCE: u64 = 100_000;

/// The kernel's clock now.
pub fn boot_time() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    BootTime((time.tv_sec * NANOSECONDS + time.tv_nsec).unsigned_abs())
}

/// How far the wall clock is ahead of `CLOCK_BOOTTIME`. Shared: the run loop renews it now and then,
/// so that the times follow when the wall clock is set.
#[derive(Clone, Debug)]
pub struct WallOffset(Arc<AtomicI64>);

impl WallOffset {
    /// A fixed offset, in nanoseconds.
    pub fn new(nanoseconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(nanoseconds)))
    }

    /// The offset as it is now.
    pub fn measure() -> Self {
        Self::new(measured_offset())
    }

    /// Follows the wall clock if it has been set, for everyone who shares this offset.
    pub fn renew(&self) {
        self.follow(measured_offset());
    }

    /// Takes over an offset that was recorded, in nanoseconds.
    pub fn set(&self, nanoseconds: i64) {
        self.0.store(nanoseconds, Ordering::Relaxed);
    }

    /// Takes over a measured offset, unless it differs by no more than measuring does: one moment is
    /// told with one time, whenever it is told.
    fn follow(&self, measured: i64) {
        if measured.abs_diff(self.0.load(Ordering::Relaxed)) > TOLERANCE {
            self.0.store(measured, Ordering::Relaxed);
        }
    }

    /// A time of the kernel as nanoseconds since 1970.
    pub fn unix_nanoseconds(&self, time: BootTime) -> i64 {
        i64::try_from(time.0)
            .unwrap_or(i64::MAX)
            .saturating_add(self.0.load(Ordering::Relaxed))
    }
}

/// The wall clock is read between two reads of the other, whose middle is then the same moment. The
/// closest of some counts: in between, the processor may be given to somebody else.
fn measured_offset() -> i64 {
    let read = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * NANOSECONDS + time.tv_nsec
    };
    let measured = std::array::from_fn::<_, 3, _>(|_| {
        let before = read(ClockId::Boottime);
        let wall = read(ClockId::Realtime);
        let took = read(ClockId::Boottime) - before;
        (took, wall - (before + took / 2))
    });
    let [first, rest @ ..] = measured;
    rest.into_iter().fold(first, Ord::min).1
}

/// Renders times as `2026-11-21T20:30:01.123456789Z`.
#[derive(Clone)]
pub struct UtcClock {
    offset: WallOffset,
    second: i64,
    text: [u8; UtcClock::LENGTH],
}

impl UtcClock {
    /// Length of every time, in bytes.
    pub const LENGTH: usize = 30;

    /// A clock that follows `offset`.
    pub fn new(offset: WallOffset) -> Self {
        Self {
            offset,
            second: i64::MIN,
            text: *b"1970-01-01T00:00:00.000000000Z",
        }
    }

    /// The time as text.
    pub fn render(&mut self, time: BootTime) -> &[u8; Self::LENGTH] {
        self.render_unix(self.offset.unix_nanoseconds(time))
    }

    /// A time in nanoseconds since 1970 as text; one that no calendar knows as 1970.
    pub fn render_unix(&mut self, unix: i64) -> &[u8; Self::LENGTH] {
        let second = unix.div_euclid(NANOSECONDS);
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(second).unwrap_or_default();
            let time = Offset::UTC.to_datetime(time);
            for (place, value) in [
                (0..4, i64::from(time.year())),
                (5..7, i64::from(time.month())),
                (8..10, i64::from(time.day())),
                (11..13, i64::from(time.hour())),
                (14..16, i64::from(time.minute())),
                (17..19, i64::from(time.second())),
            ] {
                write_digits(&mut self.text[place], value);
            }
        }
        write_digits(&mut self.text[20..29], unix.rem_euclid(NANOSECONDS));
        &self.text
    }
}

/// Renders times of day as `20:30:01.123`, for people.
#[derive(Clone)]
pub struct DayClock {
    offset: WallOffset,
    zone: TimeZone,
    second: i64,
    text: [u8; DayClock::LENGTH],
}

impl DayClock {
    /// Length of every time, in bytes.
    pub const LENGTH: usize = 12;

    /// A clock that follows `offset` and shows the time of day in `zone`.
    pub fn new(offset: WallOffset, zone: TimeZone) -> Self {
        Self {
            offset,
            zone,
            second: i64::MIN,
            text: *b"00:00:00.000",
        }
    }

    /// The time of day as text.
    pub fn render(&mut self, time: BootTime) -> &[u8; Self::LENGTH] {
        let unix = self.offset.unix_nanoseconds(time);
        let second = unix.div_euclid(NANOSECONDS);
        if second != self.second {
            self.second = second;
            let local = self
                .zone
                .to_datetime(Timestamp::from_second(second).unwrap_or_default());
            write_digits(&mut self.text[..2], i64::from(local.hour()));
            write_digits(&mut self.text[3..5], i64::from(local.minute()));
            write_digits(&mut self.text[6..8], i64::from(local.second()));
        }
        write_digits(
            &mut self.text[9..],
            unix.rem_euclid(NANOSECONDS) / 1_000_000,
        );
        &self.text
    }
}

/// `00` to `99`.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// Fills `field` with the decimal digits of `value`, zeros first.
fn write_digits(field: &mut [u8], value: i64) {
    let mut rest = u32::try_from(value).unwrap_or_default();
    // Two at a time, the odd one first.
    let (first, pairs) = field.as_rchunks_mut();
    for pair in pairs.iter_mut().rev() {
        *pair = DIGIT_PAIRS[(rest % 100) as usize];
        rest /= 100;
    }
    for digit in first {
        *digit = b'0' + (rest % 10) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T20:30:00Z.
    const BASE: i64 = 1_795_293_000 * NANOSECONDS;

    fn utc(clock: &mut UtcClock, nanoseconds: u64) -> String {
        String::from_utf8_lossy(clock.render(BootTime(nanoseconds))).into_owned()
    }

    #[test]
    fn only_a_clock_that_was_set_changes_the_offset() {
        let offset = WallOffset::new(1_000_000);
        offset.follow(1_000_000 + TOLERANCE.cast_signed());
        assert_eq!(offset.unix_nanoseconds(BootTime(0)), 1_000_000);
        offset.follow(999_999 - TOLERANCE.cast_signed());
        assert_eq!(
            offset.unix_nanoseconds(BootTime(0)),
            999_999 - TOLERANCE.cast_signed()
        );
    }

    #[test]
    fn a_time_is_rfc_3339_with_nanoseconds() {
        let mut clock = UtcClock::new(WallOffset::new(BASE));
        assert_eq!(
            utc(&mut clock, 1_123_456_789),
            "2026-11-21T20:30:01.123456789Z"
        );
        assert_eq!(
            utc(&mut clock, 1_000_000_001),
            "2026-11-21T20:30:01.000000001Z"
        );
        assert_eq!(
            utc(&mut clock, 2_000_000_000),
            "2026-11-21T20:30:02.000000000Z"
        );
        assert_eq!(
            utc(&mut clock, 999_999_999),
            "2026-11-21T20:30:00.999999999Z"
        );
    }

    #[test]
    fn a_clock_follows_the_wall_clock_when_that_is_set() {
        let offset = WallOffset::new(BASE);
        let mut clock = UtcClock::new(offset.clone());
        assert_eq!(utc(&mut clock, 0), "2026-11-21T20:30:00.000000000Z");
        offset
            .0
            .store(BASE - 86_400 * NANOSECONDS, Ordering::Relaxed);
        assert_eq!(utc(&mut clock, 0), "2026-11-20T20:30:00.000000000Z");
    }

    #[test]
    fn the_measured_offset_leads_to_the_present_time() {
        let offset = WallOffset::measure();
        let now = clock_gettime(ClockId::Boottime);
        let boot = BootTime((now.tv_sec * NANOSECONDS + now.tv_nsec) as u64);
        let difference =
            i128::from(offset.unix_nanoseconds(boot)) - Timestamp::now().as_nanosecond();
        assert!(difference.abs() < 1_000_000_000, "{difference} ns");
    }

    #[test]
    fn the_time_of_day_is_in_the_zone_asked_for() {
        let mut clock = DayClock::new(WallOffset::new(BASE), TimeZone::UTC);
        assert_eq!(clock.render(BootTime(1_123_456_789)), b"20:30:01.123");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let mut clock = DayClock::new(WallOffset::new(BASE), zone);
        assert_eq!(clock.render(BootTime(1_123_456_789)), b"22:30:01.123");
    }
}
