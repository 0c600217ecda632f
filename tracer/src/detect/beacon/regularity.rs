//! Whether times are regular, by statistics that a few odd ones do not move.
//!
//! In: the intervals between contacts. Out: their period, how far they stray from it, and how many contacts are
//! missing. An interval of about twice the period is one with a contact missing, and so on.

/// What intervals have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Regularity {
    /// The usual interval, in milliseconds.
    pub(super) period_ms: f64,
    /// Median of the deviations from it, as a share of it.
    pub(super) deviation: f64,
    /// The deviation that four of five intervals stay below, as a share of the period.
    pub(super) wide_deviation: f64,
    /// Bowley's skewness of the intervals, from -1 to 1: of a timer's near 0.
    pub(super) skewness: f64,
    /// The share of contacts that are missing.
    pub(super) missing: f64,
}

/// How far intervals may stray. Few of them are regular by chance, so that less is asked of many.
struct Bounds {
    intervals: usize,
    deviation: f64,
    wide_deviation: f64,
}

/// Chosen on generated intervals: see `cargo test beacon` and BENCHMARKS.md.
const BOUNDS: [Bounds; 3] = [
    Bounds {
        intervals: 18,
        deviation: 0.15,
        wide_deviation: 0.24,
    },
    Bounds {
        intervals: 12,
        deviation: 0.12,
        wide_deviation: 0.20,
    },
    Bounds {
        intervals: 0,
        deviation: 0.10,
        wide_deviation: 0.17,
    },
];

/// So many contacts may be missing, as a share.
const MISSING_MAX: f64 = 0.35;

impl Regularity {
    /// Of at least one interval, in milliseconds.
    pub(super) fn of(intervals: &[u32]) -> Self {
        let mut single: Vec<f64> = intervals
            .iter()
            .map(|&interval| f64::from(interval))
            .collect();
        single.sort_by(f64::total_cmp);
        let mut period = quantile(&single, 0.5).max(1.0);
        let mut contacts = single.len() as f64;
        // Once more, since intervals with a contact missing have moved the median.
        for _ in 0..2 {
            contacts = 0.0;
            for (interval, single) in intervals.iter().zip(&mut single) {
                let periods = (f64::from(*interval) / period).round().max(1.0);
                contacts += periods;
                *single = f64::from(*interval) / periods;
            }
            single.sort_by(f64::total_cmp);
            period = quantile(&single, 0.5).max(1.0);
        }
        let [lower, middle, upper] = [0.25, 0.5, 0.75].map(|at| quantile(&single, at));
        let mut deviations: Vec<f64> = single
            .iter()
            .map(|single| (single - period).abs() / period)
            .collect();
        deviations.sort_by(f64::total_cmp);
        let spread = upper - lower;
        Self {
            period_ms: period,
            deviation: quantile(&deviations, 0.5),
            wide_deviation: quantile(&deviations, 0.8),
            skewness: if spread > 0.0 {
                (upper + lower - 2.0 * middle) / spread
            } else {
                0.0
            },
            missing: 1.0 - intervals.len() as f64 / contacts,
        }
    }

    /// Whether a timer made so many intervals, rather than chance.
    pub(super) fn is_timer(&self, intervals: usize) -> bool {
        let bounds = BOUNDS.iter().find(|bounds| intervals >= bounds.intervals);
        bounds.is_some_and(|bounds| {
            self.deviation <= bounds.deviation
                && self.wide_deviation <= bounds.wide_deviation
                && self.missing <= MISSING_MAX
        })
    }

    /// From 0 (as irregular as is still told) to 1 (to the millisecond).
    pub(super) fn score(&self) -> f64 {
        let strayed = self.wide_deviation.max(self.deviation) + self.missing / 2.0;
        (1.0 - strayed - self.skewness.abs() / 20.0).clamp(0.0, 1.0)
    }
}

/// Of sorted values, at least one.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let index = (at * (sorted.len() - 1) as f64).round() as usize;
    sorted[index.min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_has_its_period_and_no_deviation() {
        let regularity = Regularity::of(&[60_000; 7]);
        assert_eq!(regularity.period_ms, 60_000.0);
        assert_eq!(
            (
                regularity.deviation,
                regularity.missing,
                regularity.skewness
            ),
            (0.0, 0.0, 0.0)
        );
        assert!(regularity.is_timer(7));
        assert_eq!(regularity.score(), 1.0);
    }

    #[test]
    fn an_interval_of_two_periods_is_a_contact_that_is_missing() {
        let regularity = Regularity::of(&[100, 101, 199, 100, 99, 100, 301]);
        assert!((99.0..102.0).contains(&regularity.period_ms));
        assert!(regularity.is_timer(7));
        let missing = 3.0 / 10.0;
        assert!((regularity.missing - missing).abs() < 1e-9);
    }

    #[test]
    fn intervals_that_differ_are_no_timer() {
        let regularity = Regularity::of(&[10, 400, 90, 1_500, 33, 700, 120]);
        assert!(!regularity.is_timer(7));
    }

    #[test]
    fn intervals_of_no_length_are_no_division_by_zero() {
        let regularity = Regularity::of(&[0; 7]);
        assert!(regularity.period_ms.is_finite() && regularity.score().is_finite());
    }
}
