//! Times as people give them: from when until when to look.
//!
//! In: `10m`, `1d`, `20:30`, `2026-11-21 20:30`, `2026-11-21T20:30:01Z`. Out: nanoseconds since 1970.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};

/// A time as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(SignedDuration),
    /// A time of day: the last one that was.
    Daily(Time),
    /// A date and perhaps a time, where the reader is.
    Civil(DateTime),
    /// A point in time.
    At(Timestamp),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse::<Span>() {
            let whole_days = SpanRelativeTo::days_are_24_hours();
            let duration = span.to_duration(whole_days);
            return match duration {
                Ok(duration) if !duration.is_negative() => Ok(Self::Ago(duration)),
                Ok(_) => Err("that is in the future".to_owned()),
                Err(_) => Err("months and years have no certain length: give days".to_owned()),
            };
        }
        if text == "now" {
            return Ok(Self::Ago(SignedDuration::ZERO));
        }
        // A date with a zone first: without, it would do as a date alone.
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::At(time));
        }
        let is_date = text.len() >= "2026-11-21".len();
        if is_date && let Ok(time) = text.parse::<DateTime>() {
            return Ok(Self::Civil(time));
        }
        if is_date && let Ok(date) = text.parse::<Date>() {
            return Ok(Self::Civil(date.to_datetime(Time::midnight())));
        }
        if text.contains(':')
            && let Ok(time) = text.parse::<Time>()
        {
            return Ok(Self::Daily(time));
        }
        Err(
            "not a time: neither so long ago (10m, 1d), nor a time of day (20:30), nor a date \
             (2026-11-21, 2026-11-21T20:30, 2026-11-21T20:30:00Z)"
                .to_owned(),
        )
    }
}

impl Moment {
    /// In nanoseconds since 1970, as seen at `now`.
    pub fn resolve(self, now: &Zoned) -> i64 {
        let nanoseconds = |time: Timestamp| {
            i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH {
                i64::MIN
            } else {
                i64::MAX
            })
        };
        let local = |time: DateTime, zone: &TimeZone| {
            zone.to_ambiguous_timestamp(time)
                .compatible()
                .unwrap_or_default()
        };
        match self {
            Self::At(time) => nanoseconds(time),
            Self::Ago(duration) => {
                let then = now.timestamp().saturating_sub(duration);
                nanoseconds(then.unwrap_or(Timestamp::MIN))
            }
            Self::Civil(time) => nanoseconds(local(time, now.time_zone())),
            Self::Daily(time) => {
                let today = now.date().to_datetime(time);
                let day = if today > now.datetime() {
                    now.date().yesterday().unwrap_or(now.date())
                } else {
                    now.date()
                };
                nanoseconds(local(day.to_datetime(time), now.time_zone()))
            }
        }
    }
}

/// From when until when, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first nanosecond.
    pub since: i64,
    /// The last one.
    pub until: i64,
}

impl Window {
    /// All times.
    pub const ALL: Self = Self {
        since: i64::MIN,
        until: i64::MAX,
    };

    /// Whether a time is in it.
    pub fn contains(&self, unix_ns: i64) -> bool {
        (self.since..=self.until).contains(&unix_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-21T20:30:00+01:00[+01:00]";

    fn resolved(text: &str) -> Timestamp {
        let now: Zoned = NOW.parse().unwrap();
        let moment: Moment = text.parse().unwrap();
        Timestamp::from_nanosecond(moment.resolve(&now).into()).unwrap()
    }

    #[test]
    fn a_time_may_be_told_in_many_ways() {
        for (text, expected) in [
            ("10m", "2026-11-21T19:20:00Z"),
            ("1d", "2026-11-20T19:30:00Z"),
            ("1h30m", "2026-11-21T18:00:00Z"),
            ("now", "2026-11-21T19:30:00Z"),
            ("20:00", "2026-11-21T19:00:00Z"),
            ("20:31", "2026-11-20T19:31:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("2026-11-21T20:00", "2026-11-21T19:00:00Z"),
            ("2026-11-21 20:00:01", "2026-11-21T19:00:01Z"),
            ("2026-11-21T20:00:01.5Z", "2026-11-21T20:00:01.5Z"),
        ] {
            assert_eq!(resolved(text), expected.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "soon", "-10m", "1 month", "2026-13-01", "25:00", "10"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
